"""Listening for single packets, in turns that leave time for the other things that wait."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from knockgate.config.doors import Door
from knockgate.daemon.ears import Ears
from knockgate.daemon.log import NOTE, Record
from knockgate.model import Source

__all__ = ["Hearing", "PacketHands"]

#: Seconds, about, before the other things that wait have their turn: with many keys a packet takes long.
_TURN = 0.05


class PacketHands(Protocol):
    """Who does what is decided here."""

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:
        """Let the source in; whether it is in. ``record`` has who knocked, and how, for the log."""

    def run_commands(self, door: Door, source: Source, seconds: float | None = None) -> None:
        """Run what the door runs."""

    def complain(self, line: str, kind: str = "", record: Record = NOTE) -> None:
        """Tell the administrator; lines of one ``kind`` not more often than they can be read."""


class Hearing(ABC):
    """Who looks at packets says so in ``_look_at``; ``ears`` are for whoever waits for them."""

    ears: Ears

    def hear(self) -> None:
        """What ``ears`` have heard by now, or as much of it as is good for one time."""
        until = time.monotonic() + _TURN
        while time.monotonic() < until:
            packets = self.ears.take()
            if not packets:
                self._rest()
                return
            self._look_at(packets)

    def next_wakeup(self) -> float | None:
        """When to call ``tick`` at the latest, by the monotonic clock; None for never."""
        return self.ears.next_wakeup()

    def tick(self) -> None:
        """Do what time asks for."""
        self._look_at(self.ears.tick())

    @abstractmethod
    def _look_at(self, packets: Sequence[bytes]) -> None:
        """Take packets, in the order in which they came."""

    @abstractmethod
    def _rest(self) -> None:
        """Nothing is left to look at: do what no packet is to wait for."""
