"""Reading one section: where a value stands, what is wrong with it, and what is different here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from knockgate.config.knockd.grammar import Section, Value
from knockgate.config.notes import Note
from knockgate.errors import ConfigError

__all__ = ["Reading"]


@dataclass(slots=True)
class Reading:
    """One section being read: says where it is, and collects the notes."""

    file: str
    section: Section
    notes: list[Note] = field(default_factory=list)

    def wrong(self, key: str, message: str, hint: str | None = None) -> ConfigError:
        """The error about what stands under ``key``; of an empty one, about the section."""
        return ConfigError(message, file=self.file, line=self._line(key), key=self._where(key), hint=hint)

    def note(self, key: str, message: str, hint: str | None = None) -> None:
        """Remember what is different about ``key``; of an empty one, about the section."""
        self.notes.append(Note(self.file, self._line(key), self._where(key), message, hint))

    def value(self, key: str) -> Value | None:
        """The value that counts, with a note where there were others before it."""
        if len(self.section.values.get(key, ())) > 1:
            self.note(key, "is given more than once; the last one counts, as in knockd")
        return self.section.last(key)

    def whole(self, key: str, default: int) -> int:
        """The whole number that the value begins with; ConfigError where it does not."""
        value = self.value(key)
        if value is None:
            return default
        found = re.fullmatch(r"([+-]?[0-9]{1,9})(.*)", value.text)
        if not found:
            raise self.wrong(key, f"{value.text!r} is no number", "whole seconds; knockd takes this for 0")
        if found[2]:
            self.note(key, f"{found[2].strip()!r} is passed over, as in knockd: {int(found[1])} seconds")
        return int(found[1])

    def _line(self, key: str) -> int:
        value = self.section.last(key)
        return value.line if value else self.section.line

    def _where(self, key: str) -> str:
        return f"{self.section.name}.{key}" if key else self.section.name
