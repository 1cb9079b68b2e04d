"""A file of marks that an earlier knockgate made: the gate of now goes on with all that is in it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from tests.knockgate.store.killing import Course, copied
from tests.knockgate.store.marks_conformance import (
    BLIND,
    BOB,
    FLOOR,
    JO,
    LAPTOP,
    MOST,
    NEW,
    NOW,
    PHONE,
    SALT,
    SURE,
    TABLET,
    reason,
    taken,
)
from tests.knockgate.store.marks_files import OURS, made, made_by_version_1, opened
from tests.knockgate.store.small_disk import fill, small_disk
from tests.netns import isolated

from knockgate.errors import Reason, Unavailable
from knockgate.spa.sealed import device_row
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.store import marks
from knockgate.store.marks import SqliteMarks
from knockgate.world import DeviceMark

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

OLD = NOW - 4 * WINDOW
#: As many as a key may have, one of them of a later era; and another key's.
MARKS = sorted(
    DeviceMark(key, device_row(SALT, device), mark)
    for key, device, mark in (
        (JO, LAPTOP, Date(0, OLD)),
        (JO, PHONE, Date(1, OLD)),
        (JO, TABLET, Date(0, NOW)),
        (BOB, LAPTOP, Date(0, NOW)),
    )
)


def made_before(path: Path) -> Path:
    return made_by_version_1(path, MARKS, {JO: OLD - 1, b"": OLD - 2}, FLOOR)


def version_of(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as base:
        ((version,),) = base.execute("PRAGMA user_version").fetchall()
    return int(version)


def test_all_that_was_in_it_is_known(tmp_path: Path) -> None:
    file = made_before(tmp_path / "marks")
    assert len([key for key, *_ in MARKS if key == JO]) == MOST and version_of(file) == 1
    for _ in range(2):
        with contextlib.closing(opened(file)) as store:
            assert store.devices() == MARKS and store.floor() == FLOOR and store.salt == SALT
            for key, device, date in (
                (JO, LAPTOP, OLD),
                (JO, PHONE, NOW),  # its mark is of a later era
                (JO, TABLET, NOW),
                (BOB, LAPTOP, NOW),
                (BOB, NEW, OLD - 2),  # low of all keys
            ):
                assert reason(store.claim(key, device, Date(0, date), BLIND, None)) is Reason.REPLAYED
            assert reason(store.claim(JO, NEW, Date(0, NOW), BLIND, None)) is Reason.TOO_MANY_DEVICES
    assert version_of(file) == version_of(made(tmp_path / "new")) == 2


def test_it_goes_on_as_one_that_was_made_now(tmp_path: Path) -> None:
    """The oldest makes room and leaves its low; that of a later era stays, and what is gone is forgotten."""
    with contextlib.closing(opened(made_before(tmp_path / "marks"))) as store:
        assert taken(store.claim(JO, TABLET, Date(0, NOW + 1), SURE, None))
        assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))
        rows = {row for key, row, _ in store.devices() if key == JO}
        assert rows == {device_row(SALT, device) for device in (NEW, PHONE, TABLET)}
        assert reason(store.claim(JO, LAPTOP, Date(0, OLD), BLIND, None)) is Reason.TOO_MANY_DEVICES
        store.forget([JO, BOB], NOW + 2)
        assert [mark for *_, mark in store.devices()] == [Date(1, OLD)]
        assert reason(store.claim(BOB, LAPTOP, Date(0, NOW + 1), BLIND, None)) is Reason.REPLAYED
        assert taken(store.claim(BOB, LAPTOP, Date(0, NOW + 2), BLIND, None))


def test_one_of_other_keys_is_left_as_it_is(tmp_path: Path) -> None:
    file = made_before(tmp_path / "marks")
    with pytest.raises(Unavailable, match="belongs to other keys"):
        SqliteMarks(file, incarnation=b"x" * 16, devices=MOST)
    assert version_of(file) == 1
    assert SqliteMarks.peek_salt(file) == SALT
    assert SqliteMarks.reset(file, OURS, low=NOW) is True
    assert version_of(file) == 2


def test_the_first_start_is_killed(tmp_path: Path) -> None:
    """At each statement: the file is of the one version or of the other then, and has all."""
    old = made_before(tmp_path / "old")
    starting = Course(lambda file: file, lambda file: opened(file).close())
    points, _ = starting.killed(copied(old, tmp_path / "0"), 0)
    assert {f"before {statement}" for statement in marks._TO_VERSION_2} <= set(points)
    for at_point in range(1, len(points) + 1):
        file = copied(old, tmp_path / str(at_point))
        starting.killed(file, at_point)
        with contextlib.closing(opened(file)) as store:
            assert store.devices() == MARKS and store.floor() == FLOOR


@isolated
def test_the_first_start_is_on_a_full_disk() -> None:
    """It is said, nothing is lost, and with room it starts."""
    small_disk()
    file, ballast = made_before(Path("/run/marks")), Path("/run/ballast")
    fill(ballast)
    with pytest.raises(Unavailable, match="full") as caught:
        opened(file)
    assert caught.value.hint and "replay reset" not in caught.value.hint
    ballast.unlink()
    with contextlib.closing(opened(file)) as store:
        assert store.devices() == MARKS
