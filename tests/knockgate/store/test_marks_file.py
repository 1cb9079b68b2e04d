"""The file that the marks are in: what the gate starts on, how it is made, and made anew."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.knockgate.store.marks_conformance import (
    BLIND,
    BOB,
    FLOOR,
    JO,
    LAPTOP,
    MOST,
    NEW,
    NOW,
    SALT,
    SURE,
    crowded,
    reason,
    taken,
)
from tests.knockgate.store.marks_files import OURS, THEIRS, files_of, log_of, made, opened
from tests.knockgate.store.small_disk import fill, small_disk
from tests.netns import isolated

from knockgate.errors import Reason, Unavailable
from knockgate.spa.sealed import device_row
from knockgate.spa.sealed.dates import Date
from knockgate.store.marks import SqliteMarks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a store that was just made."""
    return made(tmp_path / "marks.sqlite")


# --- the file -------------------------------------------------------------------------------------------


def test_it_is_never_made_by_opening_it(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    with pytest.raises(Unavailable, match="No such file") as caught:
        opened(path)
    assert_tells_what_each_way_costs(caught.value)
    assert files_of(path) == []
    with pytest.raises(Unavailable, match="No such file"):
        opened(tmp_path / "nowhere" / "marks.sqlite")
    made(path)
    opened(path).close()


def assert_tells_what_each_way_costs(error: Unavailable) -> None:
    assert error.hint and "`knockgate replay reset`" in error.hint and "`knockgate rekey --now`" in error.hint


def test_of_other_keys_it_is_refused(file: Path) -> None:
    with pytest.raises(Unavailable, match="belongs to other keys") as caught:
        SqliteMarks(file, incarnation=THEIRS, devices=MOST)
    assert_tells_what_each_way_costs(caught.value)
    opened(file).close()


def write_at(file: Path, offset: int, what: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(what)


def change(file: Path, statement: str) -> None:
    base = sqlite3.connect(file)
    base.execute(statement)
    base.commit()
    base.close()


def link(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def put_a_folder_there(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "no base": lambda file: file.write_bytes(b"no base at all, but long enough to be taken for one" * 99),
    "a page": lambda file: write_at(file, 4096 * 2, b"\xff" * 4096),
    "cut off": lambda file: os.truncate(file, file.stat().st_size - 4096),
    "no table": lambda file: change(file, "DROP TABLE lows"),
    "no gate": lambda file: change(file, "DELETE FROM gate"),
    "two gates": lambda file: change(file, "INSERT INTO gate SELECT * FROM gate"),
    "another kind": lambda file: change(file, "UPDATE gate SET salt = x'00'"),
    "no version": lambda file: change(file, "PRAGMA user_version = 0"),
    "newer": lambda file: change(file, "PRAGMA user_version = 3"),
    "for others": lambda file: file.chmod(0o640),
    "a link": link,
    "a folder": put_a_folder_there,
    "a folder for others": lambda file: file.parent.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_it_cannot_read_it_does_not_start_on(file: Path, damage: str) -> None:
    crowded(opened(file)).close()
    opened(file).close()  # control
    DAMAGES[damage](file)
    with pytest.raises(Unavailable) as caught:
        opened(file)
    assert str(caught.value).startswith(str(file)) and caught.value.hint
    assert ("newer knockgate" in str(caught.value)) == (damage == "newer")
    rights = "newer", "for others", "a link", "a folder", "a folder for others"
    if damage not in rights:
        assert_tells_what_each_way_costs(caught.value)
    else:
        assert "replay reset" not in caught.value.hint


def test_a_second_one_is_refused(file: Path) -> None:
    """Also in another process, for as long as the first one lives; nor is the file then made anew."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom knockgate.store.marks import SqliteMarks\n"
        f"store = SqliteMarks(Path(sys.argv[1]), incarnation={OURS!r}, devices=1)\n"
        "print('open', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "open\n"
        for act in (lambda: opened(file), lambda: SqliteMarks.reset(file, OURS, low=0)):
            with pytest.raises(Unavailable, match="another listener uses it") as caught:
                act()
            assert caught.value.hint
        store = SqliteMarks(file, incarnation=OURS, devices=MOST, patience=30, waits=other.kill)
    assert taken(store.claim(JO, NEW, Date(0, NOW), SURE, None))
    store.close()


def test_damage_under_way_is_told_and_nothing_is_taken(file: Path) -> None:
    """What SQLite has in its memory is right still; the rest is neither new nor a replay."""
    keys = [number.to_bytes(32, "big") for number in range(50_000)]
    base = sqlite3.connect(file)
    base.executemany(
        "INSERT INTO marks VALUES (?, ?, 0, ?)", [(key, device_row(SALT, LAPTOP), NOW) for key in keys]
    )
    base.commit()
    base.close()
    store = opened(file)
    write_at(file, 4096, b"\xff" * (file.stat().st_size - 4096))
    told = 0
    for key in keys[::500]:
        try:
            assert reason(store.claim(key, LAPTOP, Date(0, NOW), SURE, None)) is Reason.REPLAYED
        except Unavailable as error:
            assert_tells_what_each_way_costs(error)
            told += 1
    assert 10 < told < len(keys[::500])
    store.close()


# --- made, and made anew --------------------------------------------------------------------------------


def test_it_is_made_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    before = os.umask(0)
    try:
        made(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o600 and files_of(path) == ["marks.sqlite"]
    store = opened(path)
    assert taken(store.claim(JO, LAPTOP, Date(0, NOW), SURE, None))
    assert files_of(path) == ["marks.sqlite", "marks.sqlite-wal"]
    store.close()
    with pytest.raises(Unavailable, match="is there already") as caught:
        made(path)
    assert caught.value.hint
    assert len(opened(path).devices()) == 1


def test_two_that_make_it_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one looked before the first one was there."""
    crowded(opened(file)).close()
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(Unavailable, match="File exists"):
        made(file)
    with contextlib.closing(opened(file)) as store:
        assert len(store.devices()) == MOST
    assert files_of(file) == ["marks.sqlite"]


@pytest.mark.parametrize(
    ("act", "gives"),
    [("create(Path(sys.argv[1]), b'', low=1)", "link"), ("reset(Path(sys.argv[1]), b'', low=1)", "rename")],
)
def test_its_name_is_on_the_disk_too(act: str, gives: str, tmp_path: Path) -> None:
    """As the kernel sees it: what is in the file, then its name, then the folder that the name is in."""
    script = f"import sys; from pathlib import Path; from knockgate.store.marks import *; SqliteMarks.{act}"
    trace = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2"
    command = ["strace", "-y", "-e", trace, sys.executable, "-c", script, str(tmp_path / "marks")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    before, given, after = done.stderr.partition(f"\n{gives}")
    assert given and f"<{tmp_path}/.marks.new>) " in before.splitlines()[-1], done.stderr
    assert re.search(rf"^fsync\(\d+<{re.escape(str(tmp_path))}>\)", after, re.MULTILINE), done.stderr


def test_each_has_a_salt_of_its_own(tmp_path: Path) -> None:
    rows = set()
    for name in ("a", "b"):
        SqliteMarks.create(tmp_path / name, OURS)
        with contextlib.closing(opened(tmp_path / name)) as store:
            rows.add(store.row(LAPTOP))
    assert len(rows) == 2


def test_not_beside_the_log_of_one_that_was_taken_away(file: Path) -> None:
    """SQLite would take it for the new one's, and old marks would be there again, or nonsense."""
    store = opened(file)
    assert taken(store.claim(JO, LAPTOP, Date(0, NOW), SURE, None))
    log = log_of(file).read_bytes()
    store.close()
    file.unlink()
    log_of(file).write_bytes(log)
    with pytest.raises(Unavailable, match=r"-wal is there already"):
        made(file)
    assert SqliteMarks.reset(file, OURS, low=NOW) is False
    assert files_of(file) == ["marks.sqlite"]
    with contextlib.closing(opened(file)) as store:
        assert store.devices() == []


def test_a_reset_closes_off_what_was_before_and_keeps_what_devices_are_called(file: Path) -> None:
    store = crowded(opened(file))
    store.keep_floor(FLOOR)
    row = store.row(LAPTOP)
    store.close()
    assert SqliteMarks.reset(file, THEIRS, low=NOW) is True
    assert files_of(file) == ["marks.sqlite"] and file.stat().st_mode & 0o7777 == 0o600
    store = SqliteMarks(file, incarnation=THEIRS, devices=MOST)
    assert store.row(LAPTOP) == row and store.devices() == [] and store.floor() is None
    for key in (JO, BOB):
        assert reason(store.claim(key, LAPTOP, Date(0, NOW), BLIND, None)) is Reason.REPLAYED
        assert taken(store.claim(key, LAPTOP, Date(0, NOW + 1), BLIND, None))
    store.close()


@pytest.mark.parametrize("damage", ["nothing there", "empty", "no base", "a page", "no table", "no gate"])
def test_a_reset_in_the_place_of_what_is_lost(file: Path, damage: str) -> None:
    """Of what is there in part the salt may be read still: what devices are called stays then."""
    if damage == "nothing there":
        file.unlink()
    else:
        DAMAGES[damage](file)
    assert SqliteMarks.reset(file, OURS, low=NOW) is (damage == "no table")
    with contextlib.closing(opened(file)) as store:
        assert (store.salt == SALT) is (damage == "no table")
        assert reason(store.claim(JO, LAPTOP, Date(0, NOW), BLIND, None)) is Reason.REPLAYED
    assert files_of(file) == ["marks.sqlite"]


@pytest.mark.parametrize("damage", ["newer", "for others", "a link", "a folder"])
def test_a_reset_leaves_what_it_has_no_business_with(file: Path, damage: str) -> None:
    DAMAGES[damage](file)
    before = files_of(file)
    with pytest.raises(Unavailable) as caught:
        SqliteMarks.reset(file, OURS, low=NOW)
    assert caught.value.hint and files_of(file) == before
    if damage == "newer":
        return
    # And it does what it says.
    assert caught.value.hint.endswith(f"move it away: mv {file} {file}.old")
    file.rename(f"{file}.old")
    assert SqliteMarks.reset(file, OURS, low=NOW) is False
    opened(file).close()


@isolated
def test_none_is_made_on_a_full_disk() -> None:
    """Wherever in the making the room ends, there is no file, or the old one; with more room there is one."""
    small_disk()
    file, ballast = Path("/run/new/marks"), Path("/run/ballast")
    file.parent.mkdir(0o700)
    old = file.with_name("old")
    made(old)
    sizes = []
    for room in range(0, 120, 4):
        fill(ballast)
        os.truncate(ballast, max(0, ballast.stat().st_size - room * 1024))
        with contextlib.suppress(Unavailable):
            made(file)
            sizes.append(room)
        if file.exists():
            opened(file).close()
            file.unlink()
        with contextlib.suppress(Unavailable):
            SqliteMarks.reset(old, OURS, low=NOW)
        ballast.unlink()
        opened(old).close()
        assert files_of(file) == ["old"]
    assert 0 < sizes[0] < 120


def test_those_of_the_newest_dates(file: Path) -> None:
    store = opened(file)
    dates = [5, 1, 4, 2, 3]
    for date in dates:
        store.claim(date.to_bytes(32, "big"), LAPTOP, Date(0, date), BLIND, None)
    found, number = store.newest(3)
    assert [each.mark.issued for each in found] == [5, 4, 3] and number == len(dates)
    assert sorted(store.newest(9)[0]) == store.devices()
    store.close()
