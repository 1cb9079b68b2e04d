"""A firewall that exists in memory only: the same leases, the same automaton, no kernel.

``simulate`` runs it over a packet capture, and tests run it where a kernel would only be slow. Tests
hold it and the real table to the same answers: one list of cases for both, and traffic captured beside
the real table, replayed here.

What it leaves out: the length of the kernel's log; two sources that share a bucket of the pace, since
the kernel draws the buckets anew each time; fragments, which the kernel puts together first; and of
connection tracking all that ``sessions`` does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door, RunsIn
from knockgate.errors import Unavailable
from knockgate.firewall.progress import Progress
from knockgate.firewall.ruleset import automaton_of, pace_burst
from knockgate.firewall.sessions import Sessions
from knockgate.mechanisms.automaton import NOWHERE, STAY, State
from knockgate.model import NETWORK_SIZE, Lease, Observation, Port, Protocol, Source

__all__ = ["MemoryFirewall", "Place", "Reach", "Ruling", "Verdict"]


class Verdict(enum.Enum):
    """What becomes of a packet."""

    PASSED = "passed"
    DROPPED = "dropped"


class Reach(enum.Enum):
    """Where a packet is addressed to, as ``fib daddr type`` of nft tells."""

    LOCAL = "this host"
    GROUP = "everybody"
    TRANSIT = "another host"


class Place(enum.Enum):
    """What a packet's port is to the gate."""

    DOOR = "door"
    KNOCK = "knock"
    NONE = "none"


class Ruling(NamedTuple):
    """The verdict on one packet, and why."""

    verdict: Verdict
    why: str
    place: Place = Place.NONE
    opened: tuple[str, ...] = ()  #: doors that this packet opened
    reset: bool = False  #: it made an end of a half-made sequence


class _Granted(NamedTuple):
    ends: float
    lasts: float
    by: str


class MemoryFirewall:
    """Satisfies ``world.Firewall``, and judges packets as the table's chains do.

    ``now`` tells seconds, never backwards. ``sessions`` must be told of what the host itself sends.
    """

    def __init__(self, configuration: Configuration, now: Callable[[], float]) -> None:
        self.sessions = Sessions(now)
        self._now = now
        self._loaded = False
        self._limit = configuration.gate.leases
        self._leases: dict[tuple[bool, Port, Source], _Granted] = {}
        gate = configuration.gate
        self._progress = Progress(
            now, sources=gate.sources, hurried=gate.hurried, burst=pace_burst(configuration)
        )
        self._automaton = automaton_of(configuration)
        self._doors = {door.name: door for door in configuration.doors}
        self._guarded = {port: door for door in configuration.doors for port in door.ports}
        self._quiet = {
            step
            for door in configuration.doors
            if door.ports and door.sequence and door.sequence.runs_in is RunsIn.DAEMON
            for step in door.sequence.steps
        }
        for packets in (configuration.fwknop, configuration.sealed):
            if packets:
                self._quiet.add(packets.port)

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
        given = _kept_apart(source, by)
        if by == "packet":
            ports = [port for port in ports if self._left(port, source) < seconds]
        fresh = [port for port in ports if (given, port, source) not in self._leases]
        if self._live(len(source), given=given) + len(fresh) > self._limit:
            raise Unavailable("no room for another lease", hint="raise leases in [gate]")
        for port in ports:
            self._leases[given, port, source] = _Granted(self._now() + seconds, seconds, by)

    def _left(self, port: Port, source: Source) -> float:
        """Seconds of what was given beside the knocks."""
        granted = self._leases.get((True, port, source))
        return granted.ends - self._now() if granted else 0.0

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

    def judge(self, seen: Observation, reach: Reach = Reach.LOCAL) -> Ruling:
        """What becomes of a packet that comes in, and of its source's half-made sequences."""
        ruling = self._judge(seen, reach)
        self.sessions.note(seen, let_in=ruling.verdict is Verdict.PASSED)
        return ruling

    def door_at(self, seen: Observation) -> Door | None:
        """The door that a packet is addressed to."""
        return self._guarded.get(Port(Protocol(seen.protocol), seen.port)) if seen.port else None

    def _judge(self, seen: Observation, reach: Reach) -> Ruling:
        if self.sessions.under_way(seen):
            return Ruling(Verdict.PASSED, "of a session under way")
        port = Port(Protocol(seen.protocol), seen.port) if seen.port else None
        if door := self.door_at(seen):
            return self._at_the_door(seen, door, reach)
        if port in self._automaton.ports or port in self._quiet:
            if reach is not Reach.LOCAL:
                return Ruling(Verdict.PASSED, f"a knock port, but addressed to {reach.value}")
            if not seen.opens_connection:
                return Ruling(Verdict.DROPPED, "a knock port, and it opens no connection", Place.KNOCK)
            if port in self._automaton.ports:
                return self._step(seen.source, port)
            return self._resetting(seen, Verdict.DROPPED, "a knock that the daemon listens for", Place.KNOCK)
        if not seen.opens_connection:
            return Ruling(Verdict.PASSED, "opens no connection")
        if reach is not Reach.LOCAL:
            return Ruling(Verdict.PASSED, f"addressed to {reach.value}")
        return self._resetting(seen, Verdict.PASSED, "no port of the gate")

    def _at_the_door(self, seen: Observation, door: Door, reach: Reach) -> Ruling:
        if reach is Reach.TRANSIT:
            return Ruling(Verdict.PASSED, f"door {door.name}, but addressed to {reach.value}")
        port = Port(Protocol(seen.protocol), seen.port)
        verdict, why = Verdict.DROPPED, f"door {door.name} is shut"
        network = seen.source[:NETWORK_SIZE]  # of an IPv4 address it is the address once more
        for given, source in ((False, seen.source), (True, seen.source), (True, network)):
            lease = self._leases.get((given, port, source))
            if lease and (left := lease.ends - self._now()) > 0:
                verdict, why = Verdict.PASSED, f"door {door.name}: a lease for {left:.3f} s more"
        return self._resetting(seen, verdict, why, Place.DOOR)

    def _resetting(self, seen: Observation, verdict: Verdict, why: str, place: Place = Place.NONE) -> Ruling:
        reset = seen.opens_connection and self._progress.forget(seen.source)
        return Ruling(verdict, why + ", and resets its sequence" * reset, place, reset=reset)

    def _step(self, source: Source, port: Port) -> Ruling:
        state = self._progress.state(source)
        then = self._automaton.move(state, port)
        if then == STAY:
            return Ruling(Verdict.DROPPED, "the knock just made, once more", Place.KNOCK)
        if then == NOWHERE:
            reset = self._progress.forget(source)
            why = "a knock out of turn" + ", and resets its sequence" * reset
            return Ruling(Verdict.DROPPED, why, Place.KNOCK, reset=reset)
        reached = self._automaton.states[then]
        if self._progress.is_paced(source, reached.within):
            return Ruling(Verdict.DROPPED, "too many knocks: this one does not count", Place.KNOCK)
        self._progress.forget(source)
        is_first = self._automaton.move(NOWHERE, port) == then
        reset = is_first and state not in (NOWHERE, then) and not reached.opens
        why = "a first knock" if is_first else "the next knock"
        why += ", and resets what was begun" * reset
        if reached.within and not self._progress.remember(source, then, reached.within):
            why += ", but no room to remember it"
        opened = self._open(reached, source)
        if opened:
            why = "the last knock"
        elif reached.opens:
            why = "the last knock, but no room for another lease"
        return Ruling(Verdict.DROPPED, why, Place.KNOCK, opened, reset)

    def _open(self, reached: State, source: Source) -> tuple[str, ...]:
        opened = []
        for name in reached.opens:
            door = self._doors[name]
            try:
                self.open(door.ports, source, door.lease, "kernel sequence")
            except Unavailable:
                continue
            opened.append(name)
        return tuple(opened)

    # --- leases ---

    def _live(self, length: int, *, given: bool) -> int:
        return sum(by_hand == given and len(source) == length for by_hand, _, source in self._leases)

    def _expire(self) -> None:
        for key in [key for key, lease in self._leases.items() if lease.ends <= self._now()]:
            del self._leases[key]


def _kept_apart(source: Source, by: str) -> bool:
    """Whether a lease lies beside those that are knocked for."""
    return by in ("hand", "packet") or len(source) == NETWORK_SIZE
