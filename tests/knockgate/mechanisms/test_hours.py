"""Hours of the week, against an oracle that looks at every minute, also on days when clocks are set."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.mechanisms.hours import DAY, DAYS, WEEK, Hours, Wall, lasting

MINUTE = 60


def utc_time(*fields: int) -> dt.datetime:
    return dt.datetime(*fields, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


#: A Monday, 00:00 UTC.
MONDAY = int(dt.datetime(2026, 11, 23, tzinfo=dt.UTC).timestamp())
#: Zones with summer time, and one in which it is half an hour; days on which clocks are set there.
LEAPS = [
    ("Europe/Berlin", utc_time(2026, 3, 29, 1)),
    ("Europe/Berlin", utc_time(2026, 10, 25, 1)),
    ("America/New_York", utc_time(2026, 3, 8, 7)),
    ("America/New_York", utc_time(2026, 11, 1, 6)),
    ("Australia/Lord_Howe", utc_time(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", utc_time(2026, 10, 3, 15, 30)),
    ("Pacific/Apia", utc_time(2011, 12, 30, 10)),  # a whole day was left out
]


def utc(at: int) -> tuple[int, int]:
    return (at // 86400 + 3) % 7, at % 86400


def wall_in(name: str) -> Wall:
    zone = ZoneInfo(name)

    def wall(at: int) -> tuple[int, int]:
        found = dt.datetime.fromtimestamp(at, zone)
        return found.weekday(), found.hour * 3600 + found.minute * MINUTE + found.second

    return wall


@st.composite
def spans(draw: st.DrawFn) -> list[tuple[int, int]]:
    edges = sorted(draw(st.sets(st.integers(0, WEEK), max_size=12)))
    return list(zip(edges[::2], edges[1::2], strict=False))


def shows(hours: Hours, at: int) -> bool:
    """The slow way: whether the minute that the wall shows is in some span."""
    day, second = hours.wall(at)
    return any(day * DAY + second // MINUTE in range(*span) for span in hours.spans)


@pytest.mark.parametrize(
    "given_spans",
    [[], [(0, WEEK)], [(0, 1), (2, 3), (WEEK - 1, WEEK)], [(9 * 60, 17 * 60), (24 * 60, 7000), (7001, 7002)]],
)
def test_each_minute_of_a_week(given_spans: list[tuple[int, int]]) -> None:
    has_these(given_spans, range(WEEK))


@given(spans())
def test_each_minute_beside_an_edge(given_spans: list[tuple[int, int]]) -> None:
    edges = [edge for span in given_spans for edge in span]
    has_these(given_spans, {minute % WEEK for edge in edges for minute in range(edge - 2, edge + 3)})


def has_these(given_spans: list[tuple[int, int]], minutes: Iterable[int]) -> None:
    hours = Hours(given_spans, utc)
    inside = {minute for span in given_spans for minute in range(*span)}
    for minute in minutes:
        assert hours.has(MONDAY + minute * MINUTE + 0.5) is (minute in inside)
        assert hours.has(MONDAY + minute * MINUTE + 59.999) is (minute in inside)


@given(
    st.sampled_from(LEAPS), st.integers(-36 * 60, 36 * 60), spans(), st.integers(1, 2 * 24 * 60), st.data()
)
def test_until_is_the_first_second_that_is_outside_also_when_clocks_are_set(
    leap: tuple[str, dt.datetime],
    offset: int,
    given_spans: list[tuple[int, int]],
    most: int,
    data: st.DataObject,
) -> None:
    name, when = leap
    hours = Hours(given_spans, wall_in(name))
    second = data.draw(st.floats(0, 59.99))
    begin = int(when.timestamp()) + offset * MINUTE
    now = begin + second
    expected = 0.0
    assert hours.has(now) is shows(hours, begin)
    minutes = (begin + step * MINUTE for step in range(most + 2))  # zones leap at whole minutes
    outside = next((at for at in minutes if not shows(hours, at)), None)
    if outside != begin:
        expected = most * MINUTE if outside is None else min(outside - now, most * MINUTE)
    assert hours.until(now, most * MINUTE) == pytest.approx(expected, abs=1e-5)


def test_an_hour_that_clocks_leave_out_is_not_there_and_one_that_they_repeat_counts_twice() -> None:
    night = Hours([(6 * DAY + 120, 6 * DAY + 180)], wall_in("Europe/Berlin"))  # Sundays, 02:00-03:00
    seen = {}
    for day in (utc_time(2026, 3, 29), utc_time(2026, 10, 25), utc_time(2026, 11, 1)):
        start = int(day.timestamp()) - 6 * 3600
        seen[day.month] = sum(night.has(start + minute * MINUTE) for minute in range(12 * 60))
    assert seen == {3: 0, 10: 120, 11: 60}
    first = dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC).timestamp()  # 02:30, for the first time
    assert night.until(first, 86400) == 90 * MINUTE


@pytest.mark.parametrize("minutes", [-60, -42, -1, 0, 1, 42, 60, 100])
@pytest.mark.parametrize("end", [75, 105, 120])
def test_a_wall_may_leap_by_any_minutes(minutes: int, end: int) -> None:
    """At one o'clock: it is not a second before or after that where the leap ends the hours."""
    hours = Hours([(0, end)], lambda at: utc(at + (minutes * MINUTE if at >= MONDAY + 3600 else 0)))
    for late in range(4):
        assert hours.until(MONDAY + late, 86400) == max(60, end - minutes) * MINUTE - late


def test_a_whole_week_never_ends_and_the_wall_is_seldom_looked_at() -> None:
    """Zones are slow, and leases may last for weeks."""
    looks = []

    def wall(at: int) -> tuple[int, int]:
        looks.append(at)
        return utc(at)

    assert Hours([(0, WEEK)], wall).until(MONDAY + 0.5, 30 * 86400) == 30 * 86400
    assert len(looks) < 100


def test_over_the_end_of_the_week() -> None:
    hours = Hours([(0, 60), (WEEK - 60, WEEK)], utc)
    assert hours.until(MONDAY - 1800, 86400) == 5400
    assert hours.until(MONDAY - 3601, 86400) == 0
    assert [hours.has(MONDAY + at) for at in (-3601, -3600, 3599.9, 3600)] == [False, True, True, False]


@pytest.mark.parametrize(
    "wrong", [[(0, 0)], [(5, 4)], [(-1, 5)], [(0, WEEK + 1)], [(0, 5), (5, 6)], [(9, 10), (0, 1)]]
)
def test_spans_in_disorder_are_a_mistake_of_ours(wrong: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="order"):
        Hours(wrong, utc)
    Hours([(0, 5), (6, 7)], utc)


def test_what_the_wall_shows() -> None:
    hours = Hours([], utc)
    assert hours.shown(MONDAY - 1) == "Sun 23:59"
    assert [hours.shown(MONDAY + hour * 3600) for hour in range(24)] == [f"Mon {n:02}:00" for n in range(24)]
    assert [hours.shown(MONDAY + day * 86400 + 3 * 3600 + 12 * 60)[:3] for day in range(7)] == list(DAYS)


def test_what_is_left_of_a_lease() -> None:
    hours = Hours([(0, 10)], utc)
    assert lasting(30, MONDAY, hours, ()) == 30
    assert lasting(30, MONDAY + 590, hours, ()) == 10
    assert lasting(30, MONDAY + 590, hours, (MONDAY + 597.0, MONDAY + 595.0)) == 5
    assert lasting(30, MONDAY + 599.9, hours, ()) == 1
    assert lasting(0, MONDAY + 599.9, hours, (MONDAY + 700.0,)) == 0  # of a door that only runs commands
    assert lasting(30, None, None, ()) == 30
    assert lasting(30, MONDAY, None, (MONDAY + 0.2,)) == 1
