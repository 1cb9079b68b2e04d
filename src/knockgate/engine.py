"""The order of a grant, for the doors whose sequence the daemon follows.

::

    packet -> a sequence is complete -> OpenDoor, RunCommands
                       one-time      -> ClaimLine ... ClaimSettled -> OpenDoor, RunCommands
                                        Rearmed with the next line

Whoever feeds it does what it answers, in the order given, and feeds it what came of that. It knows
doors by name, decides by packets and time alone, and can be fed the same again: the answers are the same.

Doors that count the same packets share a tracker. One with one-time sequences has its own, which its
next sequence replaces, so that this resets nobody at another door. Between a claim and the next sequence
nothing opens such a door: of two who complete one line only the first is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from knockgate.effects import (
    ClaimLine,
    ClaimSettled,
    Effect,
    Event,
    OpenDoor,
    PacketPassed,
    PacketSeen,
    Rearmed,
    RunCommands,
    Tick,
)
from knockgate.mechanisms.sequence import OPENINGS, Counted, KnockSequence, KnockTracker, Tally
from knockgate.model import Observation, Port, Protocol, Source

__all__ = ["Armed", "Engine"]

#: Sources that each tracker remembers at least, however many of them share the memory.
_LEAST = 64
_OPENING = (OPENINGS.mask, OPENINGS.value)


@dataclass(frozen=True, slots=True)
class Armed:
    """A door and what opens it. ``counted.datagrams`` is not looked at; it follows from the steps."""

    door: str
    steps: tuple[Port, ...]  #: none where all one-time sequences are used
    within: float  #: seconds from the first knock to the last
    counted: Counted = OPENINGS
    line: int | None = None  #: of one-time sequences: where these stand, 0 where all are used
    runs_commands: bool = False


class Engine:
    """Feeds on events and the time; answers with what is to be done. Times are seconds, monotonic."""

    def __init__(self, doors: Sequence[Armed], *, limit: int = 65536) -> None:
        """``limit``: how many sources are remembered, shared among the trackers."""
        self._runs_commands = {door.door for door in doors if door.runs_commands}
        self._one_time = {door.door: door for door in doors if door.line is not None}
        self._lines = {door.door: door.line for door in doors if door.line is not None}
        self._claims: dict[str, ClaimLine] = {}
        shared: dict[Counted, list[Armed]] = {}
        for door in doors:
            if door.line is None:
                shared.setdefault(_counted(door), []).append(door)
        self._limit = max(_LEAST, limit // max(1, len(shared) + len(self._one_time)))
        self._shared = [self._tracker(group) for group in shared.values()]
        self._own = {name: self._tracker([door]) for name, door in self._one_time.items()}
        self._gather()
        #: TCP flags (mask, value) that must be heard beside openings.
        self.flags = sorted({(door.counted.mask, door.counted.value) for door in doors} - {_OPENING})
        #: Whether datagrams must be heard; the next line of a one-time door may have some.
        self.datagrams = bool(self._one_time) or any(counted.datagrams for counted in shared)
        #: Addresses, beside this host's own, to which packets must be heard.
        self.targets = frozenset(door.counted.target for door in doors if door.counted.target is not None)

    def __len__(self) -> int:
        """Sources remembered now, each as often as there are trackers that remember it."""
        return sum(map(len, self._trackers))

    @property
    def ports(self) -> frozenset[int]:
        """Numbers of all ports of all steps; another one-time sequence may have others."""
        return self._ports

    @property
    def sources(self) -> Collection[Source]:
        """Sources remembered now, by any tracker."""
        return self._trackers[0].sources if len(self._trackers) == 1 else _Sources(self._trackers)

    @property
    def tally(self) -> Tally:
        """What happened since the start."""
        tally = Tally()
        for tracker in self._trackers:
            for field in dataclasses.fields(Tally):
                name = field.name
                setattr(tally, name, getattr(tally, name) + getattr(tracker.tally, name))
        return tally

    def concerns(self, protocol: int, source: Source, port: int) -> bool:
        """False where a packet cannot change anything."""
        for tracker in self._trackers:  # noqa: SIM110 - faster than any(); a whole flood comes through here
            if tracker.concerns(protocol, source, port):
                return True
        return False

    def begin(self, seen: Observation, now: float) -> bool:
        """As ``KnockTracker.begin``; False also where more than one tracker would have to be asked."""
        return len(self._trackers) == 1 and self._trackers[0].begin(seen, now)

    def feed(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Take one event at the time ``now``, which never runs backwards; returns what is to be done."""
        match event:
            case PacketSeen() | PacketPassed() | Tick():
                return self._hear(event, now)
            case ClaimSettled():
                return self._settle(event)
            case Rearmed():
                self._rearm(event)
                return ()

    def next_wakeup(self) -> float | None:
        """When a ``Tick`` would let something be forgotten; None while nothing is remembered."""
        wakeups = (tracker.next_wakeup() for tracker in self._trackers)
        return min((wakeup for wakeup in wakeups if wakeup is not None), default=None)

    def _tracker(self, doors: Sequence[Armed]) -> KnockTracker:
        sequences = [KnockSequence(door.door, door.steps, door.within) for door in doors if door.steps]
        return KnockTracker(sequences, limit=self._limit, counted=_counted(doors[0]))

    def _hear(self, event: PacketSeen | PacketPassed | Tick, now: float) -> tuple[Effect, ...]:
        effects: list[Effect] = []
        for tracker in self._shared:
            for completed in tracker.feed(event, now):
                effects += self._grant(completed)
        for door, tracker in self._own.items():
            for completed in tracker.feed(event, now):
                effects.append(self._claim(completed))
                self._replace(door, ())
        return tuple(effects)

    def _grant(self, completed: OpenDoor) -> list[Effect]:
        door, source = completed.door, completed.source
        return [completed, RunCommands(door, source)] if door in self._runs_commands else [completed]

    def _claim(self, completed: OpenDoor) -> ClaimLine:
        claim = ClaimLine(completed.door, completed.source, self._lines[completed.door])
        self._claims[completed.door] = claim
        return claim

    def _settle(self, event: ClaimSettled) -> tuple[Effect, ...]:
        """A claim that nobody waits for any more opens nothing, whatever its answer."""
        if self._claims.get(event.door) != ClaimLine(event.door, event.source, event.line):
            return ()
        del self._claims[event.door]
        return tuple(self._grant(OpenDoor(event.door, event.source))) if event.claimed else ()

    def _rearm(self, event: Rearmed) -> None:
        """Its claim is settled before a door gets the next sequence; what came too late is void."""
        self._claims.pop(event.door, None)
        self._lines[event.door] = event.line
        self._replace(event.door, event.steps)

    def _replace(self, door: str, steps: tuple[Port, ...]) -> None:
        tally = self._own[door].tally
        self._own[door] = self._tracker([dataclasses.replace(self._one_time[door], steps=steps)])
        self._own[door].tally = tally
        self._gather()

    def _gather(self) -> None:
        self._trackers = [*self._shared, *self._own.values()]
        self._ports = frozenset[int]().union(*(tracker.ports for tracker in self._trackers))


class _Sources(Collection[Source]):
    """Those of several trackers, which may be many, without a copy of them."""

    def __init__(self, trackers: Iterable[KnockTracker]) -> None:
        self._each = [tracker.sources for tracker in trackers]

    def __contains__(self, source: object) -> bool:
        return any(source in sources for sources in self._each)

    def __iter__(self) -> Iterator[Source]:
        return chain.from_iterable(self._each)

    def __len__(self) -> int:
        return sum(map(len, self._each))


def _counted(door: Armed) -> Counted:
    """Ordinary datagrams reset only those sequences that have some of their own."""
    return dataclasses.replace(
        door.counted, datagrams=any(step.protocol is Protocol.UDP for step in door.steps)
    )
