"""The admin's word on devices: the file ``devices`` in the gate's folder, a line for each.

::

    # comment
    known  68db60c5175962a7cc6c3e8ee7018b1d  jo's laptop
    barred 0102030405060708090a0b0c0d0e0f10  the phone that was stolen

A device is written as the gate's store has it (``spa.sealed.device_row``), in 32 hex digits; what stands
behind it is for people. A door with ``devices = "known"`` lets known ones in alone, and barred ones come in
nowhere. Both are about the device, whichever SSH key it knocks with.

An edit leaves the lines of other devices, and comments, to the octet as they were.

Where there was a file once and there is none any more, devices that were barred would come in again, and
nobody would know. So beside it lies another one that says that there is one (``keep``), and to read what is
gone is an error then.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from knockgate.config import private
from knockgate.errors import ConfigError

__all__ = [
    "MAX_BYTES",
    "Devices",
    "barred",
    "comments",
    "enrolled",
    "forgotten",
    "keep",
    "load",
    "parse",
    "read",
    "save",
]

MAX_BYTES = 1 << 20

_LINE = re.compile(r"(known|barred)\s+([0-9A-Fa-f]{32})(?:\s+(.*))?")
_HINT = "a line is `known` or `barred`, the device in 32 hex digits, and a comment if you like"
_HEAD = (
    "# known: enrolled. barred: comes in nowhere. `knockgate device list` shows what a device is called.\n"
)


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices as the store has them, 16 bytes each; none is in both."""

    known: frozenset[bytes] = frozenset()
    barred: frozenset[bytes] = frozenset()


def load(path: Path) -> Devices:
    """What the file says; where there never was one, nothing. Raises ConfigError."""
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """Its text, for an edit; where there never was a file, it is empty.

    Raises ConfigError, as for files of secrets, and where the file is gone.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        if os.path.lexists(_kept(path)):
            message = f"{path} is gone: devices that were barred in it would come in again"
            owner = path.parent.stat().st_uid
            make = f"install -m 600 {f'-o {owner} ' if owner else ''}/dev/null {path}"
            hint = f"`{make}`, then write into it again who was barred: a line `barred DEVICE` for each"
            raise ConfigError(message, hint=hint) from None
        return ""
    except OSError:
        pass  # nobody is to be let in for that; what it is comes next
    content = private.read(path, MAX_BYTES, kind="the list of devices", hints={}, gates=True)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is no UTF-8", file=str(path), line=line, hint="write the comment anew") from None


def parse(text: str, file: str) -> Devices:
    """The same from a text; ``file`` is for the messages."""
    found: dict[bytes, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ConfigError("is no line of a list of devices", file=file, line=number, hint=_HINT)
        row = bytes.fromhex(match[2])
        if row in found:
            message = f"this device is {found[row][0]} in line {found[row][1]} already"
            raise ConfigError(message, file=file, line=number, hint="take one of the lines out")
        found[row] = match[1], number
    known = frozenset(row for row, (kind, _) in found.items() if kind == "known")
    return Devices(known, frozenset(found) - known)


def comments(text: str) -> dict[bytes, str]:
    """What people call the devices of a text that is right; those without a comment are not in it."""
    found = (_LINE.fullmatch(line.strip()) for line in text.split("\n"))
    return {bytes.fromhex(match[2]): match[3] for match in found if match and match[3]}


# --- edits, from text to text -------------------------------------------------------------------------


def enrolled(text: str, row: bytes, comment: str = "") -> str:
    """The text in which this device is known, and not barred; without a comment it keeps the one it has."""
    return _with(text, "known", row, comment)


def barred(text: str, row: bytes, comment: str = "") -> str:
    """The text in which this device is barred, and not known; without a comment it keeps the one it has."""
    return _with(text, "barred", row, comment)


def forgotten(text: str, row: bytes) -> str:
    """The text that says nothing of this device. What the store has of it stays."""
    return "".join(each for each in _lines(text) if not _of(each, row))


def _with(text: str, kind: str, row: bytes, comment: str) -> str:
    before = [match[3] or "" for each in _lines(text) if (match := _of(each, row))]
    plain = "".join(each if each.isprintable() else " " for each in comment).strip()
    ours = f"{kind} {row.hex()} {plain or ' '.join(filter(None, before))}".rstrip() + "\n"
    if not before:
        text = text or _HEAD
        return text + ("" if text.endswith("\n") else "\n") + ours
    said = False
    edited = ""
    for each in _lines(text):
        if not _of(each, row):
            edited += each
        elif not said:
            edited, said = edited + ours, True
    return edited


def _lines(text: str) -> list[str]:
    """As they stand there; all but the last end in a newline."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _of(line: str, row: bytes) -> re.Match[str] | None:
    """The parts of a line, if it is about this device."""
    match = _LINE.fullmatch(line.strip())
    return match if match and bytes.fromhex(match[2]) == row else None


def save(path: Path, text: str) -> None:
    """Put the text in the place of the file, all of it or nothing; it is on the disk on return. Mode 0600.

    Raises ConfigError where it is too long, and Unavailable where it cannot be written.
    """
    if len(text.encode()) > MAX_BYTES:
        hint = "take devices out that are no more"
        raise ConfigError(f"would be longer than {MAX_BYTES} bytes", file=str(path), hint=hint)
    private.replace(path, text)
    keep(path)


def keep(path: Path) -> None:
    """From now on it is an error where the file, if there is one, is gone. Raises Unavailable."""
    if os.path.lexists(path) and not os.path.lexists(_kept(path)):
        private.replace(
            _kept(path), f"# There is a file {path.name} beside this one; if that is lost, no gate starts.\n"
        )


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.kept")
