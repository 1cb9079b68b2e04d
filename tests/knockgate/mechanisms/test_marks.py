"""Whether a sealed knock is new and on time: the page's table, and what is forgotten for room."""

from __future__ import annotations

import itertools

import pytest

from knockgate.errors import Reason
from knockgate.mechanisms.certainty import Span
from knockgate.mechanisms.marks import Known, Marked, Spend, TurnAway, judge, newest_of
from knockgate.spa.sealed.dates import WINDOW, Date

NOW = 1_800_000_000 * 10**9
IN_2038 = 1 << 61
BLIND, FLOORED, SURE = Span(), Span(NOW - WINDOW), Span(NOW - WINDOW, NOW + WINDOW)
CLOCKS = [
    pytest.param(span, id=name) for name, span in (("blind", BLIND), ("floored", FLOORED), ("sure", SURE))
]
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(
    ("date", "mark"),
    [
        ((0, NOW), (0, NOW)),
        ((0, NOW - 1), (0, NOW)),
        ((3, NOW), (3, NOW)),
        ((0, NOW), (1, NOW - WINDOW)),
        ((0, IN_2038), (1, NOW)),
        ((1, NOW), (2, 1)),
        ((0, 1), (0, NOW)),
    ],
)
def test_what_is_not_newer_than_the_mark_is_a_replay(
    clock: Span, date: tuple[int, int], mark: tuple[int, int]
) -> None:
    """Before it is ahead or stale; and whatever of the key was forgotten, and however many devices it has."""
    for low, crowd in itertools.product((0, IN_2038), (None, [Marked(A, 1)])):
        assert judge(Date(*date), Known(Date(*mark), low, crowd), clock) == TurnAway(Reason.REPLAYED)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(
    ("date", "mark"),
    [
        ((0, NOW), (0, NOW - 1)),
        ((1, NOW), (0, NOW)),
        ((1, NOW - WINDOW), (0, IN_2038)),
        ((0, NOW + WINDOW), (0, NOW + WINDOW - 1)),
        ((65535, NOW), (65534, IN_2038)),
    ],
)
def test_what_is_newer_and_on_time_goes_on(clock: Span, date: tuple[int, int], mark: tuple[int, int]) -> None:
    """Also where low is newer, and there is no room: both are about devices that have no mark."""
    for low, crowd in itertools.product((0, IN_2038), (None, [Marked(A, 1)])):
        assert judge(Date(*date), Known(Date(*mark), low, crowd), clock) == Spend(Date(*date), low)


@pytest.mark.parametrize("clock", CLOCKS)
def test_without_a_mark_it_must_be_newer_than_low(clock: Span) -> None:
    for era in (0, 1):
        for issued in (NOW, NOW - 1):
            assert judge(Date(era, issued), Known(None, NOW), clock) == TurnAway(Reason.REPLAYED)
        assert judge(Date(era, NOW + 1), Known(None, NOW), clock) == Spend(Date(era, NOW + 1), NOW)
    assert judge(Date(0, NOW), Known(None), clock) == Spend(Date(0, NOW), 0)


@pytest.mark.parametrize("mark", [None, Date(0, NOW), Date(4, NOW)])
def test_ahead_is_turned_away_unspent_where_the_time_is_known(mark: Date | None) -> None:
    date = Date(4, NOW + WINDOW + 1)
    assert judge(date, Known(mark), SURE) == TurnAway(Reason.AHEAD, skew=-WINDOW - 1)
    for clock in (BLIND, FLOORED):
        assert judge(date, Known(mark), clock) == Spend(date, 0)
    just = Date(4, NOW + WINDOW)
    assert judge(just, Known(mark), SURE) == Spend(just, 0)


@pytest.mark.parametrize("mark", [None, Date(0, NOW), Date(4, NOW - 2 * WINDOW)])
def test_stale_is_spent_all_the_same(mark: Date | None) -> None:
    date = Date(4, NOW - WINDOW - 1)
    for clock in (FLOORED, SURE):
        assert judge(date, Known(mark), clock) == Spend(date, 0, None, Reason.STALE, skew=WINDOW + 1)
    assert judge(date, Known(mark), BLIND) == Spend(date, 0)
    just = Date(4, NOW - WINDOW)
    assert judge(just, Known(mark), SURE) == judge(just, Known(mark), FLOORED) == Spend(just, 0)


# --- no room ------------------------------------------------------------------------------------------

OLD, OLDER = NOW - WINDOW - 1, NOW - WINDOW - 2
KEPT = {"as old as may be fresh": NOW - WINDOW, "in the future": IN_2038}


@pytest.mark.parametrize("clock", [BLIND, FLOORED])
def test_without_a_clock_nobody_is_forgotten(clock: Span) -> None:
    known = Known(None, 0, [Marked(A, OLD), Marked(B, OLDER)])
    assert judge(Date(0, NOW), known, clock) == TurnAway(Reason.TOO_MANY_DEVICES)
    assert isinstance(judge(Date(0, NOW), known, SURE), Spend)


@pytest.mark.parametrize("newest", KEPT.values(), ids=KEPT)
def test_some_are_never_forgotten(newest: int) -> None:
    full = Known(None, 0, [Marked(A, newest)] * 3)
    assert judge(Date(0, NOW), full, SURE) == TurnAway(Reason.TOO_MANY_DEVICES)
    beside = Known(None, 0, [Marked(A, newest), Marked(B, OLD), Marked(A, newest)])
    assert judge(Date(0, NOW), beside, SURE) == Spend(Date(0, NOW), OLD, B)


@pytest.mark.parametrize("crowd", list(itertools.permutations([Marked(A, OLD), Marked(B, OLDER)])))
def test_the_lowest_goes_and_low_does_not_go_back(crowd: list[Marked]) -> None:
    for low, after in ((0, OLDER), (OLDER, OLDER), (OLD, OLD)):
        assert judge(Date(0, NOW), Known(None, low, crowd), SURE) == Spend(Date(0, NOW), after, B)


@pytest.mark.parametrize(
    ("date", "low", "reason"),
    [
        (Date(0, NOW), NOW, Reason.REPLAYED),
        (Date(0, NOW + WINDOW + 1), 0, Reason.AHEAD),
    ],
)
def test_who_is_turned_away_pushes_nobody_out(date: Date, low: int, reason: Reason) -> None:
    crowd = [Marked(A, OLD)]
    verdict = judge(date, Known(None, low, crowd), SURE)
    assert isinstance(verdict, TurnAway) and verdict.reason is reason
    assert judge(Date(0, NOW), Known(None, 0, crowd), SURE) == Spend(Date(0, NOW), OLD, A)


def test_who_is_stale_does_since_it_is_spent() -> None:
    date = Date(0, OLDER)
    verdict = judge(date, Known(None, 0, [Marked(A, OLD)]), SURE)
    assert verdict == Spend(date, OLD, A, Reason.STALE, skew=WINDOW + 2)


def test_room_is_asked_for_before_anything_else() -> None:
    """As in the page's order of steps: 9 is before 10 and 11."""
    for date in (Date(0, 1), Date(0, IN_2038)):
        known = Known(None, NOW, [Marked(A, NOW)])
        assert judge(date, known, SURE) == TurnAway(Reason.TOO_MANY_DEVICES)


def test_two_wrong_clocks_and_no_room_shut_new_devices_out() -> None:
    """What remains: the gate is sure of 2038, so is a client, and the key has no room. Others have a mark."""
    then = Span(IN_2038 + NOW - WINDOW, IN_2038 + NOW + WINDOW)
    verdict = judge(Date(0, IN_2038 + NOW), Known(None, 0, [Marked(A, IN_2038)]), then)
    assert verdict == Spend(Date(0, IN_2038 + NOW), IN_2038, A)
    assert judge(Date(0, NOW), Known(None, IN_2038), SURE) == TurnAway(Reason.REPLAYED)
    assert judge(Date(0, NOW), Known(Date(0, NOW - 1), IN_2038), SURE) == Spend(Date(0, NOW), IN_2038)


def test_a_device_of_a_later_era_is_never_old_enough_to_be_forgotten() -> None:
    """Its date may be far behind what it has spent; a number that every store can hold stands for it."""
    assert newest_of(Date(0, NOW)) == NOW
    assert newest_of(Date(1, NOW)) == newest_of(Date(2, 1)) == 2**63 - 1
