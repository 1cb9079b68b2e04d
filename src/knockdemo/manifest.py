"""What the installer has to undo, as it is kept in a file: written before anything is done.

Knows nothing of knocking: paths and bytes only, absolute, as they are on the finished host.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from knockgate.errors import Unavailable

__all__ = ["Entry", "Manifest", "Saved"]

_FORMAT = 1


@dataclass
class Saved:
    """An original that had to make room: where its copy is, and what it was."""

    copy: str
    sha256: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: str | None = None
    """The target, when the original was a symbolic link; there is no copy then."""


@dataclass
class Entry:
    """A file of ours: every content that we may have left there, and what stood there before us."""

    sha256: list[str]
    saved: Saved | None = None


@dataclass
class Manifest:
    """Everything that has to be undone, and what the host was like before."""

    facts: dict[str, Any] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    files: dict[str, Entry] = field(default_factory=dict)
    complete: bool = False

    def to_json(self) -> str:
        """The manifest as it is kept."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str) -> Manifest:
        """Read it back; Unavailable if it is not one of ours."""
        try:
            table = json.loads(text)
            files = {
                path: Entry(entry["sha256"], Saved(**entry["saved"]) if entry["saved"] else None)
                for path, entry in table["files"].items()
            }
            manifest = cls(table["facts"], table["directories"], files, table["complete"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"{file} cannot be understood: {error}", hint="use the version of knockdemo that wrote it"
            ) from None
        if table["format"] != _FORMAT:
            raise Unavailable(
                f"{file} has format {table['format']!r}", hint="use the version of knockdemo that wrote it"
            )
        return manifest
