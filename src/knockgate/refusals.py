"""Why a packet was turned away, in words for whoever looks after the gate."""

from __future__ import annotations

from knockgate.config.toml import spell
from knockgate.effects import KnockRefused
from knockgate.errors import Reason
from knockgate.model import address_text

__all__ = ["refusal_in_words"]

_WORDS = {
    Reason.NOT_OURS: "no key of ours has authenticated it",
    Reason.NOT_SEALED: "its HMAC is right, but it does not decrypt: the two sides have another KEY, or mode",
    Reason.BAD_DIGEST: "its HMAC is right, but what is inside was changed",
    Reason.MALFORMED: "its HMAC is right, but what is inside is not spelled as fwknop spells it",
    Reason.REPLAYED: "it was sent before",
    Reason.AHEAD: "it is dated ahead of us",
    Reason.STALE: "it is too old",
    Reason.STORE_FULL: "no room to remember it (fwknop.remembered): the clock is not synchronised, or there "
    "are very many knocks",
    Reason.STORE_UNAVAILABLE: "it cannot be remembered",
    Reason.KEY_EXPIRED: "the key has expired",
    Reason.CLOCK_UNKNOWN: "the key expires at some time, and we do not know what time it is",
    Reason.SENDER_DENIED: "it comes from an address that the key does not knock from (senders)",
    Reason.USER_DENIED: "it bears another user name",
    Reason.TYPE_DENIED: "it asks for something else than to open ports",
    Reason.SOURCE_DENIED: "the key does not let that address in (sources)",
    Reason.UNSTATED_SOURCE: "it names no address, and the key has to (observed)",
    Reason.PORT_DENIED: "the key does not open that",
}


def refusal_in_words(refused: KnockRefused) -> str:
    """``stale: it is too old; its clock is 3m behind ours (from 192.0.2.7)``."""
    words = f"{refused.reason.value}: {_WORDS.get(refused.reason, 'it is no such packet')}"
    if refused.asked:
        words += f": {refused.asked}"
    if refused.skew is not None:
        side = "behind" if refused.skew > 0 else "ahead of"
        words += f"; its clock is {_about(abs(refused.skew))} {side} ours"
    words += f" (from {address_text(refused.sender)}"
    if refused.source and refused.source != refused.sender:
        words += f", for {address_text(refused.source)}"
    return f"{words})"


def _about(seconds: float) -> str:
    """To the second, and from ten minutes on to the minute: an hour's time zone shall look like one."""
    return spell(round(seconds) if seconds < 600 else round(seconds / 60) * 60)
