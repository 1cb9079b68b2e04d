"""How sure the gate is of the time: the page's two tables, each cell of them a test."""

from __future__ import annotations

import pytest

from knockgate.mechanisms.certainty import (
    Blind,
    Certainty,
    ClockEffect,
    DropFloor,
    Floor,
    Floored,
    KeepFloor,
    Span,
    Sure,
    TellStep,
    floor_at,
    forgotten,
    heard,
    span,
    started,
)
from knockgate.model import Moment
from knockgate.spa.sealed.dates import WINDOW

SECOND = 10**9
NOW, UP = 1_800_000_000, 5000
HOUR = 3600


def at(since: float = 0, *, off: float = 0, vouched: bool = True, boot: str = "a") -> Moment:
    """So many seconds after NOW by a clock that is ``off``; the boot was UP before NOW."""
    return Moment(NOW + since + off, vouched, UP + since, boot)


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


FLOOR = Floor(ns(NOW), ns(UP), "a")
SURE = Sure(offset=ns(NOW - UP), written=ns(UP))
STATES: list[Certainty] = [Blind(), Floored(ns(NOW)), SURE]


# --- what happens -------------------------------------------------------------------------------------


def test_without_a_floor_a_gate_starts_blind() -> None:
    assert started(None, at()) == started(None, at(vouched=False)) == Blind()


def test_with_a_floor_of_another_boot_that_is_how_late_it_was_at_the_boot_at_least() -> None:
    for moment in (at(boot="b"), at(100, boot="B"), at(vouched=False, boot="b")):
        assert started(FLOOR, moment) == Floored(FLOOR.time)


def test_a_second_start_in_one_boot_does_not_count_the_time_since_it_twice() -> None:
    """Else a gate that was up for a week would be a week ahead, and nobody would be let in."""
    moment = at(10, vouched=False)
    state = started(FLOOR, moment)
    assert span(state, moment) == Span(ns(NOW + 10) - WINDOW)
    other = started(FLOOR, moment._replace(boot="b"))
    assert span(other, moment) == Span(ns(NOW + UP + 10) - WINDOW)


@pytest.mark.parametrize("before", [Blind(), Floored(ns(NOW)), Floored(ns(NOW + HOUR))])
def test_a_clock_that_is_vouched_for_makes_sure_and_is_written_down(before: Certainty) -> None:
    assert heard(before, at()) == (SURE, (KeepFloor(FLOOR),))


@pytest.mark.parametrize("before", [Blind(), Floored(ns(NOW))])
def test_one_that_is_not_changes_nothing(before: Certainty) -> None:
    for moment in (at(vouched=False), at(HOUR, off=HOUR, vouched=False)):
        assert heard(before, moment) == (before, ())
        assert floor_at(before, moment) is None


def test_each_hour_it_is_written_down_again_while_it_is_vouched_for() -> None:
    state, effects = heard(SURE, at(HOUR - 1))
    assert (state, effects) == (SURE, ())
    state, effects = heard(state, at(HOUR, vouched=False))
    assert effects == ()
    state, effects = heard(state, at(HOUR + 1))
    assert effects == (KeepFloor(Floor(ns(NOW + HOUR + 1), ns(UP + HOUR + 1), "a")),)
    assert heard(state, at(2 * HOUR)) == (state, ())
    assert heard(state, at(2 * HOUR + 1))[1] != ()


def test_at_a_claim_and_at_the_stop_it_is_written_down_also_where_it_is_earlier() -> None:
    assert floor_at(SURE, at(1)) == Floor(ns(NOW + 1), ns(UP + 1), "a")
    assert floor_at(SURE, at(1, off=-HOUR)) == Floor(ns(NOW + 1 - HOUR), ns(UP + 1), "a")
    assert floor_at(SURE, at(1, vouched=False)) is None


def test_sure_stays_sure_when_nobody_vouches_any_more() -> None:
    state, effects = heard(SURE, at(2 * HOUR, vouched=False))
    assert effects == () and state == Sure(SURE.offset, SURE.written, vouched=False)
    moment = at(3 * HOUR, vouched=False)
    assert span(state, moment) == Span(ns(moment.now) - WINDOW, ns(moment.now) + WINDOW)
    back, _ = heard(state, at(2 * HOUR + 1))
    assert isinstance(back, Sure) and back.vouched


@pytest.mark.parametrize("vouched", [True, False])
@pytest.mark.parametrize("off", [61, -61, 1 << 29])
def test_a_step_of_more_than_the_window_is_told_once(off: int, vouched: bool) -> None:
    state, effects = heard(SURE, at(10, off=off, vouched=vouched))
    assert effects == (TellStep(ns(off)),) and isinstance(state, Sure)
    assert heard(state, at(20, off=off, vouched=vouched)) == (state, ())
    assert heard(state, at(30, vouched=vouched))[1] == (TellStep(ns(-off)),)


@pytest.mark.parametrize("off", [60, -60])
def test_a_smaller_one_is_not(off: int) -> None:
    state, effects = heard(SURE, at(10, off=off))
    assert (state, effects) == (SURE, ())


@pytest.mark.parametrize("moment", [at(), at(vouched=False)])
def test_what_is_forgotten_makes_blind_until_it_is_vouched_for(moment: Moment) -> None:
    state, effects = forgotten()
    assert (state, effects) == (Blind(), (DropFloor(),))
    assert isinstance(heard(state, moment)[0], Sure if moment.synchronised else Blind)


# --- what follows from it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected", "sure"),
    [
        (STATES[0], Span(None, None), False),
        (STATES[1], Span(ns(NOW + UP + 100) - WINDOW, None), False),
        (STATES[2], Span(ns(NOW + 100) - WINDOW, ns(NOW + 100) + WINDOW), True),
    ],
    ids=["blind", "floored", "sure"],
)
def test_the_dates_that_are_taken(state: Certainty, expected: Span, sure: bool) -> None:
    assert span(state, at(100)) == expected
    assert expected.sure is sure


def test_only_who_is_sure_looks_at_the_clock() -> None:
    for state in STATES:
        moments = at(100), at(100, off=-NOW)
        alike = span(state, moments[0]) == span(state, moments[1])
        assert alike is not isinstance(state, Sure)


def test_hours_without_a_step_tell_of_none() -> None:
    """The time asleep counts as time since the boot, so a lid that was shut for a night is no step."""
    state: Certainty = SURE
    told: list[ClockEffect] = []
    for hour in range(1, 48, 8):
        state, effects = heard(state, at(hour * HOUR))
        told += [effect for effect in effects if isinstance(effect, TellStep)]
    assert told == []
    assert heard(state, at(48 * HOUR, off=100))[1][0] == TellStep(ns(100))
