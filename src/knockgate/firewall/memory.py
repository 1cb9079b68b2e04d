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
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door
from knockgate.config.readers import Network
from knockgate.errors import Unavailable
from knockgate.firewall.doorway import SHADOW_KEPT, SHADOW_SOURCES
from knockgate.firewall.progress import Progress
from knockgate.firewall.ruleset import automaton_of, pace_burst
from knockgate.firewall.sessions import Sessions
from knockgate.mechanisms.automaton import NOWHERE, STAY, State
from knockgate.model import (
    NETWORK_SIZE,
    Lease,
    Observation,
    Pause,
    Port,
    Protocol,
    Shadow,
    Shadowed,
    Source,
)

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
    would_drop: bool = False  #: it passed because its door is in shadow


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
        self._pauses: dict[Port, _Granted] = {}
        self._shadow = _Shadow(now)
        gate = configuration.gate
        self._allow = gate.allow
        self._silence = Verdict.PASSED if gate.shadow else Verdict.DROPPED
        self._in_shadow = {door.name for door in configuration.doors if configuration.in_shadow(door)}
        self._progress = Progress(
            now, sources=gate.sources, hurried=gate.hurried, burst=pace_burst(configuration)
        )
        self._automaton = automaton_of(configuration)
        self._doors = {door.name: door for door in configuration.doors}
        self._guarded = {port: door for door in configuration.doors for port in door.ports}
        self._quiet = configuration.quiet_ports()

    # --- world.Firewall ---

    def load(self, ruleset: str) -> None:  # noqa: ARG002 - the rules are those of the configuration
        """Guard from now on; half-made sequences are forgotten, leases and pauses stay."""
        self._loaded = True
        self._progress.clear()

    def unload(self) -> None:
        """Forget everything."""
        self._loaded = False
        self._leases.clear()
        self._pauses.clear()
        self._shadow = _Shadow(self._now)
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

    def pause(self, ports: Sequence[Port], seconds: float) -> None:
        """Let everybody in for a time, or no longer; raises Unavailable without a table."""
        if not self._loaded:
            raise Unavailable("the table is not loaded", hint="knockgate up")
        for port in ports:
            self._pauses[port] = _Granted(self._now() + seconds, seconds, "")

    def pauses(self) -> list[Pause]:
        """All live ones."""
        now = self._now()
        return [
            Pause(port, pause.ends - now, pause.lasts)
            for port, pause in self._pauses.items()
            if pause.ends > now
        ]

    def shadow(self) -> Shadow:
        """What came to the ports that are in shadow."""
        return self._shadow.told()

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
                return Ruling(self._silence, "a knock port, and it opens no connection", Place.KNOCK)
            if port in self._automaton.ports:
                return self._step(seen.source, port)._replace(verdict=self._silence)
            return self._resetting(seen, self._silence, "a knock that the daemon listens for", Place.KNOCK)
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
        if verdict is Verdict.DROPPED and _is_in(seen.source, (*self._allow, *door.allow)):
            verdict, why = Verdict.PASSED, f"door {door.name}: always let in"
        is_paused = verdict is Verdict.DROPPED and port in {pause.port for pause in self.pauses()}
        if is_paused:
            verdict, why = Verdict.PASSED, f"door {door.name} is paused"
        would_drop = verdict is Verdict.DROPPED and door.name in self._in_shadow
        if would_drop:
            verdict, why = Verdict.PASSED, f"{why}, but for its shadow"
        if door.name in self._in_shadow and seen.opens_connection and not is_paused:
            self._shadow.count(seen.source, port, would_drop=would_drop)
        return self._resetting(seen, verdict, why, Place.DOOR)._replace(would_drop=would_drop)

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


def _is_in(source: Source, networks: Iterable[Network]) -> bool:
    address = ipaddress.ip_address(source)
    return any(address in network for network in networks)


class _Shadow:
    """What a shadow is asked about."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ports: dict[tuple[bool, Port], int] = {}
        #: One memory for each answer and family: who -> how often, and when for the last time.
        self._sources: dict[tuple[bool, int], dict[tuple[Source, Port], tuple[int, float]]] = {}

    def count(self, source: Source, port: Port, *, would_drop: bool) -> None:
        self._ports[would_drop, port] = self._ports.get((would_drop, port), 0) + 1
        room = self._sources.setdefault((would_drop, len(source)), {})
        if len(room) >= SHADOW_SOURCES or (source, port) in room:
            self._forget(room)
        if len(room) < SHADOW_SOURCES or (source, port) in room:
            count, _ = room.get((source, port), (0, 0.0))
            room[source, port] = count + 1, self._now()

    def told(self) -> Shadow:
        dropped, passed = (
            {port: count for (answer, port), count in self._ports.items() if answer is would_drop}
            for would_drop in (True, False)
        )
        for room in self._sources.values():
            self._forget(room)
        sources = [
            Shadowed(source, port, count, self._now() - last, would_drop)
            for (would_drop, _), room in self._sources.items()
            for (source, port), (count, last) in room.items()
        ]
        return Shadow(dropped, passed, sorted(sources, key=lambda each: each.ago))

    def _forget(self, room: dict[tuple[Source, Port], tuple[int, float]]) -> None:
        over = [who for who, (_, last) in room.items() if self._now() - last >= SHADOW_KEPT]
        for who in over:
            del room[who]
