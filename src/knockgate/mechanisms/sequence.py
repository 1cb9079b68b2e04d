"""Knock sequences: who has made which part of which sequence.

Theory
------
A door opens when the last connection-opening packets of one source were exactly the steps of its
sequence, in order, the first and the last less than ``within`` seconds apart. A packet that repeats
the knock just made does not count: TCP retransmits, and a capture may deliver twice.

So all there is to know of a source is which *prefixes* of which sequences its last packets spell,
and when each of them began. A packet moves every prefix at once:

* the next step lengthens the prefix, and it keeps its beginning;
* a repeat of the last step leaves the prefix as it is;
* a first step begins a prefix of length one, now;
* every prefix that did none of this is gone: that is the reset, and since it holds for a packet to
  any port, a sweep over a range of ports destroys what it builds.

Where two ways lead to the same prefix the later beginning wins, for it leaves more time. A prefix
whose time is up is gone as well: at ``beginning + within`` exactly it is too late. Prefixes that do
not exist cost nothing, and nobody's packet touches another source's prefixes.

Which packets are heard at all, as a step or as a reset, is one rule for a whole tracker (``Counted``):
openings to this host, unless a configuration names other TCP flags or another address. What does not
count is as if it had never come, so sequences with different rules need a tracker each.

The moves are a table from port to (prefix before, prefix after), made once; in it prefixes of all
sequences are numbered through. That table is the whole mechanism, and ``_hear`` applies it.

Memory is bounded by ``limit`` sources. When it is full, the source whose last first knock is the
oldest is forgotten: under a flood of made-up sources an honest knock survives as long as fewer than
``limit`` first knocks come in between. Sources that begin the same at the same time share one object: that is
a flood of first knocks, and the less each of them costs the fewer are lost.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from knockgate.effects import Event, OpenDoor, PacketPassed, PacketSeen
from knockgate.mechanisms.knocks import KnockSequence
from knockgate.model import Observation, Source

__all__ = ["OPENINGS", "Counted", "KnockSequence", "KnockTracker", "Tally"]

_NOTHING = 0  # the empty prefix, which every source always has
_UDP = 17


@dataclass(frozen=True, slots=True)
class Counted:
    """Which packets count, as a step or as a reset.

    Of TCP those whose flags (octet 13) under ``mask`` are ``value``. Of UDP every datagram, or none where
    no sequence has a step that is one. With ``target`` (4 or 16 bytes) what is addressed to it, whether
    it is this host's or not; without it what is addressed to this host.
    """

    mask: int = 0x17  # of FIN, SYN, RST and ACK only SYN
    value: int = 0x02
    datagrams: bool = True
    target: bytes | None = None


#: What opens a connection to this host.
OPENINGS = Counted()


@dataclass(slots=True)
class Tally:
    """What happened since the start; strangers' doings are counted here and never logged singly."""

    begun: int = 0  #: first knocks
    opened: int = 0  #: sequences completed
    reset: int = 0  #: sources that lost all they had to another packet
    forgotten: int = 0  #: sources dropped for want of room


class _Progress(NamedTuple):
    begun: float  # time of the latest first knock
    prefixes: Mapping[int, float]  # prefix -> its beginning; not to be changed, since it may be shared


_NO_PROGRESS = _Progress(0.0, {})


class KnockTracker:
    """Feeds on packets and the time; answers with the doors to open. Times are seconds, monotonic."""

    def __init__(
        self, sequences: Sequence[KnockSequence], *, limit: int = 65536, counted: Counted = OPENINGS
    ) -> None:
        """``limit``: how many sources are remembered, at least 1."""
        if limit < 1:
            raise ValueError("at least one source must be remembered")
        self.tally = Tally()
        self._limit = limit
        self._mask, self._value = counted.mask, counted.value
        self._datagrams, self._target = counted.datagrams, counted.target
        self._heard: tuple[type[PacketSeen | PacketPassed], ...] = (PacketSeen,)
        if self._target is not None:
            self._heard = (PacketSeen, PacketPassed)
        self._sources: OrderedDict[Source, _Progress] = OrderedDict()  # oldest ``begun`` first
        self._moves: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._within: dict[int, float] = {}
        self._doors: dict[int, str] = {}
        number = _NOTHING
        for sequence in sequences:
            before = _NOTHING
            for step in sequence.steps:
                number += 1
                moves = self._moves.setdefault((step.protocol, step.number), [])
                moves += [(before, number), (number, number)]
                self._within[number] = sequence.within
                before = number
            self._doors[number] = sequence.door
        #: By port, where one knock opens nothing: what was begun there by who was last heard of whom nothing
        #: was known.
        self._begins = {port: begins for port in self._moves if (begins := self._begun_at(port)).prefixes}
        self._now: float | None = None
        #: Numbers of all ports of all steps.
        self.ports = frozenset(port for _, port in self._moves)
        self._longest = max((sequence.within for sequence in sequences), default=0.0)

    def __len__(self) -> int:
        """Sources remembered now."""
        return len(self._sources)

    @property
    def sources(self) -> KeysView[Source]:
        """Sources remembered now; a packet of theirs to any port can change something."""
        return self._sources.keys()

    def concerns(self, protocol: int, source: Source, port: int) -> bool:
        """False where a packet cannot change anything: nobody's progress, and to a port of no sequence."""
        return source in self._sources or (protocol, port) in self._moves

    def feed(self, event: Event, now: float) -> tuple[OpenDoor, ...]:
        """Take one event at the time ``now``, which never runs backwards; returns what is to be done."""
        if isinstance(event, PacketSeen) and self.begin(event.observation, now):
            return ()
        if now != self._now:
            self._expire(now)
        if isinstance(event, self._heard) and self._counts(event.observation):
            return self._hear(event.observation, now)
        return ()

    def begin(self, seen: Observation, now: float) -> bool:
        """Whether this packet for this host is a first knock of somebody of whom nothing is known.

        Then all is done that is to be done, and nothing opens. It is the short way for a flood of these.
        """
        if now != self._now:
            self._expire(now)
        source, _, protocol, _, port, flags, _ = seen
        sources, key = self._sources, (protocol, port)
        progress = self._begins.get(key)
        if progress is None or source in sources or self._target is not None:
            return False
        if protocol == _UDP or flags & self._mask != self._value:
            return False
        if progress.begun != now:
            progress = self._begins[key] = _Progress(now, dict.fromkeys(progress.prefixes, now))
        self.tally.begun += 1
        sources[source] = progress
        if len(sources) > self._limit:
            self._forget()
        return True

    def next_wakeup(self) -> float | None:
        """When a ``Tick`` would let something be forgotten; None while nothing is remembered."""
        for progress in self._sources.values():
            return progress.begun + self._longest
        return None

    def _counts(self, seen: Observation) -> bool:
        if self._target is not None and seen.destination != self._target:
            return False
        return self._datagrams if seen.protocol == _UDP else seen.flags & self._mask == self._value

    def _begun_at(self, port: tuple[int, int]) -> _Progress:
        begins = [then for before, then in self._moves[port] if before == _NOTHING]
        opens = any(number in self._doors for number in begins)
        return _NO_PROGRESS if opens else _Progress(-math.inf, dict.fromkeys(begins, -math.inf))

    def _hear(self, seen: Observation, now: float) -> tuple[OpenDoor, ...]:
        source = seen.source
        progress = self._sources.get(source, _NO_PROGRESS)
        moves = self._moves.get((seen.protocol, seen.port), ())
        if not moves and progress is _NO_PROGRESS:
            return ()
        after: dict[int, float] = {}
        begun = False
        for before, then in moves:
            beginning = now if before == _NOTHING else progress.prefixes.get(before)
            if beginning is None or now >= beginning + self._within[then]:
                continue
            after[then] = max(beginning, after.get(then, beginning))
            begun = begun or before == _NOTHING
        opened = [number for number in after if number in self._doors]
        for number in opened:
            del after[number]
        self.tally.opened += len(opened)
        self.tally.begun += begun
        self.tally.reset += bool(progress.prefixes) and not after and not opened
        if begun and after:
            self._sources[source] = _Progress(now, after)
            self._sources.move_to_end(source)
            if len(self._sources) > self._limit:
                self._forget()
        elif after:
            self._sources[source] = _Progress(progress.begun, after)
        else:
            self._sources.pop(source, None)
        return tuple(OpenDoor(self._doors[number], source) for number in opened)

    def _forget(self) -> None:
        self._sources.popitem(last=False)
        self.tally.forgotten += 1

    def _expire(self, now: float) -> None:
        self._now = now
        while self._sources:
            source, progress = next(iter(self._sources.items()))
            if now < progress.begun + self._longest:  # as next_wakeup() reckons, to the last bit
                return
            del self._sources[source]
