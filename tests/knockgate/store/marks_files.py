"""Files of marks, for the tests."""

from __future__ import annotations

from pathlib import Path

from tests.knockgate.store.marks_conformance import MOST, SALT

from knockgate.store.marks import SqliteMarks

__all__ = ["OURS", "THEIRS", "files_of", "log_of", "made", "opened"]

#: Incarnations.
OURS, THEIRS = b"i" * 16, b"o" * 16


def made(path: Path, low: int = 0) -> Path:
    SqliteMarks.create(path, OURS, low=low, salt=SALT)
    return path


def opened(path: Path, devices: int = MOST) -> SqliteMarks:
    return SqliteMarks(path, incarnation=OURS, devices=devices)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def files_of(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())
