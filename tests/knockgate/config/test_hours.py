"""``hours`` and ``hours_in`` of a key: what they come to, and what is wrong with them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.config.hours import Week, week, zone
from knockgate.config.toml import Wrong
from knockgate.mechanisms.hours import WEEK, Hours

DAY = 1440
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def spans(*items: str) -> list[tuple[int, int]]:
    found = week.read(list(items))
    assert isinstance(found, Week)
    Hours(found.spans, lambda at: (0, at))  # it takes them
    return list(found.spans)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["Mon 08:00-18:00"], [(480, 1080)]),
        (["mon  8:00 - 18:00"], [(480, 1080)]),
        (["Monday 08:00-12:00,13:00-18:00"], [(480, 720), (780, 1080)]),
        (["Tue,Thu 00:00-01:00"], [(DAY, DAY + 60), (3 * DAY, 3 * DAY + 60)]),
        (["Sat-Sun"], [(5 * DAY, WEEK)]),
        (["Sun-Mon"], [(0, DAY), (6 * DAY, WEEK)]),
        (["Fri-Mon 00:00-24:00"], [(0, DAY), (4 * DAY, WEEK)]),
        (["Mon-Sun"], [(0, WEEK)]),
        (["00:00-24:00"], [(0, WEEK)]),
        (["Fri 22:00-06:00"], [(4 * DAY + 1320, 5 * DAY + 360)]),
        (["Sun 22:00-06:00"], [(0, 360), (6 * DAY + 1320, WEEK)]),
        (["Mon 00:00-02:00", "Mon 01:00-03:00", "Mon 03:00-04:00"], [(0, 240)]),
    ],
)
def test_what_hours_come_to(items: list[str], expected: list[tuple[int, int]]) -> None:
    assert spans(*items) == expected


def test_every_night() -> None:
    assert len(spans("22:00-06:00")) == 8 and spans("22:00-06:00")[:2] == [(0, 360), (1320, DAY + 360)]


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, DAY - 1), st.integers(1, DAY)),
        min_size=1,
        max_size=5,
    )
)
def test_every_minute_is_as_written(entries: list[tuple[int, int, int, int]]) -> None:
    """Against walking from the first day to the last, minute by minute."""
    items, inside = [], set()
    for first, last, begin, length in entries:
        end = begin + length
        shown = end if end <= DAY else end - DAY
        if shown == begin:
            continue
        items.append(
            f"{NAMES[first]}-{NAMES[last]} {begin // 60:02}:{begin % 60:02}-{shown // 60:02}:{shown % 60:02}"
        )
        day = first
        while True:
            inside |= {(day * DAY + minute) % WEEK for minute in range(begin, end)}
            if day == last:
                break
            day = (day + 1) % 7
    if items:
        assert {minute for span in spans(*items) for minute in range(*span)} == inside


@pytest.mark.parametrize(
    "wrong",
    [
        "Mon-Fri 08:00-18:00",
        [],
        [8],
        [""],
        ["Mon 8-18"],
        ["Mo 08:00-18:00"],
        ["Mon08:00-18:00"],
        ["Mon-Wed-Fri 08:00-18:00"],
        ["Mon 08:00-18:60"],
        ["Mon 24:00-01:00"],
        ["Mon 08:00-24:01"],
        ["Mon 08:00-08:00"],
        ["Mon 08:00"],
        ["08:00-18:00 Mon"],
        ["Mon, 08:00-18:00"],
        ["Mon 08:00-18:00,"],
        ["Mon 08:00-18:00 UTC"],
        ["mon 0\uff18:00-18:00"],
        ["Mon 00:00-01:00"] * 101,
    ],
)
def test_what_is_no_hours_is_said(wrong: object) -> None:
    with pytest.raises(Wrong) as caught:
        week.read(wrong)
    assert caught.value.hint


@given(st.text())
def test_any_text_is_hours_or_wrong(item: str) -> None:
    with contextlib.suppress(Wrong):
        assert spans(item)


def test_time_zones() -> None:
    for name in ("", "Europe/Berlin", "UTC"):
        assert zone.read(name) == name
    for wrong in ("Europe/Atlantis", "Europe", "../../etc/passwd", "/etc/localtime", "x\0y", 5, "x" * 300):
        with pytest.raises(Wrong):
            zone.read(wrong)
