from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knockgate.errors import Unavailable
from knockgate.store.pending import Pending, PendingStore

CLIENT = bytes([192, 0, 2, 7])
ROW = Pending("ssh", CLIENT, ("/sbin/close", "192.0.2.7"), 10.0, 1234.5, 4711, 99)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pending"


def test_a_row_is_there_for_the_next_one(file: Path) -> None:
    """Put, put in its place, removed; each door and source has one of its own."""
    store = PendingStore(file, "a")
    other = Pending("ssh", bytes(16), ("x",), 1, 2)
    store.put(ROW)
    store.put(other)
    store.put(Pending("web", CLIENT, (), 1, 2))
    store.remove("web", CLIENT)
    store.remove("web", CLIENT)  # what is not there is gone already
    store.close()
    store = PendingStore(file, "a")
    assert sorted(store.rows(), key=repr) == sorted([ROW, other], key=repr)
    renewed = Pending("ssh", CLIENT, ("y",), 1, 9)
    store.put(renewed)
    assert renewed in store.rows() and ROW not in store.rows()
    store.close()


def test_rows_of_another_boot_are_due_at_once(file: Path) -> None:
    """Their clock is not ours, and the process of that number is somebody else; put anew they are ours."""
    store = PendingStore(file, "a")
    store.put(ROW)
    store.close()
    store = PendingStore(file, "b")
    assert store.rows() == [Pending("ssh", CLIENT, ROW.words, 10.0, 0.0, 0, 0)]
    store.put(ROW)
    assert store.rows() == [ROW]
    store.close()


WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4).map(tuple)


@settings(max_examples=50)  # each opens the file and writes to the disk
@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=20), WORDS, st.floats(0, 1e12))
def test_any_words_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, door: str, source: bytes, words: tuple[str, ...], due: float
) -> None:
    folder = tmp_path_factory.getbasetemp() / "words"
    folder.mkdir(exist_ok=True)
    store = PendingStore(folder / "pending", "a")
    for row in store.rows():
        store.remove(row.door, row.source)
    row = Pending(door, source, words, 1.0, due)
    store.put(row)
    assert store.rows() == [row]
    store.close()


def test_what_cannot_be_stored_is_refused(file: Path) -> None:
    """Text that is none; the rest is as it was."""
    store = PendingStore(file, "a")
    store.put(ROW)
    with pytest.raises(Unavailable, match="surrogates"):
        store.put(Pending("\ud800", CLIENT, (), 1, 1))
    assert store.rows() == [ROW]
    store.close()


def test_the_files_are_ours_alone(file: Path) -> None:
    """Whatever the umask; nobody else may read what will be run, let alone write it."""
    before = os.umask(0)
    try:
        store = PendingStore(file, "a")
        store.put(ROW)
    finally:
        os.umask(before)
    made = sorted(file.parent.iterdir())
    assert [each.name for each in made] == ["pending", "pending-wal"]
    assert {each.stat().st_mode & 0o777 for each in made} == {0o600}
    store.close()
    PendingStore(file, "a").close()  # control
    for mode in (0o640, 0o604, 0o620, 0o602):
        file.chmod(mode)
        with pytest.raises(Unavailable, match="must be of mode 0600"):
            PendingStore(file, "a")


def test_nobody_else_can_lay_a_file_in_its_place(file: Path) -> None:
    for mode in (0o770, 0o707, 0o1777):
        file.parent.chmod(mode)
        with pytest.raises(
            Unavailable, match="its folder must be one that only who runs the gate may write to"
        ):
            PendingStore(file, "a")
    file.parent.chmod(0o755)
    PendingStore(file, "a").close()


def test_a_link_in_its_place_is_not_followed(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    elsewhere.touch(0o600)
    file.symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="symbolic links"):
        PendingStore(file, "a")
    assert elsewhere.read_bytes() == b""


@pytest.mark.parametrize("damage", ["no base", "other columns", "words", "a folder", "nothing there"])
def test_what_it_cannot_read_it_does_not_start_on(file: Path, damage: str) -> None:
    """It says which file; the admin decides, since what should be closed stands in it."""
    if damage == "no base":
        file.touch(0o600)
        file.write_bytes(b"no base at all, but long enough to be taken for one by its length" * 20)
    elif damage == "a folder":
        file.mkdir(0o700)
    elif damage == "nothing there":
        file = file / "missing"
    else:
        store = PendingStore(file, "a")
        store.put(ROW)
        store.close()
        base = sqlite3.connect(file)
        wrong = (
            "UPDATE pending SET words = 'x'" if damage == "words" else "ALTER TABLE pending DROP COLUMN due"
        )
        base.execute(wrong)
        base.commit()
        base.close()
    with pytest.raises(Unavailable) as caught:
        PendingStore(file, "a")
    assert str(caught.value).startswith(str(file)) and caught.value.hint


def test_two_at_once_are_refused(file: Path) -> None:
    """Also in another process; the second may wait until the first has ended, and says once that it does."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom knockgate.store.pending import PendingStore\n"
        "store = PendingStore(Path(sys.argv[1]), 'a')\nprint('open', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match="another runner uses it"):
            PendingStore(file, "a")
        waited: list[float] = []
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="another runner uses it"):
            PendingStore(file, "a", patience=0.2, waits=lambda: waited.append(time.monotonic()))
        assert time.monotonic() - begun >= 0.2 and len(waited) == 1
        store = PendingStore(file, "a", patience=30, waits=other.kill)
    store.put(ROW)
    store.close()


def test_each_row_is_flushed_to_the_disk(file: Path) -> None:
    """As the kernel sees it: put and remove do not return before they have called fdatasync."""
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from knockgate.store.pending import Pending, PendingStore\n"
        "store = PendingStore(Path(sys.argv[1]), 'a')\nrow = Pending('ssh', b'1234', ('x',), 1, 1)\n"
        "for act in (lambda: store.put(row), lambda: store.remove('ssh', b'1234')):\n"
        "    os.write(1, b'begin\\n'); act(); os.write(1, b'end\\n')\n"
    )
    command = ["strace", "-e", "trace=fdatasync,fsync,write", sys.executable, "-c", script, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    calls = done.stderr.split('write(1, "begin')[1:]
    assert len(calls) == 2, done.stderr
    for each in calls:
        assert "fdatasync(" in each.partition('write(1, "end')[0]
