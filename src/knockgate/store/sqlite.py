"""Which packets were taken, in a file: ``world.ReplayStore``. A claim is on the disk before it is answered.

A stranger can send a captured packet again and again. So what is known already is found by reading alone,
and writes nothing. Nobody waits for ``settle``: it writes without waiting for the disk, and it is there
that old claims are forgotten, a few at a time (``forgetting`` says which), and that SQLite's log is cleared.

::

    claimed     digest -> issued, when it was claimed    what is remembered
    unanswered  digest -> the token                      claimed, and not settled yet
    forgotten   hour -> newest                           the marks
    low         issued                                   the newest mark that counts without a clock
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from knockgate.errors import Unavailable
from knockgate.model import Claim, Moment, Token
from knockgate.store.base import PrivateBase
from knockgate.store.forgetting import held, hour
from knockgate.store.making import put_in_place

__all__ = ["SqliteStore"]

_VERSION = 1
#: Claims that are looked at, each time, for whether they can be forgotten.
_AT_ONCE = 16
#: ``up`` is of CLOCK_BOOTTIME, in whole seconds, rounded up; ``boot`` stands for the boot's identity.
_SCHEMA = (
    """CREATE TABLE claimed (
        digest BLOB PRIMARY KEY, issued INTEGER NOT NULL, up INTEGER NOT NULL, boot INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT""",
    "CREATE INDEX oldest ON claimed (issued)",
    """CREATE TABLE unanswered (
        digest BLOB PRIMARY KEY, issued INTEGER NOT NULL, key TEXT NOT NULL, source BLOB NOT NULL
    ) WITHOUT ROWID, STRICT""",
    "CREATE TABLE forgotten (hour INTEGER PRIMARY KEY, newest INTEGER NOT NULL) STRICT",
    "CREATE TABLE low (issued INTEGER NOT NULL) STRICT",
    f"PRAGMA user_version = {_VERSION}",
)
_LOOK_UP = """
SELECT
    EXISTS (SELECT 1 FROM claimed WHERE digest = ?),
    (SELECT newest FROM forgotten WHERE hour = ?),
    (SELECT issued FROM low)
"""
_FORGET = """
DELETE FROM claimed WHERE digest IN (
    SELECT digest
    FROM (SELECT digest, up, boot FROM claimed WHERE issued < ? ORDER BY issued LIMIT ?)
    WHERE CASE WHEN boot = ? THEN up < ? ELSE ? END
) RETURNING issued
"""
_MARK = """
INSERT INTO forgotten VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET newest = max(newest, excluded.newest)
"""
_LOWER = """
INSERT INTO low SELECT newest FROM forgotten WHERE hour <= ? AND newest < ? ORDER BY hour DESC LIMIT 1
"""
_CLOSED = "it is to remember which packets were taken; gate.state_directory names its folder"


class SqliteStore:
    """Satisfies ``world.ReplayStore``. A second one on the same file is refused while the first lives."""

    def __init__(
        self,
        path: Path,
        *,
        fresh: float,
        limit: int,
        patience: float = 0.0,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        """``fresh``: seconds that a packet may be early or late. ``limit``: tokens that there is room for.

        For ``patience`` seconds it waits for a store that may just be ending, and calls ``waits`` before.
        """
        self._path, self.limit = path, limit
        self._fresh, self._held = fresh, held(fresh)
        self._moment: Moment | None = None  # of the last claim
        cost = f"those of the last {fresh:g} s could be taken again, and where the clock is unknown all"
        what = "it remembers which packets were taken"
        hint = f"{what}; gate.state_directory names its folder. Without it {cost}"
        damaged = f"{what}. Wait for {fresh:g} s, and move it away: mv {path} {path}.old. Without it {cost}"
        self._base = PrivateBase(
            path, user="listener", hint=hint, damaged=damaged, patience=patience, waits=waits
        )
        try:
            self._lay_out()
            ((count,),) = self._base.do("SELECT count(*) FROM claimed")
            self._count: int = count
            self.low()  # so that what cannot be read is told of now
            found = self._base.do("SELECT digest, issued, key, source FROM unanswered ORDER BY issued")
            self._left_over = [Token(*row) for row in found]
            self._base.be_ready()
        except Unavailable:
            self._base.close()
            raise

    def _lay_out(self) -> None:
        ((version,),) = self._base.do("PRAGMA user_version")
        if version > _VERSION:
            message = f"{self._path}: written by a newer knockgate (version {version} of the file)"
            raise Unavailable(message, hint="install that one again, or move the file away")
        if version < _VERSION:
            with self._base.transaction():
                for statement in _SCHEMA:
                    self._base.do(statement)

    @staticmethod
    def create(path: Path, *, low: int, fresh: float) -> None:
        """Make the file as if all that was issued until ``low`` had been taken, in seconds since 1970.

        It is on the disk then, or nothing is. Never over another; raises Unavailable. ``fresh`` as above.
        """
        taken = f"move it away: mv {path} {path}.old"
        put_in_place(path, _closed_until(low, fresh), hint=_CLOSED, taken=taken)

    def __len__(self) -> int:
        """Tokens remembered now."""
        return self._count

    def low(self) -> int | None:
        """While the clock is unknown, nothing is taken that was issued then or before; None: anything is."""
        return next((issued for (issued,) in self._base.do("SELECT issued FROM low")), None)

    def claim(self, token: Token, moment: Moment) -> Claim:
        """Spend the token; it is on the disk before this returns CLAIMED.

        After Unavailable it may be spent or not; nobody has claimed it.
        """
        refused = self._look_up(token, moment)
        if refused:
            return refused
        self._moment = moment
        forgotten = 0
        with self._base.transaction():
            if self._count >= self.limit:
                forgotten = self._forget(moment)
            has_room = self._count - forgotten < self.limit
            if has_room:
                up, boot = math.ceil(moment.up), _number(moment.boot)
                self._base.do("INSERT INTO claimed VALUES (?, ?, ?, ?)", token.digest, token.issued, up, boot)
                self._base.do("INSERT INTO unanswered VALUES (?, ?, ?, ?)", *token)
        self._count += has_room - forgotten
        return Claim.CLAIMED if has_room else Claim.FULL

    def _look_up(self, token: Token, moment: Moment) -> Claim | None:
        ((is_known, mark, low),) = self._base.do(_LOOK_UP, token.digest, hour(token.issued))
        if is_known:
            return Claim.REPLAYED
        if mark is not None and token.issued <= mark:
            return Claim.FORGOTTEN
        if not moment.synchronised and low is not None and token.issued <= low:
            return Claim.FORGOTTEN
        return None

    def settle(self, token: Token) -> None:
        """It has been answered. This outlives us; after a power cut it may be unsettled again."""
        with self._base.unflushed():
            with self._base.transaction():
                self._base.do("DELETE FROM unanswered WHERE digest = ?", token.digest)
                forgotten = self._forget(self._moment) if self._moment else 0
            self._count -= forgotten

    def unsettled(self) -> Iterator[Token]:
        """Claimed in an earlier life and never answered; each is settled when the next one is asked for."""
        while self._left_over:
            yield self._left_over[0]
            with contextlib.suppress(Unavailable):  # then it is told of once more at the next start
                self.settle(self._left_over[0])
            del self._left_over[0]

    def tidy(self) -> None:
        """When nobody waits: now and then this takes as long as some claims. Raises Unavailable."""
        self._base.tidy()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _forget(self, moment: Moment) -> int:
        """Within a transaction: forget what is due, up to a bound. Returns how many those were."""
        if not moment.synchronised:
            return 0
        edge = moment.now - self._fresh
        boot, up = _number(moment.boot), moment.up
        gone = self._base.do(_FORGET, edge, _AT_ONCE, boot, up - self._held, up > self._held)
        newest = {hour(issued): issued for (issued,) in sorted(gone)}
        for mark in newest.items():
            self._base.do(_MARK, *mark)
        low = self.low()
        if gone or (low is not None and low >= edge):
            self._base.do("DELETE FROM low")
            self._base.do(_LOWER, hour(math.floor(edge)), edge)
        return len(gone)


def _closed_until(low: int, fresh: float) -> Callable[[PrivateBase], None]:
    """What is in a file that begins so.

    While the clock can be relied on only the last hours' marks count, and they must. ``low`` is for when it
    cannot; the next one is then chosen among marks that are older than ``fresh``, so one of these must be.
    """
    hours = range(hour(math.floor(low - fresh)) - 1, hour(low) + 1)

    def lay_out(base: PrivateBase) -> None:
        for statement in _SCHEMA:
            base.do(statement)
        for each in hours:
            base.do(_MARK, each, min(low, 3600 * each + 3599))
        base.do("INSERT INTO low VALUES (?)", low)

    return lay_out


def _number(boot: str) -> int:
    """What stands for a boot in a row; it is shorter than the name by far."""
    return int.from_bytes(hashlib.blake2b(boot.encode(), digest_size=6).digest(), "big")
