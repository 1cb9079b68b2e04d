"""What packets of keys open, in the firewall in memory and in words."""

from __future__ import annotations

from collections.abc import Mapping

from knockgate.config.doors import Door
from knockgate.config.toml import spell
from knockgate.effects import OpenDoor, RunCommands
from knockgate.errors import Unavailable
from knockgate.firewall.memory import MemoryFirewall
from knockgate.model import address_text
from knockgate.simulate.listening import commands_in_words

__all__ = ["Openings"]


class Openings:
    """Those of one packet."""

    def __init__(self, doors: Mapping[str, Door], firewall: MemoryFirewall) -> None:
        self._doors, self._firewall = doors, firewall
        self.opened: list[str] = []  #: doors
        self.said: list[str] = []  #: what is done, in its order

    def open(self, effect: OpenDoor) -> None:
        """Give the leases."""
        door = self._doors[effect.door]
        seconds = door.lease if effect.seconds is None else effect.seconds
        try:
            self._firewall.open(door.ports, effect.source, seconds, "packet")
        except Unavailable as error:
            self.said.append(f"cannot open {door.name}: {error}")
            return
        self.opened.append(door.name)
        self.said.append(f"opens {door.name} for {address_text(effect.source)}, {spell(seconds)}")

    def run(self, effect: RunCommands) -> None:
        """Tell of the commands of a door that has opened."""
        if effect.door in self.opened:
            self.said += commands_in_words(self._doors[effect.door], effect.source, effect.seconds)
