"""A gate for sealed knocks in memory: the mechanism and its marks, and knocks that are right."""

from __future__ import annotations

import calendar
import copy
import dataclasses
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import CARD, CARD_KEYS, HEAD, KEY, signed

from knockgate.effects import DatagramSeen, KnockRefused, KnockTaken, OpenDoor, RunCommands
from knockgate.errors import Reason
from knockgate.mechanisms.certainty import DropFloor, Floor, KeepFloor, TellStep, started
from knockgate.mechanisms.marks import Spend, Verdict
from knockgate.mechanisms.parties import Entrance, Line, Party
from knockgate.mechanisms.sealed import ClaimMark, LiveCard, MarkSettled, Sealed, SealedEffect, Standing
from knockgate.model import Moment, Source
from knockgate.spa.sealed import KeyKind, Message, Suite, seal, signed_bytes
from knockgate.spa.sshkeys import read
from knockgate.store.marks_memory import MemoryMarks

SECOND = 10**9
NOW = HEAD.issued / SECOND
CLIENT, ELSEWHERE = HEAD.address, bytes([192, 0, 2, 9])
SSH = Entrance("ssh", 30.0, 600.0)
WEB = Entrance("web", 60.0, 60.0, runs_commands=True)
PEOPLE = Party("people", {"ssh": SSH, "web": WEB})
LIVE = LiveCard("everybody", CARD_KEYS, KEY)
SURE, FLOORED, BLIND = "sure", "floored", "blind"


def line(
    options: str = "", *, kind: int = signers.ED25519, party: Party = PEOPLE, comment: str = "jo@laptop"
) -> Line:
    """A line of a file of the gate's own."""
    text = f"{options} {signers.line(kind)} {comment}".lstrip()
    listing = read(text.encode(), ours=True, local=calendar.timegm)
    assert not listing.flaws, listing.flaws
    return Line(party, "/etc/knockgate/keys", listing.keys[0])


def party(**changes: Any) -> Party:  # noqa: ANN401 - whatever a Party has
    return dataclasses.replace(PEOPLE, **changes)


def entrances(**changes: Any) -> dict[str, Entrance]:  # noqa: ANN401 - whatever an Entrance has
    """Both doors, with the same demands."""
    return {each.door: dataclasses.replace(each, **changes) for each in (SSH, WEB)}


def token(flags: int, *, kind: KeyKind = KeyKind.SK_ED25519, **changes: Any) -> Message:  # noqa: ANN401
    """A knock that a token has signed, with these flags."""
    message = signed(kind, **changes)
    octets = signers.sign(kind, signed_bytes(KEY.gate, message.head), flags, message.counter)
    return dataclasses.replace(message, signature=octets, flags=flags)


@dataclass
class Gate:
    """Everybody who may come in stands on ``lines``."""

    lines: Sequence[Line] = field(default_factory=lambda: [line()])
    cards: Sequence[LiveCard] = (LIVE,)
    suites: Collection[Suite] = tuple(Suite)
    budget: float = 1e6
    devices: int = 32
    low: int = 0
    clock: str = SURE
    standing: Callable[[bytes], Standing] = lambda device: Standing.UNSAID  # noqa: ARG005
    fails: bool = False  #: what is to be spent cannot be written down
    now: float = NOW
    up: float = 1000.0

    def __post_init__(self) -> None:
        self.marks = MemoryMarks(devices=self.devices, salt=bytes(32), low=self.low)
        if self.clock == FLOORED:
            self.marks.keep_floor(Floor(round((NOW - 5000) * SECOND), 1, "a boot before this one"))
        self.claims: list[ClaimMark] = []
        self.clock_effects: list[KeepFloor | DropFloor | TellStep] = []
        self.start()

    def start(self) -> None:
        """Anew: what is in memory only is gone."""
        self.sealed = Sealed(
            self.cards,
            lambda digest: [each for each in self.lines if each.entry.key.fingerprint == digest],
            self.standing,
            suites=self.suites,
            budget=self.budget,
            certain=started(self.marks.floor(), self.moment),
        )

    @property
    def moment(self) -> Moment:
        return Moment(self.now, self.clock == SURE, self.up, "boot")

    def wait(self, seconds: float) -> None:
        self.now, self.up = self.now + seconds, self.up + seconds

    def hear(self, payload: bytes, sender: Source = CLIENT) -> tuple[SealedEffect, ...]:
        """What it comes to, but for what concerns the clock."""
        effects = self._others(self.sealed.feed(DatagramSeen(payload, sender, self.moment)))
        if not effects or not isinstance(effects[0], ClaimMark):
            return effects
        claim = effects[0]
        assert len(effects) == 1, "nothing is done before the claim is settled"
        self.claims.append(claim)
        return self._others(self.sealed.feed(MarkSettled(self._settled(claim), self.moment)))

    def _settled(self, claim: ClaimMark) -> Verdict | None:
        before = copy.deepcopy(self.marks)
        verdict = self.marks.claim(
            claim.key, claim.device, claim.date, claim.taken, claim.floor, may_spend=claim.may_spend
        )
        if isinstance(verdict, Spend):
            if not self.fails:
                return verdict
            self.marks = before
            return None
        assert self.marks.devices() == before.devices()
        return verdict

    def _others(self, effects: tuple[SealedEffect, ...]) -> tuple[SealedEffect, ...]:
        clock = [each for each in effects if isinstance(each, KeepFloor | DropFloor | TellStep)]
        self.clock_effects += clock
        return tuple(each for each in effects if each not in clock)

    def knock(
        self,
        message: Message | None = None,
        *,
        suite: Suite = Suite.X25519,
        sender: Source = CLIENT,
        **changes: Any,  # noqa: ANN401 - whatever a Head has
    ) -> Reason | None:
        """Seal it and hear it: why it is refused, None where it opens."""
        return outcome(self.hear(seal(message or signed(**changes), CARD, suite), sender))


def refusal(effects: Sequence[SealedEffect]) -> KnockRefused:
    (effect,) = effects
    assert isinstance(effect, KnockRefused)
    return effect


def outcome(effects: Sequence[SealedEffect]) -> Reason | None:
    """Why it was refused; None where something opened."""
    if isinstance(effects[-1], KnockTaken):
        assert isinstance(effects[0], OpenDoor)
        return None
    return refusal(effects).reason


def leases(effects: Sequence[SealedEffect]) -> dict[str, float | None]:
    """Of what opened: the doors and their seconds. What ran, ran behind its own door."""
    assert isinstance(effects[-1], KnockTaken)
    for before, each in itertools.pairwise(effects):
        if isinstance(each, RunCommands):
            assert isinstance(before, OpenDoor)
            assert (each.door, each.source, each.seconds) == (before.door, before.source, before.seconds)
    return {each.door: each.seconds for each in effects if isinstance(each, OpenDoor)}


def at(seconds: float, device: int = 1) -> dict[str, Any]:
    """A knock that is dated so many seconds after the others, of a device."""
    return {"issued": round((NOW + seconds) * SECOND), "device": bytes([device] * 16)}
