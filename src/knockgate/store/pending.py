"""Which doors stand open that only a command closes: on the disk before the command that opens them runs.

A row outlives a crash, ``kill -9`` and a power cut. It holds all that closing takes, so that it does not
need the configuration of then. Times are seconds of CLOCK_BOOTTIME, which goes on while the machine sleeps
and begins anew with each boot; a row therefore bears the boot's identity, and one of an earlier boot is
due at once.

The commands in here are run with the rights of whoever reads them: the file must be ours alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from knockgate.errors import Unavailable
from knockgate.model import Source
from knockgate.store.base import PrivateBase

__all__ = ["Pending", "PendingStore"]

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
        self._boot = boot
        hint = "it remembers which doors a command has to close; gate.state_directory names its folder"
        damaged = f"close by hand what commands have opened, and move it away: mv {path} {path}.old"
        self._base = PrivateBase(
            path, user="runner", hint=hint, damaged=damaged, patience=patience, waits=waits
        )
        try:
            self._base.do(_SCHEMA)
            self.rows()
        except Unavailable:
            self._base.close()
            raise

    def rows(self) -> list[Pending]:
        """All rows; those of another boot are due at 0, and no command runs for them."""
        columns = "door, source, words, time_limit, due, process, started, boot"
        found = self._base.do(f"SELECT {columns} FROM pending")  # noqa: S608 - no value of anybody's
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
            raise self._base.unavailable(error) from error

    def put(self, row: Pending) -> None:
        """Write the row, in place of the one of its door and source; it is on the disk on return."""
        self._base.do(
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
        self._base.do("DELETE FROM pending WHERE door = ? AND source = ?", door, source)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()
