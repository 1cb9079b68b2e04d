"""TOML text -> frozen dataclasses, with the file, line and key of whatever is wrong.

A schema is a dataclass whose fields are made by ``key``: a line of documentation, a reader that turns
a TOML value into the field's value, and a default as one would write it. The reference page is made
from the same fields, so it cannot tell anything else.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from knockgate.errors import ConfigError

__all__ = [
    "Document",
    "Keys",
    "Reader",
    "Wrong",
    "duration",
    "fields_of",
    "flag",
    "key",
    "read",
    "spell",
    "text",
    "values",
    "whole",
    "words",
]

T = TypeVar("T")
Keys = tuple[str, ...]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class Wrong(Exception):
    """A value that cannot be used, before it is known where it stands."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns a TOML value into a field's value, or raises Wrong; ``says`` is its type for people."""

    says: str
    read: Callable[[Any], Any]


def key(doc: str, reader: Reader, default: object = dataclasses.MISSING) -> Any:  # noqa: ANN401 - a field
    """A field of a schema; ``default`` is the field's value, not TOML's. Without one it must be given."""
    metadata = {"doc": doc, "reader": reader}
    return dataclasses.field(default=default, metadata=metadata)


# --- readers ------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a text in quotes, not {value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {value!r}")
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of texts", 'for example ["/usr/bin/logger", "opened for %IP%"]')
    return tuple(value)


text = Reader("text", _text)
flag = Reader("true or false", _flag)
words = Reader("list of texts", _words)


def whole(low: int, high: int) -> Reader:
    """A whole number from ``low`` to ``high``."""

    def reader(value: object) -> int:
        if type(value) is not int:
            raise Wrong(f"must be a whole number, not {value!r}")
        if not low <= value <= high:
            raise Wrong(f"{value} is not between {low} and {high}")
        return value

    return Reader(f"{low} to {high}", reader)


def duration(low: float, high: float) -> Reader:
    """Seconds as a number, or a text such as ``"90s"``, ``"1h30m"``, ``"500ms"``."""

    def reader(value: object) -> float:
        seconds = _seconds(value)
        if not low <= seconds <= high:
            raise Wrong(f"{value} is not between {spell(low)} and {spell(high)}")
        return seconds

    return Reader(f"time, {spell(low)} to {spell(high)}", reader)


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    compact = value.replace(" ", "") if isinstance(value, str) else ""
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise Wrong(f"{value!r} is no time", 'write "15s", "2m", "1h30m" or a number of seconds')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def spell(seconds: float) -> str:
    """Seconds as one would write them in a configuration: 3600.0 -> ``1h``."""
    if seconds == 0:
        return "0s"
    for unit, size in reversed(_UNITS.items()):
        if round(seconds * 1000) % round(size * 1000) == 0:
            return f"{round(seconds / size)}{unit}"
    return f"{seconds:g}s"


# --- documents ----------------------------------------------------------------------------------------


class Document:
    """A parsed TOML text that knows on which line each key stands."""

    def __init__(self, content: str, file: str) -> None:
        """``file`` is for the messages. Raises ConfigError where the text is no TOML."""
        self.file = file
        try:
            self.table: dict[str, Any] = tomllib.loads(content)
        except (ValueError, RecursionError) as error:  # TOMLDecodeError; a number or nesting beyond Python
            where = re.search(r"\(at line (\d+)", str(error))
            message = re.sub(r" \(at (line|end).*\)", "", str(error))
            raise ConfigError(
                f"not TOML: {message[:1].lower()}{message[1:]}",
                file=file,
                line=int(where.group(1)) if where else content.count("\n") + 1,
                hint="each line is KEY = VALUE below a [HEADING], with texts in quotes and lists in [ ]",
            ) from None
        self._lines = _lines_of(content)

    @classmethod
    def load(cls, path: Path | str) -> Document:
        """Read a file; ConfigError where it cannot be read."""
        try:
            return cls(Path(path).read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise ConfigError("no such file", file=str(path), hint="name it with --config FILE") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"is no text in UTF-8: {error}", file=str(path)) from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"cannot be read: {reason}", file=str(path)) from None

    def wrong(self, keys: Keys, message: str, hint: str | None = None) -> ConfigError:
        """The error about what stands under ``keys``."""
        place: Keys = keys
        while place and place not in self._lines:
            place = place[:-1]
        return ConfigError(
            message, file=self.file, line=self._lines.get(place), key=".".join(keys) or None, hint=hint
        )

    def only(self, keys: Keys, table: object, known: Sequence[str]) -> dict[str, Any]:
        """``table`` if it is one and has no key but ``known`` ones; else raises ConfigError."""
        if not isinstance(table, dict):
            hint = f"write it as a heading: [{'.'.join(keys)}]"
            raise self.wrong(keys, "must be a table", hint)
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                raise self.wrong((*keys, name), "unknown key", hint)
        return table


def values(
    document: Document, keys: Keys, table: object, schema: type[object], *, besides: Keys = ()
) -> dict[str, Any]:
    """The fields of ``schema`` that the table under ``keys`` gives; ``besides`` are left to the caller.

    Raises ConfigError for an unknown key, a value that cannot be used, a missing key without default.
    """
    fields = {field.name: field for field in fields_of(schema)}
    given = document.only(keys, table, [*fields, *besides])
    found = {}
    for name, field in fields.items():
        if name in given:
            try:
                found[name] = field.metadata["reader"].read(given[name])
            except Wrong as wrong:
                raise document.wrong((*keys, name), wrong.message, wrong.hint) from None
        elif field.default is dataclasses.MISSING:
            raise document.wrong(keys, f"{name} is missing", f"{name}: {field.metadata['doc']}")
    return found


def read(document: Document, keys: Keys, table: object, schema: type[T]) -> T:
    """An instance of ``schema`` out of the table that stands under ``keys``; raises as ``values`` does."""
    return schema(**values(document, keys, table, schema))


def fields_of(schema: type[object]) -> list[dataclasses.Field[Any]]:
    """The fields of a schema that stand in a file, in their order."""
    return [field for field in dataclasses.fields(schema) if "reader" in field.metadata]  # type: ignore[arg-type]


_HEADING = re.compile(r"^\s*\[\[?\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_NAME = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def _lines_of(content: str) -> dict[Keys, int]:
    """Where each heading and each key at the start of a line stands; tomllib does not tell.

    A line inside a text or a list of several lines may be taken for a key. It then only lends its
    number to a key of that name, and the first line wins.
    """
    lines: dict[Keys, int] = {}
    heading: Keys = ()

    def note(keys: Keys, number: int) -> None:
        for length in range(1, len(keys) + 1):
            lines.setdefault(keys[:length], number)

    for number, line in enumerate(content.splitlines(), 1):
        if found := _HEADING.match(line):
            heading = _names(found.group(1))
            note(heading, number)
        elif found := _ASSIGNMENT.match(line):
            note(heading + _names(found.group(1)), number)
    return lines


def _names(dotted: str) -> Keys:
    return tuple(name.strip("\"'") for name in _NAME.findall(dotted))
