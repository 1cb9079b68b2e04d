"""The gate is killed at each point of two claims, two floors and a forgetting; then the next one opens it.

The first claim is of a device for which another one has to go. And the admin's command is killed at each
statement while it makes the file, or makes it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockgate.store.killing import Course, copied, statements_in_source
from tests.knockgate.store.marks_conformance import (
    BLIND,
    FLOOR,
    JO,
    LAPTOP,
    MOST,
    NEW,
    NOW,
    PHONE,
    SALT,
    SURE,
    WATCH,
    crowded,
    reason,
    taken,
)
from tests.knockgate.store.marks_files import OURS, THEIRS, log_of, made, opened

from knockgate.errors import Reason, Unavailable
from knockgate.mechanisms.certainty import Floor
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.store import base, marks
from knockgate.store.base import PrivateBase
from knockgate.store.marks import SqliteMarks

# The children run nothing of whatever threads the process of the tests has.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

KNOCKS = Date(0, NOW), Date(0, NOW + 1)
#: After so many acts.
FLOORS = None, FLOOR, Floor(NOW + 1, 2, "a"), Floor(NOW + 2, 3, "a"), None


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without room for one more device of the key, in which all could be forgotten."""
    file = made(tmp_path_factory.mktemp("full") / "store")
    crowded(opened(file)).close()
    return file


def knock_and_keep(store: SqliteMarks) -> None:
    """In the child: five acts, and one letter is told after each; the log is begun anew in between."""
    base._HALF = 1
    assert taken(store.claim(JO, NEW, KNOCKS[0], SURE, FLOORS[1]))
    os.write(1, b"1")
    store.tidy()
    assert taken(store.claim(JO, NEW, KNOCKS[1], SURE, FLOORS[2]))
    os.write(1, b"2")
    for floor in FLOORS[3:]:
        store.keep_floor(floor)
        os.write(1, b"f")
    store.forget(store.keys(b"", 9), NOW - WINDOW)
    os.write(1, b"k")


COURSE = Course(opened, knock_and_keep)


def judge(file: Path, told: str) -> int:
    """How many acts the next one finds done: wholly, or not at all. What was told is done."""
    store = opened(file)
    mark = next((mark for _, row, mark in store.devices() if row == store.row(NEW)), None)
    claims = 0 if mark is None else KNOCKS.index(mark) + 1
    done = claims if claims < 2 else FLOORS.index(store.floor(), 1)
    assert store.floor() == FLOORS[done]
    if len(store.devices()) == 1:
        assert done == 4
        done = 5
    else:
        assert len(store.devices()) == MOST
    assert done >= len(told), "what was told is not there any more"

    is_forgotten = store.row(PHONE) not in [row for _, row, _ in store.devices()]
    assert is_forgotten == (claims > 0)
    for knock in KNOCKS[:claims]:
        assert reason(store.claim(JO, NEW, knock, BLIND, None)) is Reason.REPLAYED
    for device, age in ((PHONE, 4), (LAPTOP, 2)):
        assert reason(store.claim(JO, device, Date(0, NOW - age * WINDOW), SURE, None)) is Reason.REPLAYED
    # An honest knock comes in, of who has just knocked and of a device that is new.
    for device in (NEW, WATCH):
        assert taken(store.claim(JO, device, Date(0, NOW + 2), SURE, None))
    for knock in KNOCKS:
        assert reason(store.claim(JO, NEW, knock, SURE, None)) is Reason.REPLAYED
    store.close()
    return done


def test_the_points_are_all_there_are(full: Path, tmp_path: Path) -> None:
    """Each statement in the source of what writes is passed, but for what undoes a failed transaction."""
    points, told = COURSE.killed(copied(full, tmp_path), 0)
    assert told == "12ffk"
    passed = {point.partition(" ")[2] for point in points}
    but = "__init__", "_take", "do", "be_ready", "unflushed", "floor", "devices", "newest"
    assert passed | {"ROLLBACK"} == statements_in_source(marks, (SqliteMarks, PrivateBase), *but)
    assert "ROLLBACK" not in passed
    assert judge(tmp_path / "store", told) == 5


def test_killed_at_each_statement(full: Path, tmp_path: Path) -> None:
    """Until an act is committed it is as if nobody had come."""
    number = len(COURSE.killed(copied(full, tmp_path / "0"), 0)[0])
    states, turns = [0], []
    for at_point in range(1, number + 1):
        file = copied(full, tmp_path / str(at_point))
        points, told = COURSE.killed(file, at_point)
        assert len(points) == at_point
        states.append(judge(file, told))
        if states[-1] != states[-2]:
            turns.append((points[-1], states[-1]))
    assert turns == [("after COMMIT", done) for done in (1, 2, 3, 4, 5)]


def test_killed_at_each_write(full: Path, tmp_path: Path) -> None:
    """In the middle of a transaction's pages, and before they are flushed, as strace(1) can stop it."""
    for call, most in (("pwrite64", 44), ("fdatasync", 14)):
        killed = COURSE.killed_at_calls(call, most, full, tmp_path, __file__)
        states = [judge(file, told) for file, told in killed]
        assert set(states) == {0, 1, 2, 3, 4, 5} and states == sorted(states), states
        assert killed[0][1] == "" and killed[-1][1] == "12ffk"


def test_killed_while_it_gets_ready(full: Path, tmp_path: Path) -> None:
    """The one before was killed and left a log: all of it is there for the one after the next, too."""
    left = copied(full, tmp_path / "left")
    COURSE.killed(left, 0)
    starting = Course(lambda file: file, lambda file: tell(opened(file).floor()))

    def start(name: str, at_point: int) -> tuple[Path, list[str]]:
        file = copied(left, tmp_path / name)
        shutil.copy2(log_of(left), file.parent)
        return file, starting.killed(file, at_point)[0]

    points = start("whole", 0)[1]
    assert f"before {base._NOTHING}" in points
    lengths = set()
    for at_point in range(1, len(points) + 1):
        file, _ = start(str(at_point), at_point)
        lengths.add(log_of(file).stat().st_size)
        assert judge(file, "12ffk") == 5
    assert {0, log_of(left).stat().st_size, base._LOG} <= lengths


@pytest.mark.parametrize("log", ["as it was", "empty", "a part", "grown", "with a head"])
def test_the_power_is_cut_while_it_gets_ready(full: Path, tmp_path: Path, log: str) -> None:
    """The file has all by then; of its log there is what there was, nothing, or zeros."""
    file = copied(full, tmp_path / "gate")
    COURSE.killed(file, 0)
    before = log_of(file).read_bytes()
    starting = Course(lambda file: file, lambda file: tell(opened(file).floor()))
    points, _ = starting.killed(file, 0)
    head = log_of(file).read_bytes()
    starting.killed(file, points.index(f"before {base._NOTHING}") + 1)
    grown = log_of(file).read_bytes()
    assert grown == bytes(base._LOG) != head[: base._LOG] and len(head) == base._LOG
    found = {
        "as it was": before,
        "empty": b"",
        "a part": grown[:70_000],
        "grown": grown,
        "with a head": head[:32],
    }
    log_of(file).write_bytes(found[log])
    assert judge(file, "12ffk") == 5


def test_that_a_log_is_empty_is_on_the_disk_before_it_grows(full: Path) -> None:
    """As the kernel sees it: else some of what was in it could come back, and be taken for what is new."""
    script = "import sys; from pathlib import Path; from tests.knockgate.store.marks_files import opened; "
    script += "opened(Path(sys.argv[1]))"
    command = [
        "strace",
        "-e",
        "trace=ftruncate,write,fsync,pwrite64",
        sys.executable,
        "-c",
        script,
        str(full),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    calls = [line.partition("(")[0] for line in done.stderr.splitlines()]
    assert calls[calls.index("ftruncate") :][:5] == ["ftruncate", "fsync", "write", "fsync", "pwrite64"], (
        calls
    )


# --- the admin's commands -----------------------------------------------------------------------------


def test_the_making_is_killed(tmp_path: Path) -> None:
    """There is no file then, or a whole one; and where there is none it can be made."""
    making = Course(lambda file: file, lambda file: SqliteMarks.create(file, OURS))
    number = len(making.killed(tmp_path / "marks", 0)[0])
    assert number > 10
    for at_point in range(1, number + 1):
        file = tmp_path / str(at_point) / "marks"
        file.parent.mkdir()
        making.killed(file, at_point)
        assert not file.exists()
        with pytest.raises(Unavailable, match="No such file"):
            opened(file)
        made(file)
        opened(file).close()
        assert sorted(each.name for each in file.parent.iterdir()) == ["marks", "points"]


def test_a_reset_is_killed(full: Path, tmp_path: Path) -> None:
    """The old file is there with all that was in it, what a killed gate left in its log included."""
    left = copied(full, tmp_path / "left")
    COURSE.killed(left, 0)
    resetting = Course(lambda file: file, lambda file: tell(SqliteMarks.reset(file, THEIRS, low=NOW)))

    def left_in(name: str) -> Path:
        file = copied(left, tmp_path / name)
        shutil.copy2(left.with_name("store-wal"), file.parent)
        return file

    points, said = resetting.killed(left_in("whole"), 0)
    assert len(points) > 10 and said == "True"
    for at_point in range(1, len(points) + 1):
        file = left_in(str(at_point))
        assert resetting.killed(file, at_point)[1] == ""
        store = opened(file)
        assert len(store.devices()) == 1 and store.row(NEW) in [row for _, row, _ in store.devices()]
        store.close()
        assert SqliteMarks.reset(file, THEIRS, low=NOW) is True
        store = SqliteMarks(file, incarnation=THEIRS, devices=MOST)
        assert store.salt == SALT and store.devices() == []
        store.close()
        assert sorted(each.name for each in file.parent.iterdir()) == ["points", "store"]


def tell(answer: object) -> None:
    os.write(1, str(answer).encode())


if __name__ == "__main__":
    COURSE.run_under_strace(*sys.argv[1:])
