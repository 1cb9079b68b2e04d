"""The dates that a client gives its knocks: the page's table, cell by cell, and any course of its clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools.sealed_example import PAGE

from knockgate.spa.sealed.dates import LAST_ERA, WINDOW, Date, following

NOW = 1_800_000_000 * 10**9
IN_2038 = 1 << 61


def test_the_window_and_the_last_era_are_the_pages() -> None:
    """Clients of other makers go by them too; all the other tests take them as they are."""
    assert (WINDOW, LAST_ERA) == (60_000_000_000, 0xFFFF)
    assert "W is 60 s" in PAGE.read_text()


def test_the_first_one_is_of_era_0() -> None:
    assert following(None, NOW) == (0, NOW)


@pytest.mark.parametrize("era", [0, 1, LAST_ERA])
@pytest.mark.parametrize(
    ("lead", "date"),  # by how much the clock is ahead of the last date; (eras more, issued)
    [
        (1, (0, NOW + 1)),
        (IN_2038, (0, NOW + IN_2038)),
        (0, (0, NOW + 1)),
        (-1, (0, NOW + 1)),
        (-WINDOW, (0, NOW + 1)),
        (-WINDOW - 1, (1, NOW - WINDOW - 1)),
        (-NOW + 1, (1, 1)),
    ],
)
def test_the_next_one(era: int, lead: int, date: tuple[int, int]) -> None:
    eras, issued = date
    after = following(Date(era, NOW), NOW + lead)
    assert after == (None if era + eras > LAST_ERA else (era + eras, issued))


@given(
    st.lists(st.integers(1, 2**62) | st.integers(NOW - 2 * WINDOW, NOW + 2 * WINDOW), min_size=2, max_size=30)
)
def test_whatever_the_clock_does_each_is_newer_than_the_one_before(clock: list[int]) -> None:
    """And never further from the clock than W, so that a right clock makes dates that are taken."""
    last = None
    for now in clock:
        date = following(last, now)
        assert date is not None and (last is None or date > last)
        assert now <= date.issued <= now + WINDOW + 1
        last = date


def test_eras_come_to_an_end_after_65536_jumps_and_not_before() -> None:
    last, date = Date(0, IN_2038), None
    jumps = 0
    for ahead in (clock for _ in range(LAST_ERA + 1) for clock in (False, True)):
        date = following(last, IN_2038 + 1 + last.era if ahead else NOW + last.era)
        if date is None:
            break
        jumps += date.era - last.era
        last = date
    assert (jumps, last.era, date) == (LAST_ERA, LAST_ERA, None)
