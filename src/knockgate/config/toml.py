"""TOML text -> frozen dataclasses, with the file, line and key of whatever is wrong.

A schema is a dataclass whose fields are made by ``key``: a line of documentation, a reader that turns
a TOML value into the field's value, and a default as one would write it. The reference page is made
from the same fields, so it cannot tell anything else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from knockgate.config.lines import Keys, dotted, line_of
from knockgate.errors import ConfigError

__all__ = [
    "Document",
    "Keys",
    "Reader",
    "Wrong",
    "dotted",
    "duration",
    "fields_of",
    "flag",
    "key",
    "read",
    "several",
    "shown",
    "spell",
    "text",
    "values",
    "whole",
]

T = TypeVar("T")

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")
_TIME = re.compile(rf"\s*(?:{_PART.pattern})+")

#: Bytes of a file, and tables within tables; far beyond what anybody writes by hand.
_LARGEST, _DEEPEST = 16 << 20, 32
_SHAPE = "each line is KEY = VALUE below a [HEADING], with texts in quotes and lists in [ ]"


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


def shown(value: object) -> str:
    """A value for a message, on one line of a terminal."""
    if isinstance(value, bool):
        spelled = str(value).lower()
    else:
        # A date or a time is written without quotes; repr() would tell of Python's classes.
        spelled = str(value) if isinstance(value, dt.date | dt.time) else repr(value)
    return spelled if len(spelled) <= 60 else f"{spelled[:57]}..."


def several(things: Iterable[object], most: int = 8) -> str:
    """What they are called, one after the other, on a line of some length: ``a, b and 7 more``."""
    names = list(map(str, things))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a text in quotes, not {shown(value)}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {shown(value)}", "without quotes")
    return value


text = Reader("text", _text)
flag = Reader("true or false", _flag)


def whole(low: int, high: int) -> Reader:
    """A whole number from ``low`` to ``high``."""

    def reader(value: object) -> int:
        if type(value) is not int:
            raise Wrong(f"must be a whole number, not {shown(value)}", f"from {low} to {high}")
        if not low <= value <= high:
            raise Wrong(f"{shown(value)} is not between {low} and {high}")
        return value

    return Reader(f"{low} to {high}", reader)


def duration(low: float, high: float) -> Reader:
    """Seconds, to the millisecond: a number, or a text such as ``"90s"``, ``"1h30m"``, ``"500ms"``."""

    def reader(value: object) -> float:
        seconds = _seconds(value)
        if not low <= seconds <= high:  # also what is no number
            raise Wrong(f"{shown(value)} is not between {spell(low)} and {spell(high)}")
        return round(seconds, 3)

    return Reader(f"time, {spell(low)} to {spell(high)}", reader)


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise Wrong(f"{shown(value)} is no time", 'write "15s", "2m", "1h30m" or a number of seconds')
    return sum(float(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(value)) / 1000


def spell(seconds: float) -> str:
    """Seconds as one would write them in a configuration, to the millisecond: 3600.0 -> ``1h``."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    unit, size = next(each for each in reversed(_MILLISECONDS.items()) if milliseconds % each[1] == 0)
    return f"{milliseconds // size}{unit}"


# --- documents ----------------------------------------------------------------------------------------


class Document:
    """A parsed TOML text that knows on which line each key stands."""

    def __init__(self, content: str, file: str) -> None:
        """``file`` is for the messages. Raises ConfigError where the text is no TOML."""
        self.file = file
        self._content = content
        try:
            self.table: dict[str, Any] = tomllib.loads(content)
        except tomllib.TOMLDecodeError as error:
            raise _no_toml(str(error), content, file) from None
        except RecursionError:
            raise ConfigError("not TOML: lists nested without end", file=file, hint=_SHAPE) from None
        except ValueError:  # int() gives up on thousands of digits
            raise ConfigError("not TOML: a number of thousands of digits", file=file, hint=_SHAPE) from None
        self._check_bounds()

    @classmethod
    def load(cls, path: Path | str) -> Document:
        """Read a file; ConfigError where it cannot be read."""
        file = str(path)
        try:
            with Path(path).open("rb") as stream:
                content = stream.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ConfigError(f"has more than {_LARGEST >> 20} MiB", file=file, hint="is it a gate.toml?")
            return cls(content.decode("utf-8-sig"), file)
        except FileNotFoundError:
            raise ConfigError("no such file", file=file, hint="name it with --config FILE") from None
        except PermissionError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=file, hint="run it as root") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            message = f"byte 0x{error.object[error.start]:02x} is no text in UTF-8"
            raise ConfigError(message, file=file, line=line, hint="save the file as UTF-8") from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"cannot be read: {reason}", file=file, hint="a file is wanted there") from None

    def wrong(self, keys: Keys, message: str, hint: str | None = None) -> ConfigError:
        """The error about what stands under ``keys``."""
        line = line_of(self._content, keys)
        return ConfigError(message, file=self.file, line=line, key=dotted(keys) or None, hint=hint)

    def only(self, keys: Keys, table: object, known: Sequence[str] | None = None) -> dict[str, Any]:
        """``table`` if it is one and has no key but ``known`` ones (None: any); else raises ConfigError."""
        if not isinstance(table, dict):
            raise self.wrong(keys, "must be a table", f"write it as a heading: [{dotted(keys)}]")
        for name in table:
            if known is not None and name not in known:
                import difflib  # noqa: PLC0415 - only who mistypes needs it

                near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
                raise self.wrong((*keys, name), "unknown key", hint)
        return table

    def _check_bounds(self) -> None:
        """Python takes numbers of any size, and dotted keys of any depth; whoever spells them may fail."""
        waiting: list[tuple[Keys, int, object]] = [((), 0, self.table)]
        while waiting:
            keys, depth, value = waiting.pop()
            if depth > _DEEPEST:
                raise self.wrong(keys[:4], f"more than {_DEEPEST} tables within each other", _SHAPE)
            if isinstance(value, dict):
                waiting += [((*keys, name), depth + 1, each) for name, each in value.items()]
            elif isinstance(value, list):
                waiting += [(keys, depth + 1, each) for each in value]
            elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
                raise self.wrong(keys, "a number of more than 64 bits", "TOML knows no larger ones")


def _no_toml(said: str, content: str, file: str) -> ConfigError:
    """What tomllib said, with the line taken out of it."""
    where = re.search(r"\(at line (\d+)", said)
    message = re.sub(r" \(at (line|end).*\)", "", said)
    # It names a key as a tuple.
    message = re.sub(r"\(('[\w-]+'(?:, '[\w-]+')*),?\)", lambda keys: re.sub("', '", ".", keys[1]), message)
    return ConfigError(
        f"not TOML: {message[:1].lower()}{message[1:]}",
        file=file,
        line=int(where[1]) if where else content.rstrip().count("\n") + 1,
        hint="what is there twice must be made one"
        if "twice" in message or "overwrite" in message
        else _SHAPE,
    )


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
                hint = wrong.hint or f"{name}: {field.metadata['doc'].split('. ')[0]}"
                raise document.wrong((*keys, name), wrong.message, hint) from None
        elif field.default is dataclasses.MISSING:
            raise document.wrong(keys, f"{name} is missing", f"{name}: {field.metadata['doc']}")
    return found


def read(document: Document, keys: Keys, table: object, schema: type[T]) -> T:
    """An instance of ``schema`` out of the table that stands under ``keys``; raises as ``values`` does."""
    return schema(**values(document, keys, table, schema))


def fields_of(schema: type[object]) -> list[dataclasses.Field[Any]]:
    """The fields of a schema that stand in a file, in their order; what it inherits comes last."""
    own = inspect.get_annotations(schema)
    fields = (field for field in dataclasses.fields(schema) if "reader" in field.metadata)  # type: ignore[arg-type]
    return sorted(fields, key=lambda field: field.name not in own)
