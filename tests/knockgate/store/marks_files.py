"""Files of marks, for the tests."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.knockgate.store.marks_conformance import MOST, SALT

from knockgate.mechanisms.certainty import Floor
from knockgate.store.marks import SqliteMarks
from knockgate.world import DeviceMark

__all__ = ["OURS", "THEIRS", "files_of", "log_of", "made", "made_by_version_1", "opened"]

#: Incarnations.
OURS, THEIRS = b"i" * 16, b"o" * 16


def made(path: Path, low: int = 0) -> Path:
    SqliteMarks.create(path, OURS, low=low, salt=SALT)
    return path


#: What knockgate made before its files had version 2.
_VERSION_1 = (
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE gate (incarnation BLOB NOT NULL, salt BLOB NOT NULL, low INTEGER NOT NULL) STRICT",
    """CREATE TABLE marks (
        key BLOB NOT NULL, device BLOB NOT NULL, era INTEGER NOT NULL, issued INTEGER NOT NULL,
        newest INTEGER NOT NULL, PRIMARY KEY (key, device)
    ) WITHOUT ROWID, STRICT""",
    "CREATE TABLE lows (key BLOB PRIMARY KEY, issued INTEGER NOT NULL) WITHOUT ROWID, STRICT",
    "CREATE TABLE floor (time INTEGER NOT NULL, up INTEGER NOT NULL, boot TEXT NOT NULL) STRICT",
    "PRAGMA user_version = 1",
)


def made_by_version_1(
    path: Path, marks: Iterable[DeviceMark], lows: Mapping[bytes, int], floor: Floor
) -> Path:
    """A file of that version, with these in it; ``lows`` by key."""
    path.touch(0o600)
    with contextlib.closing(sqlite3.connect(path)) as base, base:
        for statement in _VERSION_1:
            base.execute(statement)
        base.execute("INSERT INTO gate VALUES (?, ?, 0)", (OURS, SALT))
        rows = [
            (key, row, *mark, mark.issued if mark.era == 0 else (1 << 63) - 1) for key, row, mark in marks
        ]
        base.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", rows)
        base.executemany("INSERT INTO lows VALUES (?, ?)", lows.items())
        base.execute("INSERT INTO floor VALUES (?, ?, ?)", (floor.time, floor.up, floor.boot))
    return path


def opened(path: Path, devices: int = MOST) -> SqliteMarks:
    return SqliteMarks(path, incarnation=OURS, devices=devices)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def files_of(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())
