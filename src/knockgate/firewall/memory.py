"""A firewall that exists in memory only: the same leases, the same automaton, no kernel.

``simulate`` runs it over a packet capture, and tests run it where a kernel would only be slow. One
conformance suite holds it and the real table to the same answers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door, RunsIn
from knockgate.errors import Unavailable
from knockgate.firewall.ruleset import automaton_of
from knockgate.mechanisms.automaton import NOWHERE, STAY
from knockgate.model import Lease, Observation, Port, Protocol, Source

__all__ = ["MemoryFirewall", "Ruling", "Verdict"]

#: A source whose state found room in the second tier only is forgotten after this many seconds.
_HURRY = 1.0


class Verdict(enum.Enum):
    """What becomes of a packet."""

    PASSED = "passed"
    DROPPED = "dropped"


class Ruling(NamedTuple):
    """The verdict on one packet, and why."""

    verdict: Verdict
    why: str
    opened: tuple[str, ...] = ()  #: doors that this packet opened


class _Granted(NamedTuple):
    ends: float
    lasts: float
    by: str


class _Progress(NamedTuple):
    state: int
    ends: float


class MemoryFirewall:
    """Satisfies ``world.Firewall``, and judges packets as the table's chains do.

    ``now`` tells seconds, never backwards. What it leaves out: connection tracking (a packet that opens
    no connection passes), the pace, and the length of the kernel's log.
    """

    def __init__(self, configuration: Configuration, now: Callable[[], float]) -> None:
        self._now = now
        self._loaded = False
        self._limit = configuration.gate.leases
        self._leases: dict[tuple[bool, Port, Source], _Granted] = {}
        self._progress: dict[Source, _Progress] = {}
        self._tiers = (configuration.gate.sources, configuration.gate.hurried)
        self._automaton = automaton_of(configuration)
        self._doors = {door.name: door for door in configuration.doors}
        self._guarded = {port: door for door in configuration.doors for port in door.ports}
        self._quiet = {
            step
            for door in configuration.doors
            if door.ports and door.sequence and door.sequence.runs_in is RunsIn.DAEMON
            for step in door.sequence.steps
        }

    # --- world.Firewall ---

    def load(self, ruleset: str) -> None:  # noqa: ARG002 - the rules are those of the configuration
        """Guard from now on; half-made sequences are forgotten, leases stay."""
        self._loaded = True
        self._progress.clear()

    def unload(self) -> None:
        """Forget everything."""
        self._loaded = False
        self._leases.clear()
        self._progress.clear()

    def is_loaded(self) -> bool:
        """Whether it guards."""
        return self._loaded

    def open(self, ports: Sequence[Port], source: Source, seconds: float, by: str) -> None:
        """Begin or renew the leases, all or none; raises Unavailable where there is no room."""
        if not self._loaded:
            raise Unavailable("the table is not loaded", hint="knockgate up")
        self._expire()
        given = by == "hand"
        fresh = [port for port in ports if (given, port, source) not in self._leases]
        if self._live(len(source), given=given) + len(fresh) > self._limit:
            raise Unavailable("no room for another lease", hint="raise leases in [gate]")
        for port in ports:
            self._leases[given, port, source] = _Granted(self._now() + seconds, seconds, by)

    def close(self, ports: Sequence[Port], sources: Iterable[Source]) -> int:
        """End these leases, whoever gave them; returns how many there were."""
        self._expire()
        keys = [(given, port, source) for source in sources for port in ports for given in (False, True)]
        return sum(self._leases.pop(key, None) is not None for key in keys)

    def leases(self) -> list[Lease]:
        """All live leases."""
        self._expire()
        now = self._now()
        return [
            Lease(port, source, granted.ends - now, granted.lasts, granted.by)
            for (_, port, source), granted in self._leases.items()
        ]

    # --- the packet path ---

    def judge(self, seen: Observation) -> Ruling:
        """What becomes of a packet for this host, and of its source's half-made sequences."""
        self._forget_late(seen.source)
        port = Port(Protocol(seen.protocol), seen.port) if seen.port else None
        door = self._guarded.get(port) if port else None
        if not seen.opens_connection:
            if port in self._automaton.ports or port in self._quiet:
                return Ruling(Verdict.DROPPED, "a knock port, and no packet that opens a connection")
            return Ruling(Verdict.PASSED, "opens no connection")
        if port is not None and port in self._automaton.ports:
            return self._step(seen.source, port)
        lost = " and resets its sequence" if self._progress.pop(seen.source, None) else ""
        if door and port:
            return self._at_the_door(seen.source, port, door, lost)
        if port in self._quiet:
            return Ruling(Verdict.DROPPED, f"a knock that the daemon listens for{lost}")
        return Ruling(Verdict.PASSED, f"no port of the gate{lost}")

    def _at_the_door(self, source: Source, port: Port, door: Door, lost: str) -> Ruling:
        for given in (False, True):
            lease = self._leases.get((given, port, source))
            if lease and (left := lease.ends - self._now()) > 0:
                return Ruling(Verdict.PASSED, f"door {door.name}: a lease for {left:.3f} s more{lost}")
        return Ruling(Verdict.DROPPED, f"door {door.name} is shut{lost}")

    def _step(self, source: Source, port: Port) -> Ruling:
        state = self._progress[source].state if source in self._progress else NOWHERE
        then = self._automaton.move(state, port)
        if then == STAY:
            return Ruling(Verdict.DROPPED, "the knock just made, once more")
        self._progress.pop(source, None)
        if then == NOWHERE:
            return Ruling(Verdict.DROPPED, "a knock out of turn: back to the start")
        reached = self._automaton.states[then]
        why = "a first knock" if state == NOWHERE else "the next knock"
        if reached.within and not self._remember(source, then, reached.within):
            why += ", but no room to remember it"
        for name in reached.opens:
            door = self._doors[name]
            if door.ports:
                self.open(door.ports, source, door.lease, "kernel sequence")
        if reached.opens:
            why = f"the last knock: opens {', '.join(reached.opens)}"
        return Ruling(Verdict.DROPPED, why, reached.opens)

    def _remember(self, source: Source, state: int, within: float) -> bool:
        first, second = self._tiers
        if len(self._progress) >= first:  # of both families: then it is worth to look closer
            for other in [other for other, each in self._progress.items() if each.ends <= self._now()]:
                del self._progress[other]
        taken = (
            sum(len(other) == len(source) for other in self._progress) if len(self._progress) >= first else 0
        )
        if taken >= first + second:
            return False
        time = within if taken < first else min(within, _HURRY)
        self._progress[source] = _Progress(state, self._now() + time)
        return True

    def _forget_late(self, source: Source) -> None:
        progress = self._progress.get(source)
        if progress and progress.ends <= self._now():
            del self._progress[source]

    def _live(self, length: int, *, given: bool) -> int:
        return sum(by_hand == given and len(source) == length for by_hand, _, source in self._leases)

    def _expire(self) -> None:
        for key in [key for key, lease in self._leases.items() if lease.ends <= self._now()]:
            del self._leases[key]
