"""Two closed unions: events are the only way into the core, effects the only way out.

A mechanism is fed an ``Event`` with the time and answers with effects; it never waits, reads,
writes or logs. So a test of it is a list of calls, and a packet capture replays exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from knockgate.model import Observation, Source

__all__ = ["Effect", "Event", "OpenDoor", "PacketSeen", "Tick"]


@dataclass(frozen=True, slots=True)
class PacketSeen:
    """A packet for this host came in."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; what has run out may be forgotten."""


Event = PacketSeen | Tick


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Let ``source`` through ``door``, for as long as the door's lease says."""

    door: str
    source: Source


Effect = OpenDoor
