"""``hours = ["Mon-Fri 08:00-18:00"]`` -> spans of the week, and names of time zones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from knockgate.config.toml import Reader, Wrong, shown, text

__all__ = ["Week", "week", "zone"]

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_MOST = 100
_HINT = 'days and times such as "Mon-Fri 08:00-18:00", "Sat,Sun 10:00-14:00" or "22:00-06:00"'
_ITEM = re.compile(r"(?:(?P<days>[a-z]+(?: ?[-,] ?[a-z]+)*)(?: |$))?(?P<times>[0-9][0-9:, -]*)?")
_TIMES = re.compile(r"([0-9]{1,2}):([0-9]{2}) ?- ?([0-9]{1,2}):([0-9]{2})")


class Week(NamedTuple):
    """Hours of a week."""

    written: tuple[str, ...]  #: as they stand in the file
    spans: tuple[tuple[int, int], ...]  #: minutes since Monday 00:00, ascending, with gaps between them

    def __str__(self) -> str:
        return ", ".join(self.written)


def _week(value: object) -> Week:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of hours", _HINT)
    if not value:
        raise Wrong("names no hours, so the key would never be good", "revoked = true says so")
    if len(value) > _MOST:
        raise Wrong(f"has {len(value)} entries", f"{_MOST} are possible")
    written = tuple(" ".join(item.split()) for item in value)
    return Week(written, tuple(_joined(span for item in written for span in _spans(item))))


def _spans(item: str) -> Iterator[tuple[int, int]]:
    """Those of one entry, cut at the end of the week; raises Wrong."""
    found = _ITEM.fullmatch(item.lower())
    if not item or not found:
        raise Wrong(f"{shown(item)} is no time of a week", _HINT)
    days = list(_days(found["days"])) if found["days"] else range(7)
    times = list(_times(item, found["times"])) if found["times"] else [(0, _DAY)]
    for day in days:
        for begin, length in times:
            start = day * _DAY + begin
            end = start + length
            yield start, min(end, _WEEK)
            if end > _WEEK:
                yield 0, end - _WEEK


def _days(words: str) -> Iterator[int]:
    for part in words.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        begin = _day(first)
        end = _day(last) if last else begin
        yield from ((begin + each) % 7 for each in range((end - begin) % 7 + 1))


def _day(word: str) -> int:
    for number, name in enumerate(_DAYS):
        if word in (name, name[:3]):
            return number
    raise Wrong(f"{shown(word)} is no day of the week", ", ".join(name[:3].title() for name in _DAYS))


def _times(item: str, words: str) -> Iterator[tuple[int, int]]:
    """Minutes: begin, and how long it lasts, over midnight where the end is not after the begin."""
    for part in words.split(","):
        found = _TIMES.fullmatch(part.strip())
        if not found:
            raise Wrong(f"{shown(item)} is no time of a week", _HINT)
        begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
        begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
        if begin_minute > 59 or end_minute > 59 or begin >= _DAY or end > _DAY:
            raise Wrong(f"{part.strip()} is no time of a day", "from 00:00 to 24:00")
        if begin == end:
            raise Wrong(f"{part.strip()} is no time at all", "00:00-24:00 is the whole day")
        yield begin, end - begin if end > begin else end - begin + _DAY


def _joined(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _zone(value: object) -> str:
    name: str = text.read(value)
    if not name:
        return name
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - few need it

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, or a way out of theirs
        hint = "as `timedatectl list-timezones` lists them; they are in the package tzdata"
        raise Wrong(f"{shown(name)} is no time zone that this machine knows", hint) from None
    return name


week = Reader("list of hours", _week)
zone = Reader("time zone", _zone)
