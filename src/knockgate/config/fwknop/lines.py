"""The lines of fwknop's three files: ``VARIABLE value``.

``#`` begins a comment only where the line begins. In access.conf and .fwknoprc a colon may follow the
variable. A value ends at ``;``, in .fwknoprc also at the first blank or ``#``, and nothing is quoted.
Variables are in capitals, and fwknop minds that.

What follows a value may be the rest of a secret, so it is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knockgate.config.fwknop.findings import Findings, Place
from knockgate.errors import ConfigError

__all__ = ["Line", "Option", "lines", "option", "read"]

_LARGEST = 4 << 20
_LONGEST = 1022
"""Bytes of a line. fwknop takes what is beyond that for another line."""
_BLANKS = " \t\n\v\f\r"
_SHAPE = "a line is VARIABLE, in capitals, and a value, with a blank between them"


class Line(NamedTuple):
    """A line with something in it, without blanks before it; bytes that are no UTF-8 are surrogates."""

    text: str
    place: Place


class Option(NamedTuple):
    """``NAME value``, without blanks at the ends of the value."""

    name: str
    value: str
    place: Place
    had_blanks: bool = False  #: there were some at the value's end


def read(path: Path) -> bytes:
    """A whole file; raises ConfigError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "fwknop's files are for root alone" if isinstance(error, PermissionError) else None
        raise ConfigError(f"cannot be read: {reason}", file=str(path), hint=hint) from None
    if len(content) > _LARGEST:
        raise ConfigError(f"has more than {_LARGEST >> 20} MiB", file=str(path), hint="is it fwknop's?")
    return content


def lines(content: bytes, file: str, found: Findings) -> Iterator[Line]:
    """All lines that are no comments; what fwknop would cut in two is refused."""
    for number, raw in enumerate(content.split(b"\n"), 1):
        text = raw.decode("utf-8", "surrogateescape").lstrip(_BLANKS).rstrip("\r")
        if not text or text.startswith(("#", ";")):
            continue
        place = Place(file, number)
        if len(raw) > _LONGEST:
            found.refuse(place, f"is longer than {_LONGEST} bytes; fwknop would take it for two lines")
        elif "\0" in text:
            found.refuse(place, "has a zero byte, where fwknop would stop reading")
        else:
            yield Line(text, place)


def option(line: Line, found: Findings, *, has_colons: bool = True, one_word: bool = False) -> Option | None:
    """What the line sets; None, with a refusal, where it is nothing of the kind."""
    name, _, rest = re.sub(f"[{_BLANKS}]+", " ", line.text, count=1).partition(" ")
    if has_colons:
        name = name.removesuffix(":")
    if not re.fullmatch(r"%[a-z_]{1,40}|[A-Z][A-Z0-9_]{1,39}", name):
        found.refuse(line.place, "does not begin with the name of a variable", _SHAPE)
        return None
    place = line.place._replace(key=name)
    ends = f";#{_BLANKS}" if one_word else ";"
    before = re.split(f"[{ends}]", rest.lstrip(_BLANKS), maxsplit=1)[0]
    value = before.rstrip(_BLANKS)
    if not value:
        found.refuse(place, "has no value", _SHAPE)
        return None
    passed_over = rest[rest.index(value) + len(value) :].lstrip(f"{_BLANKS};")
    if passed_over and not passed_over.startswith("#"):
        found.note(place, "what follows the value is passed over, as by fwknop")
    return Option(name, value, place, had_blanks=before != value)
