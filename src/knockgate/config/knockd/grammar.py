"""The grammar of knockd.conf (knockd 0.8): text -> sections whose values know their line.

A line is a comment, a ``[heading]`` or ``KEY = VALUE``, after blanks at both ends are gone. ``#``
begins a comment only where the line begins; nothing is quoted and nothing goes on in the next line.
``[options]`` holds what is for all, any other heading begins a door. Keys do not care for case.

What a value means is not known here, except that ``TCPFlags`` adds up and of other keys the last counts.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from knockgate.errors import ConfigError

__all__ = ["DOOR_KEYS", "OPTIONS", "KnockdFile", "Section", "Value", "read", "split"]

#: knockd's spelling of the keys; where there are two, of the one that it documents.
OPTIONS = ("UseSyslog", "LogFile", "PidFile", "Interface")
DOOR_KEYS = (
    "Sequence",
    "One_Time_Sequences",
    "Seq_Timeout",
    "TCPFlags",
    "Target",
    "Start_Command",
    "Start_Command_6",
    "Cmd_Timeout",
    "Stop_Command",
    "Stop_Command_6",
)
_ALIASES = {"timeout": "Seq_Timeout", "command": "Start_Command", "command_6": "Start_Command_6"}
_SPELLED = {name.lower(): name for name in (*OPTIONS, *DOOR_KEYS)} | _ALIASES
_BLANKS = " \t\n\v\f\r"
_LONGEST = 4094
"""Bytes of a line. knockd takes what is beyond that (PATH_MAX, linux/limits.h) for another line."""


class Value(NamedTuple):
    """What stands behind a key, without blanks at its ends; ``line`` counts from 1."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its keys. All values of a key are kept, in their order."""

    name: str
    line: int
    values: dict[str, list[Value]] = field(default_factory=dict)

    def last(self, key: str) -> Value | None:
        """The value that counts; None where the key is not given."""
        return self.values[key][-1] if key in self.values else None


@dataclass(frozen=True, slots=True)
class KnockdFile:
    """A whole file. All ``[options]`` are one section; doors of one name are different doors.

    ``lines`` are without blanks at their ends; bytes that are no UTF-8 are surrogates in them.
    """

    file: str
    lines: tuple[str, ...]
    options: Section
    doors: tuple[Section, ...]

    def raw(self, door: Section) -> tuple[str, ...]:
        """The lines of a door from its heading on, without blanks at their ends."""
        end = door.line
        while end < len(self.lines) and not self.lines[end].startswith("["):
            end += 1
        return self.lines[door.line - 1 : end]


def read(path: Path | str) -> KnockdFile:
    """Read a file; ConfigError where it cannot be read or is no knockd.conf."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError("no such file", file=str(path), hint="knockd's is /etc/knockd.conf") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "it is for its owner, and for root" if isinstance(error, PermissionError) else None
        raise ConfigError(f"cannot be read: {reason}", file=str(path), hint=hint) from None
    return split(content, str(path))


def split(content: bytes, file: str) -> KnockdFile:
    """The same from bytes; ``file`` is for the messages."""
    options = Section("options", 0)
    doors: list[Section] = []
    section: Section | None = None
    lines = tuple(raw.decode("utf-8", "surrogateescape").strip(_BLANKS) for raw in content.split(b"\n"))
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue  # whatever bytes a comment holds
        _check(line, file, number)
        if line.startswith("[") and line.endswith("]"):
            section = options
            if line != "[options]":
                section = Section(line[1:-1], number)
                doors.append(section)
            if not section.name:
                raise ConfigError("a heading without a name", file=file, line=number, hint="write [NAME]")
            continue
        if section is None:
            hint = "begin with [options] or with a door such as [openSSH]"
            raise ConfigError("stands before the first heading", file=file, line=number, hint=hint)
        key, value = _assignment(line, section, file, number, inside_options=section is options)
        owner = options if key in OPTIONS else section
        owner.values.setdefault(key, []).append(Value(value, number))
    return KnockdFile(file, lines, options, tuple(doors))


def _check(line: str, file: str, number: int) -> None:
    """Raise ConfigError for what knockd would cut, or no gate.toml could hold."""
    try:
        size = len(line.encode())
    except UnicodeEncodeError:  # a byte that was no UTF-8
        hint = "only a comment may hold other bytes"
        raise ConfigError("is no text in UTF-8", file=file, line=number, hint=hint) from None
    if "\0" in line:
        raise ConfigError("has a zero byte, where knockd would stop reading", file=file, line=number)
    if size > _LONGEST:
        message = f"is longer than {_LONGEST} bytes; knockd would cut it in two"
        raise ConfigError(message, file=file, line=number, hint="put a long command into a script")


def _assignment(
    line: str, section: Section, file: str, number: int, *, inside_options: bool
) -> tuple[str, str]:
    """``key = value`` -> the key as documented, and the value; raises ConfigError."""
    word, equals, value = line.partition("=")
    word = word.strip(_BLANKS)
    key = _SPELLED.get(word.lower(), "")

    def wrong(message: str, hint: str) -> ConfigError:
        return ConfigError(message, file=file, line=number, key=f"{section.name}.{word}", hint=hint)

    if not key:
        if line.startswith("["):
            raise ConfigError(
                "a heading that does not end with ]",
                file=file,
                line=number,
                hint="a comment stands on a line of its own",
            )
        known = OPTIONS if inside_options else (*DOOR_KEYS, OPTIONS[0])
        words = [name for name, meaning in _SPELLED.items() if meaning in known]
        near = difflib.get_close_matches(word.lower(), words, n=1)
        hint = f"did you mean {_SPELLED[near[0]]}?" if near else f"known here: {', '.join(known)}"
        raise wrong("unknown key", hint)
    if inside_options and key not in OPTIONS:
        raise wrong("is for doors, not for [options]", "put it below a heading such as [openSSH]")
    if not inside_options and key in OPTIONS[1:]:
        raise wrong("is for all doors", "put it below [options]")
    if not equals and key != "UseSyslog":
        raise wrong("has no value", f"write {key} = VALUE")
    return key, value.strip(_BLANKS)
