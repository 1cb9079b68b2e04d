"""A SQLite file that is ours alone, whose rows are on the disk when a verb returns.

One process has it, for as long as it lives, and a second one is refused. Written ahead (WAL) with
synchronous=FULL, so what was committed outlives a crash, ``kill -9`` and a power cut.

The log is where a knock waits for the disk: what it writes there is flushed before it goes on, and nothing
else is. So that this takes no longer than it must, the log has its length, and its head, before the first
knock comes (``be_ready``): to flush what is written over takes a quarter less time than what makes a file
longer, since the file system has nothing of its own to write. And it begins anew from the front while nobody
waits (``tidy``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from knockgate.config import private
from knockgate.errors import Unavailable

__all__ = ["InUse", "Lost", "PrivateBase"]

#: Seconds until a file that is in use is looked at again.
_LOOK_AGAIN = 0.05
#: Exclusive before WAL: then the index of the log is in our memory and not in a third file.
_OURS_ALONE = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
)
#: Bytes of the log from the start on: room for 15 knocks in a row. More make it longer, and it stays so.
_LOG = 128 << 10
#: Transactions that fill half of it, about.
_HALF = 8
#: Writes, and changes nothing: it is 0 in all files of ours. Who writes first in a log waits for its head,
#: too, and that is not to be a knock.
_NOTHING = "PRAGMA application_id = 0"
#: SQLite's primary result codes for a file that is not as we left it: a table is not there (1), the pages
#: make no sense (11), it is no such file at all (26).
_DAMAGED = frozenset((1, 11, 26))


class InUse(Unavailable):
    """Another process has the file."""


class Lost(Unavailable):
    """The file is missing, and is not to be made here; or it is damaged."""


class PrivateBase:
    """Every verb raises Unavailable where the disk refuses; the next one may succeed."""

    def __init__(
        self,
        path: Path,
        *,
        user: str,
        hint: str,
        lost: str | None = None,
        damaged: str | None = None,
        patience: float = 0.0,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        """``user`` is who else may have the file, and ``hint`` says what it is for.

        Where ``lost`` is given a missing file is not made: ``Lost`` is raised, and that is its hint.
        ``damaged`` is the hint instead where the file cannot be read and may be made anew.
        For ``patience`` seconds it waits for one that may just be ending, and calls ``waits`` before.
        """
        self._path, self._user, self._hint, self._lost = path, user, hint, lost
        self._damaged = damaged or hint
        self._committed = 0  # since the log was cleared
        try:
            _make_private(path, os.O_CREAT if lost is None else 0)
            # SQLite's lock on the file goes with the last descriptor of the process that is closed: after
            # this line nobody here opens the file a second time.
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self.unavailable(error) from error
        try:
            self._take(patience, waits)
        except Unavailable:
            self._base.close()
            raise

    def _take(self, patience: float, waits: Callable[[], None]) -> None:
        until = time.monotonic() + patience
        said = False
        while True:
            try:
                for statement in _OURS_ALONE:
                    self.do(statement)
                with self.transaction():  # it is the first one that locks
                    pass
            except InUse:
                if time.monotonic() >= until:
                    raise
            else:
                return
            if not said:
                waits()
            said = True
            time.sleep(_LOOK_AGAIN)

    def do(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Run one statement to its end; returns its rows. By itself it is a transaction."""
        try:
            return self._base.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise self.unavailable(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done within, or nothing. It is on the disk afterwards."""
        self.do("BEGIN IMMEDIATE")
        try:
            yield
            self.do("COMMIT")
            self._committed += 1
        except BaseException:
            self._committed = _HALF  # if there is no room, there is some in a log that begins anew
            if self._base.in_transaction:  # where the disk is full, SQLite may have gone back by itself
                self.do("ROLLBACK")
            raise

    @contextlib.contextmanager
    def unflushed(self) -> Iterator[None]:
        """What is committed within outlives us, but a power cut only once something later is flushed.

        Nobody waits for it, so from the first time on SQLite clears its log in here alone.
        """
        self.do("PRAGMA synchronous = NORMAL")
        self.do("PRAGMA wal_autocheckpoint = 1000")
        try:
            yield
        finally:
            self.do("PRAGMA wal_autocheckpoint = 0")
            self.do("PRAGMA synchronous = FULL")

    def be_ready(self) -> None:
        """Before the first knock: give the log its length and its head. Without room it stays short."""
        with contextlib.suppress(Unavailable):
            self.do("PRAGMA wal_checkpoint(TRUNCATE)")
            if _has_grown(self._path.with_name(f"{self._path.name}-wal")):
                self.do(_NOTHING)

    def tidy(self) -> None:
        """When nobody waits, as often as one likes: if the log is half full, begin it anew. Unavailable."""
        if self._committed < _HALF:
            return
        self._committed = 0
        self.do("PRAGMA wal_checkpoint(PASSIVE)")
        self.do(_NOTHING)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def unavailable(self, error: Exception) -> Unavailable:
        """What to raise for an error about the file or what is in it."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if reason == "database is locked":
            return InUse(f"{self._path}: another {self._user} uses it", hint="end that one first")
        if self._lost is not None and _is_lost(error):
            return Lost(f"{self._path}: {reason}", hint=self._lost)
        is_damaged = isinstance(error, sqlite3.Error) and _is_lost(error)
        return Unavailable(f"{self._path}: {reason}", hint=self._damaged if is_damaged else self._hint)


def _is_lost(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):  # some of its errors are of the module's own, and have no code
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
    return isinstance(error, FileNotFoundError | UnicodeError)


def _has_grown(log: Path) -> bool:
    """Fill an empty log with zeros, on the disk, which SQLite takes for its end; or leave it empty.

    They are written, and the room not just set aside: else the file system notes down what is written there.
    """
    try:
        file = os.open(log, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(file).st_size:  # there is something in it
            return False
        os.fsync(file)  # or a part of what was in it might come back, and be written over what came later
        left = _LOG
        while left:
            left -= os.write(file, bytes(left))
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)  # who needs the room more shall have it
        return False
    else:
        return True
    finally:
        os.close(file)


def _make_private(path: Path, make: int) -> None:
    """See that nobody else can have written the file; with O_CREAT make it, of mode 0600. OSError.

    Who may write to its folder could take it away, and its log, or lay others in their place.
    """
    ours = private.users_of(path.parent.stat())
    file = os.open(path, os.O_RDWR | make | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if make and os.fstat(file).st_uid not in ours - {0}:
            private.hand_over(file, path.parent)  # SQLite then gives its log the same owner
        found = os.fstat(file)
        if found.st_uid not in ours or found.st_mode & 0o077:
            raise PermissionError(0, "must be of mode 0600 and belong to who runs the gate")
    finally:
        os.close(file)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(folder)
        if found.st_uid not in {0, *ours} or found.st_mode & 0o022:
            raise PermissionError(0, "its folder must be one that only who runs the gate may write to")
        os.fsync(folder)  # or the name of a new file may be lost, and with it all that is in it
    finally:
        os.close(folder)
