from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knockgate.mechanisms.marks_life import lived
from tests.knockgate.store.marks_conformance import (
    BLIND,
    CASES,
    FLOOR,
    JO,
    LAPTOP,
    MOST,
    NEW,
    NOW,
    PHONE,
    SURE,
    TABLET,
    InAStore,
    MakesMarks,
    crowded,
    reason,
    taken,
)
from tests.knockgate.store.marks_files import log_of, made, opened
from tests.knockgate.store.small_disk import fill, small_disk
from tests.netns import isolated, own_mounts, run

from knockgate.errors import Reason, Unavailable
from knockgate.mechanisms.marks import Known
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.store import marks
from knockgate.store.marks import SqliteMarks
from knockgate.world import MarkStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a store that was just made."""
    return made(tmp_path / "marks.sqlite")


@pytest.fixture
def store(file: Path) -> Iterator[SqliteMarks]:
    store = opened(file)
    yield store
    store.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_every_store_promises(case: Callable[[MakesMarks], None], tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:

        def makes(*, low: int = 0) -> SqliteMarks:
            path = tmp_path / str(len(list(tmp_path.iterdir())))
            made(path, low)
            return stack.enter_context(contextlib.closing(opened(path)))

        case(makes)


@settings(max_examples=settings().max_examples // 8)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 120))
def test_any_course_of_things(seed: int, length: int) -> None:
    """With a real file, that is closed and opened again where the gate starts again."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "marks"
        made(path)

        def memory(room: int) -> InAStore:
            def again(store: MarkStore) -> SqliteMarks:
                store.close()
                return stack.enter_context(contextlib.closing(opened(path, room)))

            return InAStore(stack.enter_context(contextlib.closing(opened(path, room))), room, again)

        lived(seed, length, memory)


# --- lives ----------------------------------------------------------------------------------------------


def test_all_of_it_is_known_to_the_next_one(file: Path) -> None:
    store = crowded(opened(file))
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, FLOOR))
    before = store.devices()
    store.close()
    store = opened(file)
    assert store.devices() == before and store.floor() == FLOOR
    assert reason(store.claim(JO, NEW, Date(0, NOW), BLIND, None)) is Reason.REPLAYED
    assert reason(store.claim(JO, PHONE, Date(0, NOW - 4 * WINDOW), SURE, None)) is Reason.REPLAYED
    assert taken(store.claim(JO, NEW, Date(0, NOW + 1), SURE, None))
    store.close()


def test_where_fewer_are_allowed_than_there_are(file: Path) -> None:
    """None goes for that by itself; and there are never more than before."""
    crowded(opened(file)).close()
    store = opened(file, 1)
    for device in (LAPTOP, PHONE, TABLET):
        assert taken(store.claim(JO, device, Date(0, NOW - 2 * WINDOW + 1), BLIND, None))
    assert reason(store.claim(JO, NEW, Date(0, NOW), BLIND, None)) is Reason.TOO_MANY_DEVICES
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))
    assert len(store.devices()) == MOST
    store.close()


# --- what is written ------------------------------------------------------------------------------------


def test_who_is_turned_away_writes_nothing(file: Path, store: SqliteMarks) -> None:
    """A knock can be sent again and again; one that is taken does write (control)."""
    crowded(store)

    def state() -> list[tuple[int, int]]:
        return [(each.stat().st_size, each.stat().st_mtime_ns) for each in (file, log_of(file))]

    before = state()
    for device, date, clock, expected in (
        (LAPTOP, NOW - 2 * WINDOW, SURE, Reason.REPLAYED),
        (LAPTOP, NOW + 2 * WINDOW, SURE, Reason.AHEAD),
        (NEW, NOW + 2 * WINDOW, SURE, Reason.AHEAD),
        (NEW, NOW, BLIND, Reason.TOO_MANY_DEVICES),
    ):
        assert reason(store.claim(JO, device, Date(0, date), clock, FLOOR)) is expected
    assert state() == before
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, FLOOR))
    assert state() != before


def test_what_waits_for_the_disk(file: Path) -> None:
    """As the kernel sees it: each claim and each floor is one fdatasync, whatever is in it; a replay none."""
    crowded(opened(file)).close()
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from tests.knockgate.store.marks_conformance import *\n"
        "from tests.knockgate.store.test_marks import opened\n"
        "from knockgate.spa.sealed.dates import Date\n"
        "store = opened(Path(sys.argv[1]))\n"
        "claim = lambda date: store.claim(JO, NEW, Date(0, date), SURE, FLOOR)\n"
        "acts = (lambda: claim(NOW), lambda: claim(NOW), lambda: claim(NOW + 1),\n"
        "    lambda: store.keep_floor(FLOOR), lambda: store.keep_floor(None), store.floor, store.devices)\n"
        "for act in acts:\n"
        "    os.write(1, b'begin\\n'); act(); os.write(1, b'end\\n')\n"
    )
    trace = "trace=fdatasync,fsync,pwrite64,write"
    command = ["strace", "-e", trace, sys.executable, "-c", script, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    acts = [each.partition('write(1, "end')[0] for each in done.stderr.split('write(1, "begin')[1:]]
    does = [("pwrite64(" in act, act.count("sync(")) for act in acts]
    writes, reads = (True, 1), (False, 0)
    assert does == [writes, reads, writes, writes, writes, reads, reads], done.stderr


def test_nothing_is_looked_for_from_one_end_to_the_other(file: Path) -> None:
    """However many keys there are: SQLite says of each statement of a claim that it goes by the index."""
    base = sqlite3.connect(file)
    texts = [
        marks._LOOK_UP,
        marks._CROWD,
        marks._NEXT,
        marks._FORGET,
        marks._OLD_MARKS,
        marks._OLD_LOW,
        marks._KEYS,
        marks._LOW,
    ]

    def plan(text: str) -> str:
        found = base.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?")).fetchall()
        return " ".join(row[-1] for row in found)

    for text in texts:
        assert "SEARCH" in plan(text) and "SCAN" not in plan(text), (text, plan(text))
    assert "SCAN" in plan("SELECT * FROM marks WHERE issued = ?")  # control
    base.close()


@pytest.mark.parametrize(
    ("device", "meanwhile"),
    [
        (LAPTOP, "UPDATE marks SET issued = issued + 9 WHERE key = ? AND device = ?"),
        (LAPTOP, "DELETE FROM marks WHERE key = ? AND device = ?"),
        (NEW, "INSERT INTO marks VALUES (?, ?, 0, 1)"),
        (NEW, "UPDATE marks SET issued = issued + 1 WHERE key = ? AND device <> ?"),
    ],
    ids=["it was moved", "it is gone", "it is there", "the one to be forgotten was moved"],
)
def test_a_mark_that_is_not_as_it_was_read_is_not_moved(
    store: SqliteMarks, device: bytes, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be while the file is ours alone. Nothing of the claim is done then, the floor neither."""
    crowded(store)
    look = SqliteMarks._known
    found = []

    def too_early(self: SqliteMarks, key: bytes, row: bytes) -> Known:
        known = look(self, key, row)
        self._base.do(meanwhile, key, row)
        found.append(self.devices())
        return known

    with monkeypatch.context() as patch:
        patch.setattr(SqliteMarks, "_known", too_early)
        with pytest.raises(Unavailable, match="changed by somebody else") as caught:
            store.claim(JO, device, Date(0, NOW), SURE, FLOOR)
    assert caught.value.hint and store.floor() is None and found == [store.devices()]
    assert taken(store.claim(JO, device, Date(0, NOW), SURE, FLOOR)) and store.floor() == FLOOR


# --- disks ----------------------------------------------------------------------------------------------


@isolated
def test_a_full_disk() -> None:
    """Nothing is taken while there is no room, and what was is known; then it goes on by itself."""
    small_disk()
    file, ballast = Path("/run/marks"), Path("/run/ballast")
    made(file)
    store = opened(file)
    assert taken(store.claim(JO, LAPTOP, Date(0, NOW), SURE, FLOOR))
    date, before = NOW + 1, (store.devices(), store.floor())
    for _ in range(3):
        fill(ballast)
        with contextlib.suppress(Unavailable):
            for date in range(date, date + 100):  # noqa: B020 - there may be room left in the log
                before = store.devices(), store.floor()
                store.claim(JO, LAPTOP, Date(0, date), SURE, FLOOR)
        assert (store.devices(), store.floor()) == before
        assert reason(store.claim(JO, LAPTOP, Date(0, date - 1), SURE, None)) is Reason.REPLAYED
        with pytest.raises(Unavailable, match="full") as caught:
            store.claim(JO, NEW, Date(0, date), SURE, None)
        assert caught.value.hint and "replay reset" not in caught.value.hint
        with pytest.raises(Unavailable, match="full"):
            store.keep_floor(None)
        assert (store.devices(), store.floor()) == before
        store.tidy()  # the log is as long as it was, and begins anew
        assert taken(store.claim(JO, LAPTOP, Date(0, date), SURE, None))
        date += 1
        ballast.unlink()
        assert taken(store.claim(JO, LAPTOP, Date(0, date), SURE, None))
        date += 1
    store.close()
    store = opened(file)
    assert reason(store.claim(JO, LAPTOP, Date(0, date - 1), SURE, None)) is Reason.REPLAYED
    assert taken(store.claim(JO, LAPTOP, Date(0, date), SURE, None))
    store.close()


@isolated
def test_a_disk_without_room_for_the_log() -> None:
    """The gate starts with a short one, and leaves the room that there is to knocks."""
    small_disk()
    file, ballast = Path("/run/marks"), Path("/run/ballast")
    made(file)
    opened(file).close()
    with contextlib.closing(opened(file)):
        assert log_of(file).stat().st_size == 128 << 10  # control
    for room in (0, 12, 32, 100):
        fill(ballast)
        os.truncate(ballast, max(0, ballast.stat().st_size - room * 1024))
        with contextlib.closing(opened(file)) as store:
            assert log_of(file).stat().st_size <= 4 * 4120
            date = NOW + room
            if room == 0:
                with pytest.raises(Unavailable, match="full"):
                    store.claim(JO, LAPTOP, Date(0, date), SURE, FLOOR)
                ballast.unlink()
            assert taken(store.claim(JO, LAPTOP, Date(0, date), SURE, FLOOR))
            assert reason(store.claim(JO, LAPTOP, Date(0, date), SURE, FLOOR)) is Reason.REPLAYED
        ballast.unlink(missing_ok=True)
        with contextlib.closing(opened(file)) as store:
            assert reason(store.claim(JO, LAPTOP, Date(0, date), SURE, FLOOR)) is Reason.REPLAYED


@isolated
def test_a_disk_that_is_not_to_be_written() -> None:
    own_mounts()
    file = Path("/run/marks")
    made(file)
    opened(file).close()  # control
    run("mount", "-o", "remount,ro", "/run")
    for act in (lambda: opened(file), lambda: made(file.with_name("other"))):
        with pytest.raises(Unavailable, match="Read-only") as caught:
            act()
        assert caught.value.hint and "replay reset" not in caught.value.hint
