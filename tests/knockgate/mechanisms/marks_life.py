"""Marks, clock and clients' dates together, in any course of things: the model that the page's review had.

Devices of one key knock by clocks that jump. Somebody on the way holds knocks back, mixes them up and
delivers them as often as they like. The gate boots, starts again, loses its clock and gets it back. In some
lives the key is taken away from time to time, the gate forgets all of it that is old, and the key comes back.

* No knock is ever taken twice, whatever the clocks do.
* Who is right is let in by a gate that is right or does not claim to be, whatever their own clock did before.
* While there is room no device makes a difference to another one.

Each course is of a seed and a length. A machine of hypothesis's own would shrink better, and found less: most
of its courses have few knocks, and few of what must come together, a jump, a delivery and a repair.

What the gate remembers by is handed in: a model, or a store of the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from hypothesis import note

from knockgate.errors import Reason
from knockgate.mechanisms.certainty import (
    Certainty,
    ClockEffect,
    DropFloor,
    Floor,
    Floored,
    KeepFloor,
    Span,
    Sure,
    floor_at,
    forgotten,
    heard,
    span,
    started,
)
from knockgate.mechanisms.marks import Known, Marked, Spend, Verdict, judge, newest_of
from knockgate.model import Moment
from knockgate.spa.sealed.dates import WINDOW, Date, following

__all__ = ["Life", "Memory", "Packet", "Remembers", "lived"]

SECOND = 10**9
NOW = 1_800_000_000
#: Seconds by which a clock may be wrong: hardly, by a time zone, in 1970, in 2038.
JUMPS = (30, -30, 45, 61, -61, 300, -300, 7200, -7200, 300_000_000, -NOW + 100)
WAITS = (0.001, 0.001, 1, 1, 20, 50, 61, 130, 3601, 90_000, 800_000)
FEW, PLENTY = 3, 10_000
#: Seconds by which a clock that is right may be wrong.
RIGHT = 30
#: Nanoseconds: a ``Moment`` has its seconds as a float.
A_FLOAT = 1000


class Packet(NamedTuple):
    device: bytes
    date: Date


@dataclass
class Client:
    number: int
    off: float = 0  #: seconds by which its clock is ahead
    last: Date | None = None
    lives: int = 0

    @property
    def device(self) -> bytes:
        return bytes([self.number, self.lives])

    @property
    def is_right(self) -> bool:
        return abs(self.off) <= RIGHT

    def knock(self, true: float) -> Packet:
        date = following(self.last, round((true + self.off) * SECOND))
        assert date is not None
        self.last = date
        return Packet(self.device, date)


class Remembers(Protocol):
    """One key in a store: what lasts."""

    @property
    def room(self) -> int: ...

    def row(self, device: bytes) -> bytes:
        """What it calls a device."""

    def take(self, packet: Packet, taken: Span, floor: Floor | None) -> Verdict:
        """Spend it, and keep the floor along with it; or turn it away."""

    def marks(self) -> Iterable[Date]: ...

    def forget(self, before: int) -> None:
        """The key is gone: all of it that was issued before then."""

    def floor(self) -> Floor | None: ...

    def keep_floor(self, floor: Floor | None) -> None: ...

    def start_again(self) -> None:
        """The gate does: what was not written down is gone."""


@dataclass
class Memory:
    """The model."""

    room: int
    low: int = 0
    dates: dict[bytes, Date] = field(default_factory=dict)
    newest: dict[bytes, int] = field(default_factory=dict)
    kept: Floor | None = None

    def row(self, device: bytes) -> bytes:
        return device

    def take(self, packet: Packet, taken: Span, floor: Floor | None = None) -> Verdict:
        crowd = [Marked(*row) for row in self.newest.items()] if len(self.dates) >= self.room else None
        known = Known(self.dates.get(packet.device), self.low, crowd)
        verdict = judge(packet.date, known, taken)
        if isinstance(verdict, Spend):
            if verdict.forget is not None:
                del self.dates[verdict.forget], self.newest[verdict.forget]
            self.dates[packet.device], self.low = verdict.mark, verdict.low
            self.newest[packet.device] = max(newest_of(verdict.mark), self.newest.get(packet.device, 0))
            self.kept = floor or self.kept
        return verdict

    def marks(self) -> Iterable[Date]:
        return list(self.dates.values())

    def forget(self, before: int) -> None:
        for device in [device for device, newest in self.newest.items() if newest < before]:
            self.low = max(self.low, self.newest.pop(device))
            del self.dates[device]

    def floor(self) -> Floor | None:
        return self.kept

    def keep_floor(self, floor: Floor | None) -> None:
        self.kept = floor

    def start_again(self) -> None: ...


@dataclass
class Gate:
    memory: Remembers
    off: float = 0  #: seconds by which its clock is ahead
    vouched: bool = True
    boots: int = 0
    booted: float = NOW - 1000

    def moment(self, true: float) -> Moment:
        return Moment(true + self.off, self.vouched, true - self.booted, f"boot {self.boots}")

    def start(self, true: float) -> None:
        self.memory.start_again()
        self.state: Certainty = started(self.memory.floor(), self.moment(true))

    def read(self, true: float) -> Span:
        self.state, effects = heard(self.state, self.moment(true))
        self.apply(effects)
        return span(self.state, self.moment(true))

    def apply(self, effects: tuple[ClockEffect, ...]) -> None:
        for effect in effects:
            match effect:
                case KeepFloor(floor):
                    self.memory.keep_floor(floor)
                case DropFloor():
                    self.memory.keep_floor(None)

    def hear(self, packet: Packet, true: float) -> Verdict:
        taken = self.read(true)
        return self.memory.take(packet, taken, floor_at(self.state, self.moment(true)))


class Life:
    """``gate_is_right``: while its clock is vouched for it is right, and stays so until the next boot."""

    def __init__(self, chance: Random, memory: Callable[[int], Remembers]) -> None:
        """``memory`` is called once, with the room that there is to be."""
        self.chance = chance
        self.gate_is_right = chance.random() < 0.5
        self.keys_go = chance.random() < 0.4
        self.true: float = NOW
        self.gate = Gate(memory(chance.choice((FEW, PLENTY))), vouched=chance.random() < 0.5)
        self.gate.start(self.true)
        self.alone: dict[bytes, Memory] = {}
        self.clients = [Client(number) for number in range(4)]
        self.packets: list[Packet] = []
        self.spent: set[Packet] = set()
        self.newest: dict[bytes, int] = {}  # of what is remembered, as the store calls it
        note(f"right: {self.gate_is_right}, {self.gate}")

    def go_on(self) -> None:
        often = (self.time_passes, self.knock, self.knock, self.deliver, self.a_clock_changes)
        seldom: tuple[Callable[[], None], ...] = (
            self.boot,
            self.start_again,
            self.the_gates_clock_changes,
            self.the_admin_forgets_the_time,
        )
        if self.keys_go:
            seldom = (*seldom, self.the_key_goes)
        event = self.chance.choice(often if self.chance.random() < 0.8 else seldom)
        note(f"{self.true}: {event.__name__}")
        event()

    # --- the gate -------------------------------------------------------------------------------------

    def time_passes(self) -> None:
        self.true += self.chance.choice(WAITS)

    def boot(self) -> None:
        """The clock is the board's, and nobody vouches for it."""
        self.true += 20
        self.gate.boots, self.gate.booted = self.gate.boots + 1, self.true - 5
        self.gate.off, self.gate.vouched = self.chance.choice((0, *JUMPS)), False
        self.gate.start(self.true)

    def start_again(self) -> None:
        """As after kill -9: that it was sure is gone."""
        self.gate.start(self.true)

    def the_gates_clock_changes(self) -> None:
        gate, chance = self.gate, self.chance
        if not self.gate_is_right and chance.random() < 0.5:
            gate.off, gate.vouched = chance.choice(JUMPS), chance.random() < 0.5
        elif chance.random() < 0.5:
            gate.off, gate.vouched = 0, True
        else:
            gate.vouched = False
        gate.read(self.true)

    def the_admin_forgets_the_time(self) -> None:
        self.gate.state, effects = forgotten()
        self.gate.apply(effects)

    def the_key_goes(self) -> None:
        """For as long as it takes to notice. A gate of the product's is sure for longer before it forgets."""
        taken = self.gate.read(self.true)
        if taken.sure and taken.lower is not None:
            self.gate.memory.forget(taken.lower)
            self.newest = {row: each for row, each in self.newest.items() if each >= taken.lower}

    # --- the clients ----------------------------------------------------------------------------------

    def a_clock_changes(self) -> None:
        """It jumps or is repaired; seldom the client forgets who it was."""
        client = self.chance.choice(self.clients)
        client.off = self.chance.choice((*JUMPS, *[0] * len(JUMPS)))
        if self.chance.random() < 0.1:
            client.lives, client.last = client.lives + 1, None

    def knock(self) -> None:
        client = self.chance.choice(self.clients)
        packet = client.knock(self.true)
        assert packet not in self.packets
        self.packets.append(packet)
        if self.chance.random() < 0.6:
            verdict = self.delivered(packet)
            # A clock that was put back by about W makes for dates a little ahead, until it has caught up.
            ahead = packet.date.issued - round(self.true * SECOND) - WINDOW
            if client.is_right and self.gate_is_right and ahead <= 0:
                self.lets_in(verdict)
            assert ahead <= max(client.off, 0) * SECOND + A_FLOAT

    def deliver(self) -> None:
        """What was held back, or came before."""
        if self.packets:
            newest = self.packets[-4:] if self.chance.random() < 0.5 else self.packets
            self.delivered(self.chance.choice(newest))

    # --- what must be ---------------------------------------------------------------------------------

    def delivered(self, packet: Packet) -> Verdict:
        verdict = self.gate.hear(packet, self.true)
        taken = self.gate.read(self.true)
        assert len(list(self.gate.memory.marks())) <= self.gate.memory.room
        if isinstance(verdict, Spend):
            assert packet not in self.spent, "taken a second time"
            self.spent.add(packet)
            if verdict.forget is not None:
                del self.newest[verdict.forget]
            row = self.gate.memory.row(packet.device)
            self.newest[row] = max(newest_of(packet.date), self.newest.get(row, 0))
            if verdict.refused is None:
                self.is_on_time(packet)
        elif verdict.reason is Reason.TOO_MANY_DEVICES:
            assert not self.room(taken)
        if self.gate.memory.room == PLENTY and not self.keys_go:
            alone = self.alone.setdefault(packet.device, Memory(PLENTY))
            assert alone.take(packet, taken) == verdict, "another device made a difference"
        return verdict

    def lets_in(self, verdict: Verdict) -> None:
        if not isinstance(verdict, Spend):
            assert verdict.reason is Reason.TOO_MANY_DEVICES
        else:
            assert verdict.refused is None

    def is_on_time(self, packet: Packet) -> None:
        """By the time that it really is, which the gate may not know."""
        late = round(self.true * SECOND) - packet.date.issued
        if self.gate_is_right and isinstance(self.gate.state, Sure):
            assert abs(late) <= WINDOW + A_FLOAT
        if self.gate_is_right and isinstance(self.gate.state, Floored):
            floor = self.gate.memory.floor()
            assert floor is not None and late <= round(self.true * SECOND) - floor.time + WINDOW

    def room(self, taken: Span) -> bool:
        """Whether one of the marks could go."""
        if len(list(self.gate.memory.marks())) < self.gate.memory.room:
            return True
        before = taken.lower if taken.sure else None
        return before is not None and any(newest < before for newest in self.newest.values())

    def all_is_right_again(self) -> None:
        """And then the gate has no clock at all: the next knock of each client opens."""
        if (self.gate.memory.room == FEW or self.keys_go) and not self.gate_is_right:
            return  # two wrong clocks, and no room or no key: test_marks.py has what remains
        self.gate.off, self.gate.vouched = 0, True
        for client in self.clients:
            client.off = 0
        for sure in (True, False):
            self.true += 130.5  # no client is then ahead by W to the nanosecond, with a date of W and one
            if not sure:
                self.the_admin_forgets_the_time()
                self.gate.vouched = False
            for client in self.clients:
                verdict = self.delivered(client.knock(self.true))
                self.lets_in(verdict)
                assert isinstance(self.gate.state, Sure) is sure


def lived(seed: int, length: int, memory: Callable[[int], Remembers]) -> None:
    """One course of things, and what must be in it."""
    life = Life(Random(seed), memory)
    for _ in range(length):
        life.go_on()
    life.all_is_right_again()
