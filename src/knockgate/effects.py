"""Two closed unions: events are the only way into the core, effects the only way out.

A mechanism is fed an ``Event`` with the time and answers with effects; it never waits, reads,
writes or logs. So a test of it is a list of calls, and a packet capture replays exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from knockgate.model import Observation, Port, Source

__all__ = [
    "ClaimLine",
    "ClaimSettled",
    "Effect",
    "Event",
    "OpenDoor",
    "PacketPassed",
    "PacketSeen",
    "Rearmed",
    "RunCommands",
    "Tick",
]


@dataclass(frozen=True, slots=True)
class PacketSeen:
    """A packet for this host came in."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class PacketPassed:
    """A packet came in that is for a machine behind this host."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; what has run out may be forgotten."""


@dataclass(frozen=True, slots=True)
class ClaimSettled:
    """The answer to a ``ClaimLine``: whether the line is spent now, durably, and by this knock alone."""

    door: str
    source: Source
    line: int
    claimed: bool


@dataclass(frozen=True, slots=True)
class Rearmed:
    """What opens a door with one-time sequences from now on; without ``steps`` nothing does any more."""

    door: str
    line: int  #: where in its file the sequence stands, counted from 1
    steps: tuple[Port, ...]


Event = PacketSeen | PacketPassed | Tick | ClaimSettled | Rearmed


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Let ``source`` through ``door``, for as long as the door's lease says."""

    door: str
    source: Source


@dataclass(frozen=True, slots=True)
class ClaimLine:
    """Spend a line of the door's one-time sequences for ``source``; nothing opens before it is settled."""

    door: str
    source: Source
    line: int  #: counted from 1


@dataclass(frozen=True, slots=True)
class RunCommands:
    """Run what the door runs on opening for ``source``, and what closes it when the lease ends."""

    door: str
    source: Source


Effect = OpenDoor | ClaimLine | RunCommands
