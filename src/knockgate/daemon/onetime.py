"""The one-time sequences of all doors: which line is armed, spending it, and arming the next."""

from __future__ import annotations

import time

from knockgate.config.arming import Line
from knockgate.config.doors import Configuration
from knockgate.effects import ClaimLine, Rearmed
from knockgate.errors import Unavailable
from knockgate.store.onetime import OneTimeFile, OneTimeLine

__all__ = ["OneTimeDoors"]

#: Seconds until a file is looked at again that could not be read.
_LOOK_AGAIN = 5.0


class OneTimeDoors:
    """Knows doors by name. A file that cannot be read opens nothing, until it can be read again.

    ``complaints`` are lines for the log; whoever has said them takes them out.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.complaints: list[str] = []
        self._files = {
            door.name: OneTimeFile(door.sequence.one_time)
            for door in configuration.daemon_doors()
            if door.sequence and door.sequence.one_time
        }
        self._lines: dict[str, OneTimeLine | None] = {}
        self._unread: dict[str, float] = {}  # doors whose file could not be read, and when to try again

    def current(self) -> dict[str, Line]:
        """What opens each of them now, as ``config.arming`` takes it."""
        found = {name: self._look(name) for name in self._files}
        return {name: (line.number, line.steps) for name, line in found.items() if line}

    def _look(self, door: str) -> OneTimeLine | None:
        file = self._files[door]
        self._unread.pop(door, None)
        line = None
        try:
            line = file.current()
        except Unavailable as error:
            self.complaints.append(f"door {door} cannot be opened: {error}")
            self._unread[door] = time.monotonic() + _LOOK_AGAIN
        else:
            self.complaints += map(str, file.mistakes)
            if line is None:
                self.complaints.append(f"door {door} cannot be opened: all lines of {file.path} are used")
        self._lines[door] = line
        return line

    def claim(self, effect: ClaimLine) -> bool:
        """Spend the line; False where it is not unused any more, or that could not be made durable."""
        line = self._lines.get(effect.door)
        if line is None or line.number != effect.line:
            return False
        try:
            return self._files[effect.door].claim(line)
        except Unavailable as error:
            self.complaints.append(f"door {effect.door} is not opened: {error}")
            return False

    def next(self, door: str) -> Rearmed:
        """The sequence after the one just spent."""
        line = self._look(door)
        return Rearmed(door, line.number, line.steps) if line else Rearmed(door, 0, ())

    def next_look(self) -> float | None:
        """When ``due`` has something; None for never."""
        return min(self._unread.values(), default=None)

    def due(self, now: float) -> list[str]:
        """Doors whose file is to be looked at again."""
        return [door for door, at in self._unread.items() if now >= at]
