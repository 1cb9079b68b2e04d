"""The hours of a week in which a key is good, by a clock on somebody's wall.

Nothing is known here of time zones: the wall tells what it shows at any time, and may leap. Where clocks are
set ahead, hours that it does not show are not there; where they are set back, those that it shows twice
count twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["DAY", "DAYS", "WEEK", "Hours", "Wall", "lasting"]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: Minutes.
DAY = 24 * 60
WEEK = len(DAYS) * DAY
_MINUTE = 60

#: Seconds since 1970 -> the day of the week, Monday being 0, and the second of that day.
Wall = Callable[[int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of the week; ``wall`` is the clock that they go by."""

    spans: Sequence[tuple[int, int]]  #: minutes since Monday 00:00: begin, and end, which is not in it
    wall: Wall

    def __post_init__(self) -> None:
        """ValueError where spans are empty, out of the week, or not ascending with gaps between them."""
        inside = all(0 <= begin < end <= WEEK for begin, end in self.spans)
        if not inside or any(before[1] >= after[0] for before, after in pairwise(self.spans)):
            raise ValueError("the spans are not in order")

    def has(self, time: float) -> bool:
        """Whether it is one of them; ``time`` in seconds since 1970."""
        return self._left(math.floor(time)) > 0

    def until(self, time: float, most: float) -> float:
        """Seconds from ``time`` on for which that stays so, at most ``most``; 0 where it is none of them."""
        at, last = math.floor(time), time + most
        while at < last and (left := self._left(at)):
            at += self._steady(at, left)
        return max(0.0, min(at, last) - time)

    def shown(self, time: float) -> str:
        """What is on the wall: ``Sun 03:12``."""
        day, second = self.wall(math.floor(time))
        return f"{DAYS[day]} {second // 3600:02}:{second // _MINUTE % 60:02}"

    def _left(self, at: int) -> int:
        """Seconds until the end of the span, as long as the wall does not leap; 0 where there is none."""
        second = self._second(at)
        ends = (end * _MINUTE for begin, end in self.spans if begin * _MINUTE <= second < end * _MINUTE)
        return next((end - second for end in ends), 0)

    def _second(self, at: int) -> int:
        day, second = self.wall(at)
        return day * DAY * _MINUTE + second

    def _steady(self, at: int, seconds: int) -> int:
        """So many of the seconds that the wall does not leap before their end; at least one."""
        before = self._second(at)
        while seconds > 1 and (self._second(at + seconds) - before - seconds) % (WEEK * _MINUTE):
            seconds //= 2
        return seconds


def lasting(seconds: float, time: float | None, hours: Hours | None, ends: Iterable[float]) -> float:
    """Seconds of a lease that ends when its key is not good any more, but not within the first of them.

    ``time``: now; None where nobody knows, and then there must be no hours and no ends. ``ends``: when the
    key ends. All of these in seconds since 1970.
    """
    if time is None:
        return seconds
    left = [end - time for end in ends]
    if hours:
        left.append(hours.until(time, seconds))
    return min((seconds, *(max(1.0, each) for each in left)))
