"""The doors whose sequence the daemon follows: feeds the engine, and does what it answers, in its order.

Nothing is opened before what the engine asks for is settled, and no command runs for a door that could not
be opened.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

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
from knockgate.wire import frames

__all__ = ["Grants", "Hands"]


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
        self.engine = Engine(armed(configuration, self._one_time.current()), limit=configuration.gate.tracked)
        self._pass_on_complaints()

    def hear(self, packet: bytes) -> None:
        """A packet from its network header on, out of the capture."""
        ends = frames.glance(packet)
        if ends and not self.engine.concerns(*ends):
            return  # most of a flood, and nothing more than necessary is done for it
        try:
            seen = frames.observe(packet)
        except Refused:
            return
        # Of what is in transit the engine wants to know only where a door has a target.
        if seen.destination in self._own:
            self._feed(PacketSeen(seen))
        elif seen.destination in self.engine.targets:
            self._feed(PacketPassed(seen))

    def next_wakeup(self) -> float | None:
        """When ``tick`` wants to be called; None for never."""
        wakeups = (self.engine.next_wakeup(), self._one_time.next_look())
        return min((wakeup for wakeup in wakeups if wakeup is not None), default=None)

    def tick(self) -> None:
        """Time passed."""
        for door in self._one_time.due(time.monotonic()):
            self._feed(self._one_time.next(door))
            self._pass_on_complaints()
        self._feed(Tick())

    def close(self) -> None:
        """Let go of what it asks the kernel with."""
        self._own.close()

    def _feed(self, event: Event) -> None:
        now = time.monotonic()
        effects = deque(self.engine.feed(event, now))
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
