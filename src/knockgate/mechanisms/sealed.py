"""Sealed knocks: whose they are, whether they are fresh and new, and what their key may have.

docs/spec/spa-v1.md, "The steps", which are numbered here as there::

    DatagramSeen -> 1 tag, 2 seen before, 3 budget, 4 open, 5 read, 6 key, 7 signature, 8 token, 9 device
                 -> ClaimMark
    MarkSettled  -> 10 to 13 -> 14 policy, 15 leases -> 16 OpenDoor, RunCommands, KnockTaken
                                               else -> KnockRefused

Marks are the store's to know, and ``marks.judge`` says there what becomes of a date. Until the signature is
known to be good nothing that a knock says is believed, and until the claim nothing is written.

Up to step 7 it is a stranger's: counted. The first that a card costs is the work of opening, so each card has
its budget.
"""

from __future__ import annotations

import base64
import enum
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from knockgate.effects import DatagramSeen, KnockRefused, KnockTaken, OpenDoor, RunCommands, Story
from knockgate.errors import Reason, Refused
from knockgate.mechanisms import certainty
from knockgate.mechanisms.buckets import Bucket
from knockgate.mechanisms.certainty import Certainty, ClockEffect, Floor, Span
from knockgate.mechanisms.leases import Leases
from knockgate.mechanisms.marks import TurnAway, Verdict
from knockgate.mechanisms.parties import Asked, Denial, Grant, Line, granted
from knockgate.model import Moment, Source
from knockgate.spa.sealed import CardKeys, GateKey, Head, Message, Suite, opened, signed_bytes
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.spa.sshkeys import Kind, PublicKey, Signature, verify

__all__ = ["ClaimMark", "LiveCard", "MarkSettled", "Sealed", "SealedEffect", "Standing"]

_SECOND = 10**9
#: Right tags that are remembered, so that a recorded knock costs no more than junk.
_TAGS = 8192
_TAG = 16
#: Knocks of one key, at once and a second.
_PACE_BURST, _PACE = 10.0, 1.0
#: Keys of which pace and leases are kept until it is looked which of them say nothing any more.
_KEYS = 1024


class Standing(enum.Enum):
    """What the admin has said of a device."""

    UNSAID = enum.auto()
    KNOWN = enum.auto()
    BARRED = enum.auto()


@dataclass(frozen=True, slots=True)
class LiveCard:
    """A card that is good for knocking, and the gate's key that it belongs to."""

    name: str
    keys: CardKeys = field(repr=False)
    gate: GateKey = field(repr=False)
    ends: int | None = None  #: nanoseconds since 1970


@dataclass(frozen=True, slots=True)
class ClaimMark:
    """Make the date the device's mark, durably, if it is newer. A ``MarkSettled`` must come next."""

    key: bytes  #: SHA-256 of the SSH public key
    device: bytes  #: as in the knock
    date: Date
    taken: Span  #: which dates are neither stale nor ahead
    floor: Floor | None  #: to be written along
    may_spend: bool  #: False: the key has knocked too often; ``OVER_PACE`` where it would be spent


@dataclass(frozen=True, slots=True)
class MarkSettled:
    """The answer: the verdict, which is on the disk if it is to spend; None where it could not be written."""

    verdict: Verdict | None
    moment: Moment


SealedEffect = ClaimMark | OpenDoor | RunCommands | KnockRefused | KnockTaken | ClockEffect


@dataclass(frozen=True, slots=True)
class _Authentic:
    """A knock whose signature is good."""

    asked: Asked
    lines: Sequence[Line]
    story: Story

    @property
    def fingerprint(self) -> bytes:
        return self.asked.head.fingerprint


class Sealed:
    """Takes datagrams and answers of the store. ``concerns`` is for turning most of a flood away first."""

    def __init__(
        self,
        cards: Sequence[LiveCard],
        find: Callable[[bytes], Sequence[Line]],
        standing: Callable[[bytes], Standing],
        *,
        suites: Collection[Suite],
        budget: float,
        certain: Certainty,
    ) -> None:
        """``find``: the lines on which a key of that SHA-256 stands. ``standing``: of a device in a knock.

        ``budget``: knocks a second that a card is good for.
        """
        self._cards = tuple(cards)
        self._checks = tuple(card.keys.is_of for card in cards)
        self._find, self._standing = find, standing
        self._lengths = frozenset(suite.length for suite in suites)
        # Not by name: a card has a successor of the same name at the gate's next key, and who floods with the
        # old one must not keep out who has the new one.
        self._budgets = {card: Bucket(budget, 2 * budget) for card in cards}
        self._tags: OrderedDict[bytes, Source] = OrderedDict()
        self._paces: dict[bytes, Bucket] = {}
        self._leases = Leases()  # of keys, by the fingerprint
        self._of_parties = Leases()  # of all keys of a party, by its name
        self._many = _KEYS
        self._waiting: _Authentic | None = None
        self._stand_ins = _stand_ins()
        self.certain = certain

    def concerns(self, payload: bytes) -> bool:
        """Step 1: whether it is of one of our cards."""
        if len(payload) in self._lengths:
            for is_of in self._checks:  # a whole flood comes by here, and a generator costs as much as a hash
                if is_of(payload):
                    return True
        return False

    def feed(self, event: DatagramSeen | MarkSettled) -> tuple[SealedEffect, ...]:
        """Take one event; returns what is to be done. A ``ClaimMark`` must be answered before the next."""
        if isinstance(event, MarkSettled):
            knock, self._waiting = self._waiting, None
            if knock is None:
                raise AssertionError("nothing was claimed")
            return self._settled(knock, event)
        try:
            return self._heard(event)
        except Refused as refused:
            return (_stranger(refused.reason, event.sender),)

    def look_at_clock(self, moment: Moment) -> tuple[ClockEffect, ...]:
        """To be called now and then, so that a floor is kept also while nobody knocks."""
        self.certain, effects = certainty.heard(self.certain, moment)
        return effects

    # --- a stranger's ---------------------------------------------------------------------------------

    def _heard(self, seen: DatagramSeen) -> tuple[SealedEffect, ...]:
        """Raises Refused as long as there is no more to say than the reason."""
        payload, up = seen.payload, seen.moment.up
        card = self._card_of(payload, seen.moment)  # 1
        tag = payload[:_TAG]
        if tag in self._tags:  # 2
            relayed = "" if self._tags[tag] == seen.sender else "relayed?"
            return (KnockRefused(Reason.DUPLICATE, None, seen.sender, asked=relayed),)
        if not self._budgets[card].take(up):  # 3
            return (_stranger(Reason.OVER_BUDGET, seen.sender, _story(card, seen)),)
        self._tags[tag] = seen.sender
        if len(self._tags) > _TAGS:
            self._tags.popitem(last=False)
        try:
            message = Message.decode(opened(payload, card.keys, card.gate))  # 4, 5
        except Refused as refused:
            return (_stranger(refused.reason, seen.sender, _story(card, seen)),)
        head = message.head
        lines = [line for line in self._find(head.fingerprint) if int(line.entry.key.kind) == int(head.kind)]
        # A key that nobody has is checked all the same: how long we take is not to tell who may come in.
        key = lines[0].entry.key if lines else self._stand_ins[Kind(head.kind)]  # 6
        signature = Signature(message.signature, message.flags, message.counter)
        is_good = verify(key, signature, signed_bytes(card.gate.gate, head))  # 7
        if not lines:
            return (_stranger(Reason.UNKNOWN_KEY, seen.sender, _story(card, seen, head)),)
        if not is_good:
            return (_stranger(Reason.BAD_SIGNATURE, seen.sender, _story(card, seen, head)),)
        return self._authentic(card, seen, head, signature, lines)

    def _card_of(self, payload: bytes, moment: Moment) -> LiveCard:
        """The card that the tag is of, unless its time is over; raises Refused."""
        if len(payload) in self._lengths:
            for card in self._cards:
                if card.keys.is_of(payload) and not self._is_over(card, moment):
                    return card
        raise Refused(Reason.NOT_OURS)

    def _is_over(self, card: LiveCard, moment: Moment) -> bool:
        """Whether it is certain that it has ended: a card is no authority, so in doubt it is taken."""
        if card.ends is None:
            return False
        lower = certainty.span(self.certain, moment).lower
        return lower is not None and lower + WINDOW >= card.ends

    # --- somebody's -----------------------------------------------------------------------------------

    def _authentic(
        self, card: LiveCard, seen: DatagramSeen, head: Head, signature: Signature, lines: Sequence[Line]
    ) -> tuple[SealedEffect, ...]:
        effects = self.look_at_clock(seen.moment)
        taken = certainty.span(self.certain, seen.moment)
        time = seen.moment.now if taken.sure else None
        asked = Asked(head, seen.sender, lines[0].entry.key.kind.on_token and signature.touched, time)
        found = _fit_for_token(lines, signature)  # 8
        fit = lines if isinstance(found, Reason) else found
        skew = None if time is None else time - head.issued / _SECOND
        story = _story(card, seen, head, source=asked.source, key=_name_of(fit[0]), skew=skew)
        knock = _Authentic(asked, fit, story)
        if isinstance(found, Reason):
            return (*effects, _refused(knock, found))
        foreign = self._foreign_to(knock)  # 9
        if foreign is not None:
            return (*effects, _refused(knock, Reason.UNKNOWN_DEVICE, asked=foreign))
        self._waiting = knock
        self._forget_idle_keys(seen.moment.up)
        pace = self._paces.setdefault(knock.fingerprint, Bucket(_PACE, _PACE_BURST))
        floor = certainty.floor_at(self.certain, seen.moment)
        date = Date(head.era, head.issued)
        claim = ClaimMark(knock.fingerprint, head.device, date, taken, floor, pace.has(seen.moment.up))
        return (*effects, claim)

    def _foreign_to(self, knock: _Authentic) -> str | None:
        """The doors that do not take its device; empty where it is shut out; None where it is fine."""
        standing = self._standing(knock.asked.head.device)
        if standing is not Standing.UNSAID:
            return "" if standing is Standing.BARRED else None
        doors = (line.party.entrances.get(door) for line in knock.lines for door in knock.asked.head.doors)
        wanting = dict.fromkeys(door.door for door in doors if door and door.known_only)
        return ", ".join(wanting) or None

    def _settled(self, knock: _Authentic, settled: MarkSettled) -> tuple[SealedEffect, ...]:
        verdict, up = settled.verdict, settled.moment.up
        if verdict is None:
            return (_refused(knock, Reason.STORE_UNAVAILABLE),)
        if isinstance(verdict, TurnAway):  # 10, 11
            return (_refused(knock, verdict.reason, skew=verdict.skew),)
        self._paces[knock.fingerprint].take(up)  # 12
        if verdict.refused:  # 13
            return (_refused(knock, verdict.refused, skew=verdict.skew),)
        grant = granted(knock.asked, knock.lines)  # 14
        if isinstance(grant, Denial):
            return (_refused(knock, grant.reason, asked=grant.what),)
        full = self._lacks_room(knock, grant, up)  # 15
        if full is not None:
            return (_refused(knock, Reason.TOO_MANY_LEASES, asked=full),)
        return _opened(knock, grant)  # 16

    def _forget_idle_keys(self, up: float) -> None:
        """Whoever writes a file of keys could have ever new ones in it."""
        if len(self._paces) < self._many:
            return
        self._paces = {key: pace for key, pace in self._paces.items() if not pace.is_full(up)}
        self._leases.forget_idle(up)
        self._many = max(_KEYS, 2 * len(self._paces))

    def _lacks_room(self, knock: _Authentic, grant: Grant, up: float) -> str | None:
        """How many leases there may be, where there are as many; else they are counted from now on."""
        party = grant.line.party
        wanted = {(entrance.door, knock.asked.source): seconds for entrance, seconds in grant.leases}
        if not self._leases.has_room(knock.fingerprint, wanted, party.leases, up):
            return str(party.leases)
        if not self._of_parties.take(party.name, wanted, party.leases_in_all, up):
            return f"{party.leases_in_all} in all of {party.name}"
        self._leases.give(knock.fingerprint, wanted, up)
        return None


def _opened(knock: _Authentic, grant: Grant) -> tuple[SealedEffect, ...]:
    story = knock.story
    if grant.line is not knock.lines[0]:
        story = replace(story, key=_name_of(grant.line))
    effects: list[SealedEffect] = []
    for entrance, seconds in grant.leases:
        effects.append(OpenDoor(entrance.door, knock.asked.source, seconds, story.key))
        if entrance.runs_commands:
            effects.append(RunCommands(entrance.door, knock.asked.source, seconds))
    return (*effects, KnockTaken(story))


def _story(
    card: LiveCard,
    seen: DatagramSeen,
    head: Head | None = None,
    *,
    source: Source = b"",
    key: str | None = None,
    skew: float | None = None,
) -> Story:
    """Made once for a knock: a copy with one thing more takes longer than a tag."""
    suite = Suite.of(seen.payload)
    told = "" if suite is None else suite.name.lower()
    if head is None:
        return Story(card=card.name, suite=told, sender=seen.sender)
    return Story(
        card=card.name,
        suite=told,
        sender=seen.sender,
        source=source,
        stated=head.source.size > 0,
        key=key,
        fingerprint=head.fingerprint,
        device=head.device,
        doors=head.doors,
        era=head.era,
        issued=head.issued,
        lease=head.lease,
        skew=skew,
    )


def _stranger(reason: Reason, sender: Source, story: Story | None = None) -> KnockRefused:
    return KnockRefused(reason, None, sender, story=story)


def _refused(knock: _Authentic, reason: Reason, *, skew: int | None = None, asked: str = "") -> KnockRefused:
    seconds = None if skew is None else skew / _SECOND
    story = knock.story
    return KnockRefused(reason, story.key, story.sender, story.source, seconds, asked, story)


def _fit_for_token(lines: Sequence[Line], signature: Signature) -> Sequence[Line] | Reason:
    """The lines that ask no more of a token than it has said; where there is none, the first one's reason."""
    if not lines[0].entry.key.kind.on_token:
        return lines
    objections = [_token_lacks(line, signature) for line in lines]
    fit = [line for line, objection in zip(lines, objections, strict=True) if objection is None]
    return fit or objections[0] or ()


def _token_lacks(line: Line, signature: Signature) -> Reason | None:
    if line.entry.options.touch and not signature.touched:
        return Reason.NO_TOUCH
    if line.entry.options.verification and not signature.verified:
        return Reason.NOT_VERIFIED
    return None


def _name_of(line: Line) -> str:
    """``people/jo@laptop SHA256:AbCdEfGhIj``: short, and without anything that would move a terminal."""
    comment = "".join(each for each in line.entry.comment if each.isprintable() and not each.isspace())[:40]
    start = base64.b64encode(line.entry.key.fingerprint).decode()[:10]
    return f"{line.party.name}/{comment or '-'} SHA256:{start}"


def _stand_ins() -> dict[Kind, PublicKey]:
    """A key of each kind that nobody has a reason to use."""
    edwards = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    point = derive_private_key(1, SECP256R1()).public_key().public_numbers()
    octets = b"\4" + point.x.to_bytes(32) + point.y.to_bytes(32)  # SEC 1, section 2.3.3
    return {
        kind: PublicKey(kind, edwards.public_bytes_raw() if kind.edwards else octets, b"ssh:" * kind.on_token)
        for kind in Kind
    }
