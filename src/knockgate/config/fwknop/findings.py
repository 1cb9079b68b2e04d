"""What there is to say about files of fwknop's: what differs here, and what is refused.

All of it is collected, so that one run names everything that has to be changed. A secret never gets in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from knockgate.config.notes import Note
from knockgate.config.toml import Wrong
from knockgate.errors import ConfigError

__all__ = ["Findings", "Place", "Remark", "not_done"]

#: Tells what is different about the value that is being read.
Remark = Callable[[str], None]


def not_done(reason: str, hint: str) -> Callable[..., None]:
    """The reader of an option that nothing here can honour: raises Wrong, whatever its value."""

    def reader(*_: object) -> None:
        raise Wrong(reason, hint)

    return reader


class Place(NamedTuple):
    """Where something stands; ``line`` 0 is the whole file, ``key`` may be empty."""

    file: str
    line: int = 0
    key: str = ""


@dataclass(slots=True)
class Findings:
    """Filled while files are read. Where there is a refusal, what was read is not to be used."""

    notes: list[Note] = field(default_factory=list)
    refusals: list[ConfigError] = field(default_factory=list)

    def note(self, place: Place, message: str, hint: str | None = None) -> None:
        """Something is done differently, or not needed."""
        self.notes.append(Note(*place, message, hint))

    def warn(self, place: Place, message: str, hint: str | None = None) -> None:
        """The same of something that is dangerous."""
        self.notes.append(Note(*place, message, hint, is_warning=True))

    def refuse(self, place: Place, message: str, hint: str | None = None) -> None:
        """Something cannot be done here, or nobody can have meant it."""
        file, line, key = place
        self.refusals.append(ConfigError(message, file=file, line=line or None, key=key or None, hint=hint))

    @contextmanager
    def refusing(self, place: Place) -> Iterator[Remark]:
        """What is raised as ``Wrong`` within becomes a refusal; gives a function for remarks."""
        try:
            yield lambda message: self.note(place, message)
        except Wrong as wrong:
            self.refuse(place, wrong.message, wrong.hint)
