"""What the daemon would make of packets: its engine, and whoever does what that answers, in memory.

Leases are given to the firewall in memory, lines of one-time sequences are spent in a list, and commands
are told and not run.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from knockgate.config.arming import Line, armed
from knockgate.config.doors import Configuration, Door
from knockgate.config.toml import spell
from knockgate.effects import (
    ClaimLine,
    ClaimSettled,
    Effect,
    OpenDoor,
    PacketPassed,
    PacketSeen,
    Rearmed,
)
from knockgate.engine import Engine
from knockgate.errors import Unavailable
from knockgate.firewall.memory import MemoryFirewall, Place
from knockgate.model import Observation, Port, Protocol, Source, address_text

__all__ = ["NOTHING_HEARD", "Heard", "Listening", "commands_in_words", "opening"]


class Heard(NamedTuple):
    """What the daemon makes of a packet."""

    why: str = ""
    place: Place = Place.NONE
    opened: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    reset: bool = False


NOTHING_HEARD = Heard()


class Listening:
    """The half of the gate that listens."""

    def __init__(
        self, configuration: Configuration, one_time: Mapping[str, Sequence[Line]], firewall: MemoryFirewall
    ) -> None:
        self._doors = {door.name: door for door in configuration.doors}
        self._lines = {door: list(lines) for door, lines in one_time.items()}
        self._firewall = firewall
        arms = armed(configuration, {door: lines[0] for door, lines in self._lines.items() if lines})
        self._engine = Engine(arms, limit=configuration.gate.tracked)
        self._knocks = {step for door in arms for step in door.steps}

    def hear(self, seen: Observation, now: float, *, local: bool) -> Heard:
        """What the daemon does about a packet; ``local``: it is addressed to this host."""
        protocol, source = seen.protocol, seen.source
        if not self._engine.concerns(protocol, source, seen.port):
            return NOTHING_HEARD
        before = self._engine.tally
        event = PacketSeen(seen) if local else PacketPassed(seen)
        opened, effects = self._do(self._engine.feed(event, now), now)
        after = self._engine.tally
        reset = after.reset > before.reset
        is_knock = bool(seen.port) and Port(Protocol(protocol), seen.port) in self._knocks
        why = ""
        if opened:
            why = "the daemon's last knock"
        elif after.begun > before.begun:
            why = "the daemon's first knock"
        elif reset:
            why = "resets a sequence of the daemon's"
        elif is_knock and self._engine.concerns(protocol, source, 0):  # no port: the source alone
            why = "a sequence of the daemon's is under way"
        elif is_knock:
            why = "no sequence of the daemon's is under way"
        return Heard(why, Place.KNOCK if is_knock else Place.NONE, opened, effects, reset)

    def _do(self, effects: Sequence[Effect], now: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(doors opened, what was done, in words), in the order in which the daemon does it."""
        waiting = deque(effects)
        opened: list[str] = []
        said: list[str] = []
        while waiting:
            effect = waiting.popleft()
            door = self._doors[effect.door]
            if isinstance(effect, ClaimLine):
                said.append(f"spends line {effect.line} of {door.sequence.one_time if door.sequence else ''}")
                settled = ClaimSettled(effect.door, effect.source, effect.line, claimed=True)
                waiting.extendleft(reversed(self._engine.feed(settled, now)))
                self._rearm(effect.door, now)
            elif isinstance(effect, OpenDoor):
                try:
                    self._firewall.open(door.ports, effect.source, door.lease, "daemon sequence")
                except Unavailable as error:
                    said.append(f"cannot open {door.name}: {error}")
                else:
                    opened.append(door.name)
                    said.append(opening(door))
            elif door.name in opened:
                said += commands_in_words(door, effect.source)
        return tuple(opened), tuple(said)

    def _rearm(self, door: str, now: float) -> None:
        del self._lines[door][0]
        line, steps = self._lines[door][0] if self._lines[door] else (0, ())
        self._knocks.update(steps)
        self._engine.feed(Rearmed(door, line, steps), now)


# --- words --------------------------------------------------------------------------------------------


def opening(door: Door) -> str:
    """What is said where a door opens."""
    return f"opens {door.name} for {spell(door.lease)}" if door.ports else f"counts as opening {door.name}"


def commands_in_words(door: Door, source: Source, seconds: float | None = None) -> list[str]:
    """The commands that a door runs, in order, where the lease is the door's or lasts ``seconds``."""
    if not door.commands:
        return []
    said = []
    for when, words in zip(
        ("runs", f"after {spell(seconds or door.lease)}"), door.commands.for_source(source), strict=True
    ):
        shown = [word.replace("%IP%", address_text(source)) for word in words]
        if shown:
            said.append(f"{when} {shown[0] if door.commands.shell else shlex.join(shown)}")
    return said
