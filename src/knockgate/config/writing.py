"""Values -> TOML text (toml.io, version 1.0), and comments that cannot break it."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["comment", "listed", "quoted", "table"]

_WIDTH = 108


def quoted(text: str) -> str:
    """A basic string: what is no printable character is written as its number."""
    return '"' + "".join(_character(each) for each in text) + '"'


def listed(items: Iterable[object]) -> str:
    """A list of texts on one line."""
    return f"[{', '.join(quoted(str(item)) for item in items)}]"


def table(*names: str) -> str:
    """The heading of a table."""
    parts = (name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name) for name in names)
    return f"[{'.'.join(parts)}]"


def comment(text: str) -> list[str]:
    """A text as comment lines, however long it is and whatever characters are in it."""
    import textwrap  # noqa: PLC0415 - who only reads files needs no more than ``quoted``

    plain = "".join(each if each.isprintable() else " " for each in text)
    return textwrap.wrap(plain, _WIDTH, initial_indent="# ", subsequent_indent="#   ") or ["#"]


def _character(each: str) -> str:
    if each in '"\\':
        return "\\" + each
    if each.isprintable():
        return each
    return f"\\u{ord(each):04X}" if ord(each) < 0x10000 else f"\\U{ord(each):08X}"
