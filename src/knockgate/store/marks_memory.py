"""The marks of sealed knocks in memory only: ``world.MarkStore`` for ``simulate`` and for tests.

The same verbs and the same answers as the file's (``marks.py``); one suite holds both to them. Nothing
outlives it.
"""

from __future__ import annotations

from collections.abc import Iterable

from knockgate.mechanisms.certainty import Floor, Span
from knockgate.mechanisms.marks import Known, Marked, Spend, Verdict, judge, newest_of
from knockgate.spa.sealed import device_row
from knockgate.spa.sealed.dates import Date
from knockgate.world import DeviceMark

__all__ = ["MemoryMarks"]


class MemoryMarks:
    """Satisfies ``world.MarkStore``."""

    def __init__(self, *, devices: int, salt: bytes, low: int = 0) -> None:
        """As ``SqliteMarks`` and its ``create``; ``salt`` has 32 bytes."""
        self.salt = salt
        self._most, self._low = devices, low
        self._marks: dict[bytes, dict[bytes, Date]] = {}  # key -> row -> mark
        self._lows: dict[bytes, int] = {}
        self._floor: Floor | None = None

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
        """What becomes of an authentic knock; what is to be spent is spent."""
        row = self.row(device)
        marks = self._marks.get(key, {})
        crowd = None
        if len(marks) >= self._most:
            crowd = [Marked(each, newest_of(mark)) for each, mark in sorted(marks.items())]
        known = Known(marks.get(row), max(self._lows.get(key, 0), self._low), crowd)
        verdict = judge(date, known, taken, may_spend=may_spend)
        if isinstance(verdict, Spend):
            if verdict.forget is not None:
                del marks[verdict.forget]
            self._marks[key] = marks | {row: verdict.mark}
            self._lows[key] = verdict.low
            self._floor = floor or self._floor
        return verdict

    def row(self, device: bytes) -> bytes:
        """What stands for a device: 16 bytes."""
        return device_row(self.salt, device)

    def floor(self) -> Floor | None:
        """The last time that the gate was sure of."""
        return self._floor

    def keep_floor(self, floor: Floor | None) -> None:
        """The same in place of the one before; None: there is to be none."""
        self._floor = floor

    def devices(self) -> list[DeviceMark]:
        """All of all keys, sorted."""
        return sorted(DeviceMark(key, *each) for key, marks in self._marks.items() for each in marks.items())

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """The next ones that something is remembered of, in order; ``b""`` comes before the first."""
        found = {key for key, marks in self._marks.items() if marks} | self._lows.keys()
        return sorted(key for key in found if key > after)[:most]

    def forget(self, keys: Iterable[bytes], before: int) -> None:
        """All that was issued before that of keys that nobody has any more."""
        for key in keys:
            marks = self._marks.get(key, {})
            old = {row: newest for row, mark in marks.items() if (newest := newest_of(mark)) < before}
            for row in old:
                del marks[row]
            low = self._lows.pop(key) if self._lows.get(key, before) < before else 0
            self._low = max(self._low, low, *old.values())

    def close(self) -> None:
        """There is nothing to let go of."""
