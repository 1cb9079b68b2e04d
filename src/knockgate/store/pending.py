"""Which doors stand open that only a command closes: on the disk before the command that opens them runs.

A row is written with synchronous=FULL, so it outlives a crash, ``kill -9`` and a power cut. It holds all
that closing takes, so that it does not need the configuration of then. Times are seconds of
CLOCK_BOOTTIME, which goes on while the machine sleeps and begins anew with each boot; a row therefore
bears the boot's identity, and one of an earlier boot is due at once.

The commands in here are run with the rights of whoever reads them: the file must be ours alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knockgate.errors import Unavailable
from knockgate.model import Source

__all__ = ["Pending", "PendingStore"]

#: Seconds until a file that is in use is looked at again.
_LOOK_AGAIN = 0.05
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    door TEXT NOT NULL,
    source BLOB NOT NULL,
    words TEXT NOT NULL,
    time_limit REAL NOT NULL,
    due REAL NOT NULL,
    process INTEGER NOT NULL,
    started INTEGER NOT NULL,
    boot TEXT NOT NULL,
    PRIMARY KEY (door, source)
) WITHOUT ROWID, STRICT
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """A door that stands open for a source, and what closes it.

    ``process`` and ``started`` name a command that runs for it now, opening or closing: the number and
    the start, in clock ticks since the boot, of the first process of its session; 0 where none runs. So
    after a crash they tell that it was broken off.
    """

    door: str
    source: Source
    words: tuple[str, ...]  #: what is run to close it: the program and its arguments, as they are
    time_limit: float  #: seconds that this may take
    due: float  #: when it is to be closed
    process: int = 0
    started: int = 0


class _InUse(Unavailable):
    """Another store has the file."""


class PendingStore:
    """One row for each door and source. Every verb raises Unavailable where the disk refuses.

    A second store on the same file is refused as long as the first one lives.
    """

    def __init__(
        self, path: Path, boot: str, *, patience: float = 0.0, waits: Callable[[], None] = lambda: None
    ) -> None:
        """``boot`` is the identity of the present boot (/proc/sys/kernel/random/boot_id).

        For ``patience`` seconds it waits for a store that may just be ending, and calls ``waits`` before.
        """
        self._path, self._boot = path, boot
        try:
            _make_private(path)
            # SQLite's lock on the file goes with the last descriptor of the process that is closed: after
            # this line nobody here opens the file a second time.
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error
        try:
            self._take(patience, waits)
            self.rows()
        except Unavailable:
            self._base.close()
            raise

    def _take(self, patience: float, waits: Callable[[], None]) -> None:
        until = time.monotonic() + patience
        said = False
        while True:
            try:
                # Exclusive before WAL: then the index of the log is in our memory and not in a third file.
                for statement in (
                    "PRAGMA locking_mode = EXCLUSIVE",
                    "PRAGMA journal_mode = WAL",
                    "PRAGMA synchronous = FULL",
                    _SCHEMA,
                ):
                    self._do(statement)
            except _InUse:
                if time.monotonic() >= until:
                    raise
            else:
                return
            if not said:
                waits()
            said = True
            time.sleep(_LOOK_AGAIN)

    def rows(self) -> list[Pending]:
        """All rows; those of another boot are due at 0, and no command runs for them."""
        found = self._do("SELECT door, source, words, time_limit, due, process, started, boot FROM pending")
        try:
            return [
                Pending(
                    door,
                    source,
                    tuple(json.loads(words)),
                    time_limit,
                    *((due, process, started) if boot == self._boot else (0.0, 0, 0)),
                )
                for door, source, words, time_limit, due, process, started, boot in found
            ]
        except (ValueError, TypeError) as error:
            raise self._unavailable(error) from error

    def put(self, row: Pending) -> None:
        """Write the row, in place of the one of its door and source; it is on the disk on return."""
        self._do(
            "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row.door,
            row.source,
            json.dumps(row.words),
            row.time_limit,
            row.due,
            row.process,
            row.started,
            self._boot,
        )

    def remove(self, door: str, source: Source) -> None:
        """The door is closed again for this source."""
        self._do("DELETE FROM pending WHERE door = ? AND source = ?", door, source)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _do(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        try:
            return self._base.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "it remembers which doors a command has to close; gate.state_directory names its folder"
        if reason == "database is locked":
            return _InUse(f"{self._path}: another runner uses it", hint="end that one first")
        return Unavailable(f"{self._path}: {reason}", hint=hint)


def _make_private(path: Path) -> None:
    """Make the file, of mode 0600, or see that nobody else can have written it. OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(file)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(0, "must be of mode 0600 and belong to who runs the gate")
    finally:
        os.close(file)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # or the name of a new file may be lost, and with it all that is in it
    finally:
        os.close(folder)
