"""The doors whose sequence the daemon follows: feeds the engine, and does what it answers, in its order.

Nothing is opened before what the engine asks for is settled, and no command runs for a door that could not
be opened.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from knockgate.capture.openings import Openings
from knockgate.config.arming import armed
from knockgate.config.doors import Configuration, Door
from knockgate.daemon.addresses import OwnAddresses
from knockgate.daemon.onetime import OneTimeDoors
from knockgate.effects import (
    ClaimLine,
    ClaimSettled,
    Effect,
    Event,
    OpenDoor,
    PacketPassed,
    PacketSeen,
    Tick,
)
from knockgate.engine import Engine
from knockgate.errors import Refused
from knockgate.model import Source
from knockgate.wire import bpf, frames

__all__ = ["Grants", "Hands"]

#: Batches of packets in a row, before the other things that wait have a turn.
_BATCHES = 4


class Hands(Protocol):
    """Who does what is decided here."""

    def open(self, door: Door, source: Source) -> bool:
        """Let the source in; whether it is in."""

    def run_commands(self, door: Door, source: Source) -> None:
        """Run what the door runs."""

    def complain(self, line: str) -> None:
        """Tell the administrator."""


class Grants:
    """Takes packets, in the order in which they came."""

    def __init__(self, configuration: Configuration, hands: Hands) -> None:
        self._doors = {door.name: door for door in configuration.doors}
        self._hands = hands
        self._own = OwnAddresses()
        self._one_time = OneTimeDoors(configuration)
        self._interface = configuration.gate.interface
        self._ears: Openings | None = None
        self.engine = Engine(armed(configuration, self._one_time.current()), limit=configuration.gate.tracked)
        self._pass_on_complaints()

    def listen(self) -> Openings:
        """Begin to hear packets, for ``hear_some``; raises Unavailable where the kernel does not let us."""
        interface, engine = self._interface, self.engine
        program = bpf.openings(udp=engine.datagrams, loopback=interface == "lo", flags=engine.flags)
        self._ears = Openings(program, interface)
        return self._ears

    def hear_some(self) -> None:
        """What was heard by now, or as much of it as is good for one time."""
        ears, engine = self._ears, self.engine
        if ears is None:
            raise AssertionError("nothing is heard before it listens")
        for _ in range(_BATCHES):
            packets = ears.take_some(engine.ports, engine.sources)
            if not packets:
                return
            self.hear(packets)

    def hear(self, packets: Iterable[bytes]) -> None:
        """Packets from their network headers on, out of the capture, in the order in which they came."""
        engine, ports, now = self.engine, self.engine.ports, time.monotonic()
        destination, is_own = b"", False  # of most packets both are those of the one before
        for packet in packets:
            try:
                seen = frames.observe(packet)
            except Refused:
                continue
            if seen.port not in ports and not engine.concerns(seen.protocol, seen.source, seen.port):
                continue
            if seen.destination != destination:
                destination = seen.destination
                is_own = destination in self._own
            # Of what is in transit the engine wants to know only where a door has a target.
            if is_own:
                if not engine.begin(seen, now):
                    self._feed(PacketSeen(seen), now)
            elif destination in engine.targets:
                self._feed(PacketPassed(seen), now)

    def next_wakeup(self) -> float | None:
        """When ``tick`` wants to be called; None for never."""
        rested = self._ears.next_wakeup() if self._ears else None
        wakeups = (self.engine.next_wakeup(), self._one_time.next_look(), rested)
        return min((wakeup for wakeup in wakeups if wakeup is not None), default=None)

    def tick(self) -> None:
        """Time passed."""
        now = time.monotonic()
        if self._ears:
            self._ears.tick()
        for door in self._one_time.due(now):
            self._feed(self._one_time.next(door), now)
            self._pass_on_complaints()
        self._feed(Tick(), now)

    def close(self) -> None:
        """Let go of what it asks and hears the kernel with."""
        self._own.close()
        if self._ears:
            self._ears.close()

    def _feed(self, event: Event, now: float) -> None:
        answered = self.engine.feed(event, now)
        if not answered:
            return
        effects = deque(answered)
        refused: set[tuple[str, Source]] = set()
        while effects:
            effect = effects.popleft()
            if isinstance(effect, ClaimLine):
                effects.extendleft(reversed(self._claim(effect, now)))
            elif isinstance(effect, OpenDoor):
                if not self._hands.open(self._doors[effect.door], effect.source):
                    refused.add((effect.door, effect.source))
            elif (effect.door, effect.source) not in refused:
                self._hands.run_commands(self._doors[effect.door], effect.source)

    def _claim(self, claim: ClaimLine, now: float) -> tuple[Effect, ...]:
        claimed = self._one_time.claim(claim)
        settled = ClaimSettled(claim.door, claim.source, claim.line, claimed=claimed)
        effects = self.engine.feed(settled, now)
        self.engine.feed(self._one_time.next(claim.door), now)
        self._pass_on_complaints()
        return effects

    def _pass_on_complaints(self) -> None:
        for line in self._one_time.complaints:
            self._hands.complain(line)
        self._one_time.complaints.clear()
