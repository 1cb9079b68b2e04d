"""Why a packet was turned away, in words for whoever looks after the gate, and what to do about it.

A refusal with a ``story`` is of a sealed packet, any other one of fwknop's: with some reasons they have
other words.
"""

from __future__ import annotations

from knockgate.config.toml import spell
from knockgate.effects import KnockRefused
from knockgate.errors import Reason
from knockgate.model import address_text

__all__ = ["advice_on", "reason_in_words", "refusal_in_words", "step_of", "why_refused"]

_WORDS = {
    Reason.TRUNCATED: "it is cut off",
    Reason.NOT_IP: "it is no IP packet",
    Reason.BAD_HEADER: "its headers contradict themselves",
    Reason.FRAGMENT: "it is a fragment, and only whole packets are looked at",
    Reason.NO_PORTS: "it is of a protocol without ports",
    Reason.BAD_LENGTH: "no packet of this kind has its length",
    Reason.NOT_BASE64: "it is not in base64",
    Reason.NOT_OURS: "no key of ours has authenticated it",
    Reason.DUPLICATE: "it came before, to the byte",
    Reason.OVER_BUDGET: "more knocks came with its card than are opened in a second ([sealed] budget)",
    Reason.NOT_SEALED: "its HMAC is right, but it does not decrypt: the two sides have another KEY, or mode",
    Reason.BAD_DIGEST: "its HMAC is right, but what is inside was changed",
    Reason.MALFORMED: "its HMAC is right, but what is inside is not spelled as fwknop spells it",
    Reason.UNKNOWN_KEY: "nobody may come in with the SSH key that it names",
    Reason.BAD_SIGNATURE: "the SSH key that it names has not signed it for this gate",
    Reason.NO_TOUCH: "no token was touched for it, and one has to be",
    Reason.NOT_VERIFIED: "its token has not asked who touches it (a PIN, a finger), and has to",
    Reason.UNKNOWN_DEVICE: "its device is shut out",
    Reason.TOO_MANY_DEVICES: "its key has as many devices as are remembered ([sealed] devices), and none "
    "that can be forgotten",
    Reason.REPLAYED: "it was sent before",
    Reason.AHEAD: "it is dated ahead of us",
    Reason.OVER_PACE: "its key has knocked ten times, and more than once a second since",
    Reason.STALE: "it is too old",
    Reason.STORE_FULL: "no room to remember it (fwknop.remembered): the clock is not synchronised, or there "
    "are very many knocks",
    Reason.STORE_UNAVAILABLE: "it cannot be remembered",
    Reason.KEY_REVOKED: "the key is revoked",
    Reason.KEY_EXPIRED: "the key has expired",
    Reason.OUTSIDE_HOURS: "the key is good at other hours (hours)",
    Reason.CLOCK_UNKNOWN: "the key is good at some times only, and we do not know what time it is",
    Reason.SENDER_DENIED: "it comes from an address that the key does not knock from (senders)",
    Reason.USER_DENIED: "it bears another user name",
    Reason.TYPE_DENIED: "it asks for something else than to open ports",
    Reason.SOURCE_DENIED: "the key does not let that address in (sources)",
    Reason.UNSTATED_SOURCE: "it names no address, and the key has to (observed)",
    Reason.PORT_DENIED: "the key does not open that",
    Reason.DOOR_DENIED: "the key does not open that door",
    Reason.TOO_MANY_LEASES: "its key has as many leases as it may have",
}
#: Where a sealed packet is something else.
_SEALED = {
    Reason.NOT_OURS: "it was made with none of the cards that are good now",
    Reason.NOT_SEALED: "it was made with a card of ours, but is not sealed to this gate's key",
    Reason.MALFORMED: "it was made with a card of ours, but what is inside is no message of a client's",
    Reason.REPLAYED: "it is not newer than the newest knock of that device: it was sent before, or is late",
    Reason.SOURCE_DENIED: "the key does not let that address in (from= on its line, sources of [keys.NAME])",
    Reason.UNSTATED_SOURCE: "it names no address to let in, and the door wants one (observed)",
    Reason.DOOR_DENIED: "the key does not open that door (doors of [keys.NAME], doors= on its line)",
}
#: docs/spec/spa-v1.md, "The steps".
_STEPS = {
    Reason.NOT_OURS: 1,
    Reason.DUPLICATE: 2,
    Reason.OVER_BUDGET: 3,
    Reason.NOT_SEALED: 4,
    Reason.MALFORMED: 5,
    Reason.UNKNOWN_KEY: 6,
    Reason.BAD_SIGNATURE: 7,
    Reason.NO_TOUCH: 8,
    Reason.NOT_VERIFIED: 8,
    Reason.UNKNOWN_DEVICE: 9,
    Reason.TOO_MANY_DEVICES: 9,
    Reason.REPLAYED: 10,
    Reason.AHEAD: 11,
    Reason.OVER_PACE: 12,
    Reason.STORE_UNAVAILABLE: 12,
    Reason.STALE: 13,
    Reason.KEY_REVOKED: 14,
    Reason.KEY_EXPIRED: 14,
    Reason.OUTSIDE_HOURS: 14,
    Reason.CLOCK_UNKNOWN: 14,
    Reason.SOURCE_DENIED: 14,
    Reason.DOOR_DENIED: 14,
    Reason.UNSTATED_SOURCE: 14,
    Reason.TOO_MANY_LEASES: 15,
}
_CLOCKS = "compare both clocks: `timedatectl` says what keeps each of them right"
#: What helps against a refusal of a sealed packet. Some have nothing that an admin could do.
_ADVICE = {
    Reason.OVER_BUDGET: "who has that card floods this gate: `knockgate card new` makes another one for "
    "those who are to knock, `knockgate card revoke` ends this one",
    Reason.UNKNOWN_KEY: "if that key is to come in, its line has to stand in a file that `ssh` of a "
    "[keys.NAME] names; `ssh-keygen -lf FILE` shows fingerprints",
    Reason.NO_TOUCH: "touch the token when it blinks; or see no-touch-required on its line, and touch of "
    "the door",
    Reason.NOT_VERIFIED: "make the key with `ssh-keygen -O verify-required`, or take that word from its line",
    Reason.TOO_MANY_DEVICES: "where the clock is synchronised, the one that has not knocked for longest "
    "makes room, unless its clock was set back once or its date is still to come; else raise devices in "
    "[sealed], or `knockgate replay reset` forgets all (`knockgate device forget` makes no room)",
    Reason.REPLAYED: "knock again: each knock has a newer date; if that one is refused as well, the "
    "client has older files than it had: without its device.json it is another device",
    Reason.AHEAD: f"{_CLOCKS}; it was not spent",
    Reason.OVER_PACE: "wait some seconds, and knock again; it was not spent",
    Reason.STORE_UNAVAILABLE: "the log says why; is there room where state_directory is?",
    Reason.STALE: f"{_CLOCKS}; if they agree, somebody has held it back on its way",
    Reason.KEY_REVOKED: "revoked of its [keys.NAME] says so; whoever has it still tries",
    Reason.KEY_EXPIRED: "expires of its [keys.NAME], or expiry-time= on its line, says when",
    Reason.OUTSIDE_HOURS: "hours of its [keys.NAME] says when it is good",
    Reason.CLOCK_UNKNOWN: 'have the clock synchronised; `clock = "trusted"` in [gate] is for one that is '
    "right by other means",
    Reason.SOURCE_DENIED: "the client's -a says whom to let in; behind NAT that is not what the client sees",
    Reason.UNSTATED_SOURCE: "the client must not say -s; or see observed below [doors.NAME.sealed]",
    Reason.TOO_MANY_LEASES: "they end by themselves; leases of [keys.NAME] says how many there may be, "
    "and leases_in_all how many of all its ssh keys together",
}


def reason_in_words(reason: Reason, *, sealed: bool) -> str:
    """What the reason means, of a sealed packet or of one of fwknop's, whichever packet it was."""
    return (sealed and _SEALED.get(reason)) or _WORDS[reason]


def refusal_in_words(refused: KnockRefused) -> str:
    """``stale: it is too old; its clock is 3m behind ours (from 192.0.2.7)``."""
    words = f"{refused.reason.value}: {why_refused(refused)} (from {address_text(refused.sender)}"
    if refused.source and refused.source != refused.sender:
        words += f", for {address_text(refused.source)}"
    return f"{words})"


def why_refused(refused: KnockRefused) -> str:
    """``it is too old; its clock is 3m behind ours``."""
    words = reason_in_words(refused.reason, sealed=refused.story is not None)
    if refused.asked:
        words = f"{_asked(refused) or words}: {refused.asked}"
    if refused.skew is not None:
        side = "behind" if refused.skew > 0 else "ahead of"
        # A gate that knows only how late it is at least (``certainty.Floored``) has no skew to tell of.
        least = "at least " if refused.story is not None and refused.story.skew is None else ""
        words += f"; its clock is {least}{_about(abs(refused.skew))} {side} ours"
    return words


def _asked(refused: KnockRefused) -> str | None:
    return "it is for known devices alone, and this one is not" if _is_unheard_of(refused) else None


def _is_unheard_of(refused: KnockRefused) -> bool:
    """Whether it was a door that has turned the device away, and not the admin."""
    return refused.reason is Reason.UNKNOWN_DEVICE and bool(refused.asked)


def advice_on(refused: KnockRefused, row: bytes | None = None) -> str | None:
    """What to do about a sealed packet that was refused; None where nothing helps, and for fwknop's.

    ``row`` is what the store calls its device.
    """
    if refused.story is None:
        return None
    if refused.reason is Reason.UNKNOWN_DEVICE:
        device = row.hex() if row else "DEVICE"
        again = "" if _is_unheard_of(refused) else ", if it is to come in again"
        return f"`knockgate device enrol {device}`{again}"
    return _ADVICE.get(refused.reason)


def step_of(refused: KnockRefused) -> int | None:
    """Which step of docs/spec/spa-v1.md a sealed packet came to."""
    if refused.reason is Reason.NO_TOUCH and refused.asked:
        return 14  # the door's demand, and not the line's
    return _STEPS.get(refused.reason)


def _about(seconds: float) -> str:
    """To the second, and from ten minutes on to the minute: an hour's time zone shall look like one."""
    return spell(round(seconds) if seconds < 600 else round(seconds / 60) * 60)
