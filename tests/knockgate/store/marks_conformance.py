"""What every ``world.MarkStore`` promises, as cases, and its life among clocks that jump.

The file and the fake in memory both run all of it, so the fake cannot promise more or less. What becomes of a
single knock is ``mechanisms.marks``, whose tests have the page's tables; here it is what is kept between two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from tests.knockgate.mechanisms.marks_life import Packet

from knockgate.errors import Reason
from knockgate.mechanisms.certainty import Floor, Span
from knockgate.mechanisms.marks import Spend, TurnAway, Verdict
from knockgate.spa.sealed import device_row
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.world import DeviceMark, MarkStore

__all__ = [
    "BLIND",
    "BOB",
    "CASES",
    "FLOOR",
    "JO",
    "LAPTOP",
    "MOST",
    "NEW",
    "NOW",
    "PHONE",
    "SALT",
    "SURE",
    "TABLET",
    "InAStore",
    "MakesMarks",
    "crowded",
    "reason",
    "taken",
]

SECOND = 10**9
NOW = 1_800_000_000 * SECOND
IN_2038 = 1 << 61
SALT = bytes(range(32))
JO, BOB, OTHER = b"j" * 32, b"b" * 32, b"o" * 32
LAPTOP, PHONE, TABLET, WATCH, NEW = (letter * 16 for letter in (b"l", b"p", b"t", b"w", b"n"))
BLIND, FLOORED, SURE = Span(), Span(NOW - WINDOW), Span(NOW - WINDOW, NOW + WINDOW)
CLOCKS = BLIND, FLOORED, SURE
FLOOR = Floor(NOW, 5 * SECOND, "a")
#: Devices of a key in these stores.
MOST = 3


class MakesMarks(Protocol):
    """An empty store with room for MOST devices of a key, and SALT."""

    def __call__(self, *, low: int = 0) -> MarkStore: ...


def taken(verdict: Verdict) -> bool:
    """Whether the knock goes on, to what the key may."""
    return isinstance(verdict, Spend) and verdict.refused is None


def reason(verdict: Verdict) -> Reason | None:
    return verdict.reason if isinstance(verdict, TurnAway) else verdict.refused


def crowded(store: MarkStore, key: bytes = JO) -> MarkStore:
    """With as many devices of the key as there may be: what they sent was stale by now, the phone's most."""
    for device, age in ((LAPTOP, 2), (PHONE, 4), (TABLET, 3)):
        assert taken(store.claim(key, device, Date(0, NOW - age * WINDOW), BLIND, None))
    assert len(store.devices()) == MOST
    return store


# --- marks --------------------------------------------------------------------------------------------


def a_knock_is_taken_once(makes: MakesMarks) -> None:
    store = makes()
    for date in (Date(0, NOW), Date(0, NOW + 1), Date(1, NOW - WINDOW), Date(1, NOW)):
        assert taken(store.claim(JO, LAPTOP, date, SURE, None))
        for clock in CLOCKS:
            assert reason(store.claim(JO, LAPTOP, date, clock, None)) is Reason.REPLAYED
    for date in (Date(0, NOW), Date(0, NOW + 2), Date(0, IN_2038), Date(1, NOW - 1)):
        assert reason(store.claim(JO, LAPTOP, date, BLIND, None)) is Reason.REPLAYED
    assert store.devices() == [DeviceMark(JO, store.row(LAPTOP), Date(1, NOW))]


def devices_and_keys_have_nothing_to_do_with_each_other(makes: MakesMarks) -> None:
    """However new one's knock is, another one's older one is taken; and each of them once."""
    store = makes()
    pairs = [(key, device) for key in (JO, BOB) for device in (LAPTOP, PHONE, TABLET)]
    for number, pair in enumerate(pairs):
        assert taken(store.claim(*pair, Date(5 - number, NOW - number), SURE, None))
    for number, pair in enumerate(pairs):
        assert reason(store.claim(*pair, Date(5 - number, NOW - number), SURE, None)) is Reason.REPLAYED
        assert taken(store.claim(*pair, Date(5 - number, NOW - number + 1), SURE, None))
    assert len(store.devices()) == len(pairs)


def what_is_ahead_writes_nothing(makes: MakesMarks) -> None:
    store = makes()
    date = Date(0, NOW + WINDOW + 1)
    verdict = store.claim(JO, LAPTOP, date, SURE, FLOOR)
    assert verdict == TurnAway(Reason.AHEAD, -WINDOW - 1)
    assert store.devices() == [] and store.floor() is None
    assert taken(store.claim(JO, LAPTOP, date, Span(NOW, NOW + 2 * WINDOW), None))


def what_is_stale_is_spent(makes: MakesMarks) -> None:
    """It is not welcome when the clock is set back."""
    store = makes()
    date = Date(0, NOW - WINDOW - 1)
    assert reason(store.claim(JO, LAPTOP, date, SURE, FLOOR)) is Reason.STALE
    assert reason(store.claim(JO, LAPTOP, date, BLIND, None)) is Reason.REPLAYED
    assert [mark for _, _, mark in store.devices()] == [date] and store.floor() == FLOOR
    assert taken(store.claim(JO, PHONE, date, BLIND, None))  # control


def what_is_as_old_as_the_store_is_a_replay(makes: MakesMarks) -> None:
    """Of whichever key; one with a mark has that instead."""
    store = makes(low=NOW)
    for key in (JO, BOB):
        for date in (Date(0, 1), Date(0, NOW), Date(7, NOW)):
            assert reason(store.claim(key, LAPTOP, date, BLIND, None)) is Reason.REPLAYED
        assert taken(store.claim(key, LAPTOP, Date(0, NOW + 1), SURE, None))
        assert taken(store.claim(key, LAPTOP, Date(1, NOW - 1), SURE, None))
    assert taken(makes().claim(JO, LAPTOP, Date(0, NOW), BLIND, None))


def the_largest_numbers_are_kept(makes: MakesMarks) -> None:
    """Of the message's fields."""
    store = makes(low=(1 << 63) - 2)
    assert taken(store.claim(JO, LAPTOP, Date(65535, (1 << 63) - 1), BLIND, None))
    assert reason(store.claim(JO, LAPTOP, Date(65535, (1 << 63) - 1), BLIND, None)) is Reason.REPLAYED
    assert reason(store.claim(JO, PHONE, Date(65535, (1 << 63) - 2), BLIND, None)) is Reason.REPLAYED


# --- room ---------------------------------------------------------------------------------------------


def without_a_clock_there_is_no_room_for_one_more(makes: MakesMarks) -> None:
    store = crowded(makes())
    before = store.devices()
    for clock in (BLIND, FLOORED):
        assert reason(store.claim(JO, NEW, Date(0, NOW), clock, FLOOR)) is Reason.TOO_MANY_DEVICES
    assert store.devices() == before and store.floor() is None
    assert taken(store.claim(BOB, NEW, Date(0, NOW), BLIND, None))  # another key has room of its own
    for device in (LAPTOP, PHONE, TABLET):  # and those that have a mark need none
        assert taken(store.claim(JO, device, Date(0, NOW), BLIND, None))


def the_lowest_goes_and_low_stays(makes: MakesMarks) -> None:
    """What was forgotten, and what is not newer than that, is a replay for this key; its others go on."""
    store = crowded(makes())
    others = [each for each in store.devices() if each.row != store.row(PHONE)]
    verdict = store.claim(JO, NEW, Date(0, NOW), SURE, FLOOR)
    assert verdict == Spend(Date(0, NOW), NOW - 4 * WINDOW, store.row(PHONE))
    assert store.devices() == sorted([*others, DeviceMark(JO, store.row(NEW), Date(0, NOW))])
    assert store.floor() == FLOOR
    for clock in CLOCKS:
        for device, date in ((PHONE, NOW - 4 * WINDOW), (WATCH, NOW - 5 * WINDOW), (NEW, NOW)):
            refused = reason(store.claim(JO, device, Date(0, date), clock, None))
            without_room = clock != SURE and device != NEW
            assert refused is (Reason.TOO_MANY_DEVICES if without_room else Reason.REPLAYED)
    assert taken(store.claim(BOB, PHONE, Date(0, NOW - 5 * WINDOW), BLIND, None))
    for device in (LAPTOP, TABLET):
        assert taken(store.claim(JO, device, Date(0, NOW - WINDOW), SURE, None))


def low_rises_with_each_that_goes(makes: MakesMarks) -> None:
    """One that was spent stale is the lowest and goes next; what went before it stays gone."""
    store = crowded(makes())
    first = Date(0, NOW - 4 * WINDOW + 1)
    assert reason(store.claim(JO, NEW, first, SURE, None)) is Reason.STALE
    assert taken(store.claim(JO, WATCH, Date(0, NOW), SURE, None))
    marks = {row: mark for _, row, mark in store.devices()}
    assert store.row(NEW) not in marks and len(marks) == MOST
    assert reason(store.claim(JO, NEW, first, SURE, None)) is Reason.REPLAYED
    assert reason(store.claim(JO, PHONE, Date(0, NOW - 4 * WINDOW), SURE, None)) is Reason.REPLAYED


def the_store_s_low_is_not_lost_when_a_device_goes(makes: MakesMarks) -> None:
    store = makes(low=NOW - 10 * WINDOW)
    crowded(store)
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))
    assert reason(store.claim(JO, WATCH, Date(0, NOW - 4 * WINDOW), SURE, None)) is Reason.REPLAYED
    assert reason(store.claim(BOB, WATCH, Date(0, NOW - 10 * WINDOW), SURE, None)) is Reason.REPLAYED
    assert taken(store.claim(BOB, WATCH, Date(0, NOW - 4 * WINDOW), BLIND, None))


def who_is_turned_away_pushes_nobody_out(makes: MakesMarks) -> None:
    store = crowded(makes())
    before = store.devices()
    assert reason(store.claim(JO, NEW, Date(0, NOW + WINDOW + 1), SURE, FLOOR)) is Reason.AHEAD
    assert store.devices() == before and store.floor() is None
    assert taken(store.claim(JO, NEW, Date(0, NOW + WINDOW), SURE, FLOOR))
    assert store.devices() != before and len(store.devices()) == MOST


def of_later_eras_nobody_goes(makes: MakesMarks) -> None:
    """A knock of era 0 that came late would make a mark below what was taken of era 1."""
    store = makes()
    for device in (LAPTOP, PHONE, TABLET):
        assert taken(store.claim(JO, device, Date(1, NOW - 4 * WINDOW), BLIND, None))
    assert reason(store.claim(JO, NEW, Date(0, NOW), SURE, None)) is Reason.TOO_MANY_DEVICES
    store.forget([JO], NOW)
    assert len(store.devices()) == MOST


# --- keys that nobody has any more --------------------------------------------------------------------


def what_a_gone_key_leaves_is_one_number(makes: MakesMarks) -> None:
    """However many keys they were; and nothing of theirs is taken again, if they come back."""
    store = crowded(makes())
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))  # so there is a low of JO's
    assert taken(store.claim(BOB, LAPTOP, Date(0, NOW - 3 * WINDOW), BLIND, None))
    assert store.keys(b"", 9) == [BOB, JO] and store.keys(b"", 1) == [BOB] and store.keys(BOB, 9) == [JO]
    store.forget([JO, BOB], NOW - WINDOW)
    assert store.devices() == [DeviceMark(JO, store.row(NEW), Date(0, NOW))]  # that is not old enough
    for clock in CLOCKS:
        for key, device, date in (
            (BOB, LAPTOP, Date(0, NOW - 3 * WINDOW)),
            (BOB, LAPTOP, Date(8, NOW - 2 * WINDOW)),
            (JO, PHONE, Date(0, NOW - 4 * WINDOW)),
            (JO, LAPTOP, Date(0, NOW - 2 * WINDOW)),
            (OTHER, PHONE, Date(0, NOW - 2 * WINDOW)),
        ):
            assert reason(store.claim(key, device, date, clock, None)) is Reason.REPLAYED
        assert reason(store.claim(JO, NEW, Date(0, NOW), clock, None)) is Reason.REPLAYED
    assert store.keys(b"", 9) == [JO]
    for key, device in ((BOB, LAPTOP), (JO, PHONE), (OTHER, WATCH)):
        assert taken(store.claim(key, device, Date(0, NOW - WINDOW), SURE, None))


def low_of_a_key_counts_where_it_is_above_that_of_all(makes: MakesMarks) -> None:
    store = crowded(makes())
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))
    assert taken(store.claim(BOB, LAPTOP, Date(0, NOW - 5 * WINDOW), BLIND, None))
    store.forget([BOB], NOW)
    for date, expected in ((NOW - 4 * WINDOW, Reason.REPLAYED), (NOW - 4 * WINDOW + 1, Reason.STALE)):
        assert reason(store.claim(JO, WATCH, Date(0, date), SURE, None)) is expected
    store.forget([], NOW)
    assert reason(store.claim(OTHER, WATCH, Date(0, NOW - 5 * WINDOW), BLIND, None)) is Reason.REPLAYED
    assert taken(store.claim(OTHER, WATCH, Date(0, NOW - 5 * WINDOW + 1), BLIND, None))


def what_is_not_old_of_a_gone_key_stays(makes: MakesMarks) -> None:
    """In any of its eras."""
    store = makes()
    assert taken(store.claim(JO, LAPTOP, Date(0, IN_2038), BLIND, None))
    assert taken(store.claim(JO, LAPTOP, Date(1, NOW - 9 * WINDOW), BLIND, None))
    assert taken(store.claim(JO, PHONE, Date(0, NOW), BLIND, None))
    before = store.devices()
    store.forget([JO], NOW)
    assert store.devices() == before
    assert taken(store.claim(BOB, LAPTOP, Date(0, 1), BLIND, None))  # and low is as it was
    store.forget([JO], NOW + 1)
    assert len(store.devices()) == len(before)  # the phone's is gone now, and Bob's is there
    assert reason(store.claim(BOB, PHONE, Date(0, NOW), BLIND, None)) is Reason.REPLAYED


# --- names, and the floor -----------------------------------------------------------------------------


def devices_are_kept_as_hashes(makes: MakesMarks) -> None:
    """And told in order, whoever knocked first."""
    store = makes()
    for key, device in ((JO, TABLET), (BOB, PHONE), (JO, LAPTOP), (BOB, TABLET)):
        assert taken(store.claim(key, device, Date(0, NOW), SURE, None))
    marks = store.devices()
    assert marks == sorted(marks) and {(key, row) for key, row, _ in marks} == {
        (key, device_row(SALT, device))
        for key, device in ((JO, TABLET), (BOB, PHONE), (JO, LAPTOP), (BOB, TABLET))
    }
    assert store.row(TABLET) == device_row(SALT, TABLET)


def the_floor_is_the_last_that_was_kept(makes: MakesMarks) -> None:
    """Also where it is earlier than the one before; None with a claim says nothing, and alone says none."""
    store = makes()
    assert store.floor() is None
    later, earlier = FLOOR, Floor(1, (1 << 63) - 1, "of another boot")
    for number, floor in enumerate((later, earlier, later)):
        store.keep_floor(floor)
        assert store.floor() == floor
        assert taken(store.claim(JO, LAPTOP, Date(0, NOW + 3 * number), SURE, None))
        assert store.floor() == floor
        assert taken(store.claim(JO, LAPTOP, Date(0, NOW + 3 * number + 1), SURE, earlier))
        assert store.floor() == earlier
        assert reason(store.claim(JO, LAPTOP, Date(0, NOW), SURE, later)) is Reason.REPLAYED
        assert store.floor() == earlier
    store.keep_floor(None)
    assert store.floor() is None
    assert len(store.devices()) == 1


CASES: list[Callable[[MakesMarks], None]] = [
    a_knock_is_taken_once,
    devices_and_keys_have_nothing_to_do_with_each_other,
    what_is_ahead_writes_nothing,
    what_is_stale_is_spent,
    what_is_as_old_as_the_store_is_a_replay,
    the_largest_numbers_are_kept,
    without_a_clock_there_is_no_room_for_one_more,
    the_lowest_goes_and_low_stays,
    low_rises_with_each_that_goes,
    the_store_s_low_is_not_lost_when_a_device_goes,
    who_is_turned_away_pushes_nobody_out,
    of_later_eras_nobody_goes,
    what_a_gone_key_leaves_is_one_number,
    low_of_a_key_counts_where_it_is_above_that_of_all,
    what_is_not_old_of_a_gone_key_stays,
    devices_are_kept_as_hashes,
    the_floor_is_the_last_that_was_kept,
]


# --- any course of things -----------------------------------------------------------------------------


class InAStore:
    """``marks_life.Remembers``, on a store; ``again`` makes it the store of a gate that has started again."""

    def __init__(self, store: MarkStore, room: int, again: Callable[[MarkStore], MarkStore]) -> None:
        self.store, self.room, self.again = store, room, again

    def row(self, device: bytes) -> bytes:
        return self.store.row(device)

    def forget(self, before: int) -> None:
        self.store.forget([JO], before)

    def take(self, packet: Packet, taken: Span, floor: Floor | None) -> Verdict:
        return self.store.claim(JO, packet.device, packet.date, taken, floor)

    def marks(self) -> Iterable[Date]:
        return [mark for _, _, mark in self.store.devices()]

    def floor(self) -> Floor | None:
        return self.store.floor()

    def keep_floor(self, floor: Floor | None) -> None:
        self.store.keep_floor(floor)

    def start_again(self) -> None:
        before = self.store.devices(), self.store.floor()
        self.store = self.again(self.store)
        assert (self.store.devices(), self.store.floor()) == before
