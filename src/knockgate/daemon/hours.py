"""The hours of a configured key -> what the mechanisms go by, with the clock of its time zone."""

from __future__ import annotations

import datetime as dt
import time

from knockgate.config.keys import Key
from knockgate.mechanisms.hours import Hours, Wall

__all__ = ["hours_of"]


def hours_of(key: Key) -> Hours | None:
    """None: the key has no hours, and is good at all times.

    The machine's own time zone is what the process found when it asked for it first.
    """
    if key.hours is None:
        return None
    return Hours(key.hours.spans, _wall_in(key.hours_in) if key.hours_in else _wall)


def _wall(at: int) -> tuple[int, int]:
    found = time.localtime(at)
    return found.tm_wday, found.tm_hour * 3600 + found.tm_min * 60 + found.tm_sec


def _wall_in(name: str) -> Wall:
    """The zone is read here, and no more later: whoever asks may not be able to read any file by then."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few need it

    zone = ZoneInfo(name)

    def wall(at: int) -> tuple[int, int]:
        found = dt.datetime.fromtimestamp(at, zone)
        return found.weekday(), found.hour * 3600 + found.minute * 60 + found.second

    return wall
