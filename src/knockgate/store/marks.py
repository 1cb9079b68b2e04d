"""The marks of sealed knocks, in a file: ``world.MarkStore``. docs/spec/spa-v1.md, "Replay".

What a knock moves is moved in one transaction: its device's mark, which device is forgotten for it, what the
key's other devices must then be newer than, and the last time that the gate was sure of. It is on the disk
before the verdict is told. What is turned away writes nothing: a knock sent again and again costs a look.

::

    gate    incarnation, salt, low     which keys it belongs to; devices are hashed with the salt; what every
                                       device without a mark must be newer than. Never changes.
    marks   key, device -> era, issued             the device as hashed
    lows    key -> issued              the newest that was forgotten of the key; in the place of a key b"": of
                                       keys that nobody has any more, and it holds for all
    floor   time, up, boot             none or one

The gate never makes this file: where it is missing, or belongs to other keys, all that was ever recorded
could be taken once more. An admin does, in one of two ways that cost differently (``_LOST``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from knockgate.errors import Unavailable
from knockgate.mechanisms.certainty import Floor, Span
from knockgate.mechanisms.marks import Known, Marked, Spend, Verdict, judge, newest_of
from knockgate.spa.sealed import device_row
from knockgate.spa.sealed.dates import Date
from knockgate.store.base import InUse, Lost, PrivateBase
from knockgate.store.making import all_of, made, put_in_place, remove
from knockgate.world import DeviceMark

__all__ = ["DeviceMark", "SqliteMarks"]

_VERSION = 2
_SCHEMA = (
    "CREATE TABLE gate (incarnation BLOB NOT NULL, salt BLOB NOT NULL, low INTEGER NOT NULL) STRICT",
    """CREATE TABLE marks (
        key BLOB NOT NULL, device BLOB NOT NULL, era INTEGER NOT NULL, issued INTEGER NOT NULL,
        PRIMARY KEY (key, device)
    ) WITHOUT ROWID, STRICT""",
    "CREATE TABLE lows (key BLOB PRIMARY KEY, issued INTEGER NOT NULL) WITHOUT ROWID, STRICT",
    "CREATE TABLE floor (time INTEGER NOT NULL, up INTEGER NOT NULL, boot TEXT NOT NULL) STRICT",
    f"PRAGMA user_version = {_VERSION}",
)
#: Version 1 had in each row what ``newest_of`` says of it: an eighth of the file.
_TO_VERSION_2 = "ALTER TABLE marks DROP COLUMN newest", "PRAGMA user_version = 2"
_LOOK_UP = """
SELECT (SELECT issued FROM lows WHERE key = ?), era, issued FROM marks WHERE key = ? AND device = ?
"""
_LOW = "SELECT issued FROM lows WHERE key = ?"
_NEWEST = "SELECT key, device, era, issued FROM marks ORDER BY issued DESC LIMIT ?"
_CROWD = "SELECT device, era, issued FROM marks WHERE key = ?"
# Each of these three tells by a row that what was read before it was still so.
_FIRST = "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1"
_NEXT = """
UPDATE marks SET era = ?, issued = ?
WHERE key = ? AND device = ? AND era = ? AND issued = ? RETURNING 1
"""
_FORGET = "DELETE FROM marks WHERE key = ? AND device = ? AND era = 0 AND issued <= ? RETURNING 1"
_RAISE = "INSERT INTO lows VALUES (?, ?) ON CONFLICT DO UPDATE SET issued = max(issued, excluded.issued)"
_KEYS = """
SELECT key FROM marks WHERE key > ? UNION SELECT key FROM lows WHERE key > ? ORDER BY key LIMIT ?
"""
_OLD_MARKS = "DELETE FROM marks WHERE key = ? AND era = 0 AND issued < ? RETURNING issued"
_OLD_LOW = "DELETE FROM lows WHERE key = ? AND issued < ? RETURNING issued"
_KEEP = "INSERT OR REPLACE INTO floor (rowid, time, up, boot) VALUES (1, ?, ?, ?)"
#: In the place of a key: of all of them.
_ALL = b""

_HINT = "it remembers which sealed knocks were taken: none opens twice. gate.state_directory names its folder"
_LOST = (
    "it has to be made anew, in one of two ways. `knockgate replay reset`: what is dated before the reset is "
    "refused from then on, a knock that was dated ahead of its time could be taken once more, and devices "
    "have to be enrolled again if the old file cannot be read. `knockgate rekey --now`: no old knock is good "
    "any more, and everybody needs the new card"
)


class SqliteMarks:
    """Satisfies ``world.MarkStore``. A second one on the same file is refused while the first lives."""

    def __init__(
        self,
        path: Path,
        *,
        incarnation: bytes,
        devices: int,
        patience: float = 0.0,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        """``incarnation`` is that of the gate's keys, 16 bytes. ``devices``: how many a key may have.

        Raises Unavailable where the file is missing, another one's or damaged. A key that has more devices,
        from when more were allowed, gets no others beside them. For ``patience`` seconds it waits for a store
        that may just be ending, and calls ``waits`` before.
        """
        self._path, self._most = path, devices
        self._base = _opened(path, patience, waits)
        try:
            of, self.salt, self._low = _read_gate(self._base, path)
            if of != incarnation:
                raise Lost(f"{path}: belongs to other keys than this gate has now", hint=_LOST)
            _bring_up_to_date(self._base)
            ((forgotten,),) = self._base.do("SELECT coalesce(max(issued), 0) FROM lows WHERE key = ?", _ALL)
            self._low = max(self._low, forgotten)
            self.floor()  # so that what cannot be read is told of now
            self._known(bytes(32), bytes(16))
            self._base.be_ready()
        except Unavailable:
            self._base.close()
            raise

    @staticmethod
    def create(path: Path, incarnation: bytes, *, low: int = 0, salt: bytes | None = None) -> None:
        """Make the file: all of it is on the disk then, or nothing. Never over another; raises Unavailable.

        ``low``: what is dated until then is taken of nobody, in nanoseconds since 1970. ``salt`` is 32 random
        bytes, if need be those that the devices in the admin's file were hashed with.
        """
        lay_out = _laid_out(incarnation, salt or os.urandom(32), low)
        put_in_place(path, lay_out, hint=_HINT, taken="`knockgate replay reset` puts a new one in its place")

    @staticmethod
    def reset(path: Path, incarnation: bytes, *, low: int) -> bool:
        """Put a new file in the place of the old one, or of none. ``low`` as for ``create``.

        Returns whether devices go on being called as they were: the old file could be read. Raises
        Unavailable, also while a gate uses it; then there may be no file at all.
        """
        salt = _salt_of(path)
        with made(path, _laid_out(incarnation, salt or os.urandom(32), low), hint=_HINT) as new:
            # SQLite would take a log that is left over for the new file's. It goes after its own: a file
            # without its log could be taken for whole, with older marks.
            if any(os.path.lexists(each) for each in all_of(path)[1:]):
                remove(path)
            os.replace(new, path)
        return salt is not None

    @staticmethod
    def peek_salt(path: Path) -> bytes:
        """What devices are hashed with, and nothing else: for who only looks, also while a gate has the file.

        Nothing is locked or written. Of what a gate has written since, nothing is seen. Raises Unavailable.
        """
        try:
            # Without its log: the salt was in the file itself before that had its name, and never changes.
            base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            with contextlib.closing(base):
                ((salt,),) = base.execute("SELECT salt FROM gate").fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise Unavailable(f"{path}: its salt cannot be read: {error}", hint=_HINT) from error
        if not isinstance(salt, bytes) or len(salt) != 32:
            raise Unavailable(f"{path}: its salt is damaged", hint=_HINT)
        return salt

    def claim(
        self,
        key: bytes,
        device: bytes,
        date: Date,
        taken: Span,
        floor: Floor | None,
        *,
        may_spend: bool = True,
    ) -> Verdict:
        """What becomes of an authentic knock; a ``Spend`` is on the disk when this returns it.

        After Unavailable all of it is so or nothing, and the knock is not to open anything.
        """
        row = self.row(device)
        known = self._known(key, row)
        verdict = judge(date, known, taken, may_spend=may_spend)
        if isinstance(verdict, Spend):
            with self._base.transaction():
                self._spend(key, row, known, verdict)
                if floor is not None:
                    self._write(floor)
        return verdict

    def row(self, device: bytes) -> bytes:
        """What stands for a device, here and in the admin's file: 16 bytes."""
        return device_row(self.salt, device)

    def floor(self) -> Floor | None:
        """The last time that the gate was sure of."""
        return next((Floor(*each) for each in self._base.do("SELECT time, up, boot FROM floor")), None)

    def keep_floor(self, floor: Floor | None) -> None:
        """The same in place of the one before; None: there is to be none. It is on the disk on return."""
        with self._base.transaction():
            self._write(floor)

    def devices(self) -> list[DeviceMark]:
        """All of all keys, sorted."""
        found = self._base.do("SELECT key, device, era, issued FROM marks ORDER BY key, device")
        return [DeviceMark(key, row, Date(*mark)) for key, row, *mark in found]

    def newest(self, most: int) -> tuple[list[DeviceMark], int]:
        """Those of the newest dates, the newest first, and how many there are in all."""
        ((count,),) = self._base.do("SELECT count(*) FROM marks")
        found = self._base.do(_NEWEST, most)
        return [DeviceMark(key, row, Date(*mark)) for key, row, *mark in found], count

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """The next ones that something is remembered of, in order; ``b""`` comes before the first."""
        return [key for (key,) in self._base.do(_KEYS, after, after, most)]

    def forget(self, keys: Iterable[bytes], before: int) -> None:
        """All that was issued before that of keys that nobody has any more. It is on the disk on return.

        Whatever key it is, of it or of another one: without a mark nothing is taken from then on that is not
        newer than what was forgotten. ``before`` must be so long ago that no client's clock is still there.
        """
        with self._base.transaction():
            found = [0]
            for key in keys:
                for (issued,) in (
                    *self._base.do(_OLD_MARKS, key, before),
                    *self._base.do(_OLD_LOW, key, before),
                ):
                    found.append(issued)
            if max(found) > self._low:
                self._base.do(_RAISE, _ALL, max(found))
        self._low = max(self._low, *found)

    def tidy(self) -> None:
        """When nobody waits: now and then this takes as long as some claims. Raises Unavailable."""
        self._base.tidy()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _known(self, key: bytes, row: bytes) -> Known:
        """By the index alone: its rows are asked for by key, or by key and device."""
        found = self._base.do(_LOOK_UP, key, key, row)
        if found:
            ((low, era, issued),) = found
            return Known(Date(era, issued), max(self._low, low or 0))
        low = max(self._low, *(issued for (issued,) in self._base.do(_LOW, key)), 0)
        crowd = [Marked(device, newest_of(Date(*mark))) for device, *mark in self._base.do(_CROWD, key)]
        return Known(None, low, crowd if len(crowd) >= self._most else None)

    def _spend(self, key: bytes, row: bytes, known: Known, verdict: Spend) -> None:
        """Within a transaction."""
        if known.mark is None:
            done = [self._base.do(_FIRST, key, row, *verdict.mark)]
        else:
            done = [self._base.do(_NEXT, *verdict.mark, key, row, *known.mark)]
        if verdict.forget is not None:
            done.append(self._base.do(_FORGET, key, verdict.forget, verdict.low))
        if verdict.low > known.low:
            self._base.do(_RAISE, key, verdict.low)
        if not all(done):
            raise Unavailable(f"{self._path}: was changed by somebody else meanwhile", hint=_HINT)

    def _write(self, floor: Floor | None) -> None:
        """Within a transaction."""
        if floor is None:
            self._base.do("DELETE FROM floor")
        else:
            self._base.do(_KEEP, floor.time, floor.up, floor.boot)


# --- the file -----------------------------------------------------------------------------------------


def _opened(path: Path, patience: float = 0.0, waits: Callable[[], None] = lambda: None) -> PrivateBase:
    return PrivateBase(path, user="listener", hint=_HINT, lost=_LOST, patience=patience, waits=waits)


def _read_gate(base: PrivateBase, path: Path) -> tuple[bytes, bytes, int]:
    """Incarnation, salt and low, of a file that is whole; else Unavailable."""
    ((version,),) = base.do("PRAGMA user_version")
    if version > _VERSION:
        message = f"{path}: written by a newer knockgate (version {version} of the file)"
        raise Unavailable(message, hint="install that one again")
    if version < 1:
        raise Lost(f"{path}: is no store of marks", hint=_LOST)
    # A mark that cannot be found is one that was never made, so the whole file is read once.
    for (finding,) in base.do("PRAGMA quick_check(1)"):
        if finding != "ok":
            raise Lost(f"{path}: is damaged ({' '.join(finding.split())})", hint=_LOST)
    found = base.do("SELECT incarnation, salt, low FROM gate")
    if len(found) != 1 or len(found[0][0]) != 16 or len(found[0][1]) != 32:
        raise Lost(f"{path}: does not say which keys it belongs to", hint=_LOST)
    incarnation, salt, low = found[0]
    return incarnation, salt, low


def _bring_up_to_date(base: PrivateBase) -> None:
    """Give a file of before the tables of now, with all that is in it, or leave it as it is. Unavailable."""
    if base.do("PRAGMA user_version") == [(1,)]:
        with base.transaction():
            for statement in _TO_VERSION_2:
                base.do(statement)


def _salt_of(path: Path) -> bytes | None:
    """None: it is missing or damaged. Raises Unavailable while it is used, is newer, or not for us to use."""
    try:
        base = _opened(path)
    except Lost:
        return None
    except InUse:
        raise
    except Unavailable as error:  # not ours to put another one in its place, whatever it is
        raise Unavailable(str(error), hint=f"make it right, or move it away: mv {path} {path}.old") from None
    try:
        return _read_gate(base, path)[1]
    except Lost:
        return None
    finally:
        base.close()


def _laid_out(incarnation: bytes, salt: bytes, low: int) -> Callable[[PrivateBase], None]:
    """What is in a new file."""

    def lay_out(base: PrivateBase) -> None:
        for statement in _SCHEMA:
            base.do(statement)
        base.do("INSERT INTO gate VALUES (?, ?, ?)", incarnation, salt, low)

    return lay_out
