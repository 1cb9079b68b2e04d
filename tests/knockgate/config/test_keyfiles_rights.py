"""Files of ssh keys: which are used, whose they may be, and how large. See also test_strict_modes.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.config.key_files import Gate, aged, group, key, watched, written

from knockgate.config.keys import KeyFile
from knockgate.spa.sshkeys.files import MOST_LINES, MOST_OCTETS

JO, AL = 1234, 1235  # user ids; nobody of this machine
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the keys 1 and 2."""
    return written(tmp_path / "keys", key(1), key(2))


def as_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_too_many_lines(path: Path) -> None:
    path.write_text("#\n" * (MOST_LINES + 1))


def with_too_many_bytes(path: Path) -> None:
    path.write_text(f"{key(1)}\n#".ljust(MOST_OCTETS + 1, "x"))


UNUSABLE = [
    (as_link, "is a link"),
    (as_pipe, "is no file"),
    (as_folder, "is no file"),
    (lambda path: path.chmod(0o664), "can be written by others"),
    (lambda path: path.chmod(0o606), "can be written by others"),
    (lambda path: path.parent.chmod(0o775), "can be written by others"),
    (lambda path: path.parent.chmod(0o757), "can be written by others"),
    (lambda path: path.parent.parent.chmod(0o777), "can be written by others"),
    (with_too_many_lines, "the file has more than 4096 lines"),
    (with_too_many_bytes, "the file has more than 256 KiB"),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("change", "message"), UNUSABLE)
def test_a_file_that_is_not_used(
    tmp_path: Path, change: Callable[[Path], None], message: str, *, late: bool
) -> None:
    """Neither from the start nor later; the file beside it is the control."""
    (tmp_path / "x" / "y").mkdir(parents=True)
    path = written(tmp_path / "x" / "y" / "keys", key(1))
    beside = written(tmp_path / "beside", key(2))
    if not late:
        change(path)
    gate = Gate(group("people", path, beside))
    told = gate.told
    if late:
        assert gate.known(1, 2) == [1, 2]
        aged(path)
        gate.look()
        change(path)
        told = gate.look()
        if not told:  # a folder says nothing; it counts as soon as somebody makes use of it
            assert gate.known(1) == [1]
            written(path, key(1), "")
            told = gate.look()
    assert gate.known(1, 2) == [2]
    assert len(told) == 1 and told[0].startswith(f"{path}: ") and message in told[0]
    (flaw,) = gate.files.flaws
    assert str(flaw) == told[0] and flaw.hint
    assert gate.look() == []


def test_what_is_no_file_is_not_even_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a device can do something."""
    opened = watched(monkeypatch)
    assert Gate(group("people", path)).known(1) and len(opened) == 1
    as_pipe(path)
    assert not Gate(group("people", path)).known(1) and len(opened) == 1


def test_as_much_as_a_file_may_have(path: Path) -> None:
    path.write_text(f"{key(1)}\n#".ljust(MOST_OCTETS, "x"))
    assert Gate(group("people", path)).known(1) == [1]
    path.write_text("#\n" * (MOST_LINES - 1) + key(1) + "\n")
    assert Gate(group("people", path)).known(1) == [1]


def test_a_file_that_grows_too_large_is_not_used(path: Path) -> None:
    """Also where all that is new is a line that was there before, or blanks."""
    last = "#\n" * (MOST_LINES - 1) + key(1)
    for more in (f"\n{key(1)}", " " * (MOST_OCTETS - len(last) + 1)):
        path.write_text(last)
        gate = Gate(group("people", path))
        assert gate.known(1) == [1]
        path.write_text(last + more)
        (told,) = gate.look()
        assert told.startswith(f"{path}: the file has more than") and gate.known(1) == []


def test_a_folder_that_is_mended_is_seen(path: Path) -> None:
    path.parent.chmod(0o777)
    gate = Gate(group("people", path))
    assert gate.known(1) == [] and gate.told
    path.parent.chmod(0o700)
    assert gate.look() == [f"{path}: can be read again, and has 2 keys"]
    assert gate.known(1) == [1]


def test_below_a_folder_in_which_all_may_write_and_nobody_can_replace(path: Path) -> None:
    """As /tmp is; but for users' files sshd does not have it so."""
    path.parent.chmod(0o1777)
    assert Gate(group("people", path)).known(1) == [1]
    home = str(path.parent.parent)
    uid = os.geteuid()
    gate = Gate(group("jo", KeyFile(str(path), "jo", uid, home)))
    assert gate.known(1) == [] and "can be written by others" in gate.told[0]
    path.parent.chmod(0o755)
    gate.look()
    assert gate.known(1) == [1]


@as_root
def test_whose_a_file_may_be(path: Path) -> None:
    jo = KeyFile(str(path), "jo", JO, str(path.parent))
    for owner, ours, of_jo in ((0, [1], [1]), (JO, [], [1]), (AL, [], [])):
        os.chown(path, owner, owner)
        assert Gate(group("people", path)).known(1) == ours
        assert Gate(group("people", jo)).known(1) == of_jo
    gate = Gate(group("people", path), group("jo", jo))
    assert gate.told == [f"{path}: belongs to somebody else"] * 2
    assert [flaw.hint for flaw in gate.files.flaws] == [f"chown root {path}", f"chown jo {path}"]


@as_root
def test_whose_the_folders_may_be(path: Path) -> None:
    """Up to the home, the home too; what is above it is not looked at."""
    home = path.parent
    (home / ".ssh").mkdir(mode=0o700)
    path = path.rename(home / ".ssh" / "keys")
    jo = KeyFile(str(path), "jo", JO, str(home))
    for folder in (home / ".ssh", home):
        for owner, known in ((JO, [1]), (AL, [])):
            os.chown(folder, owner, owner)
            gate = Gate(group("jo", jo))
            assert gate.known(1) == known
            refused = [] if known else [f"{path}: {folder}, where it is, belongs to somebody else"]
            assert gate.told == refused
        os.chown(folder, JO, JO)
    above = KeyFile(str(path), "jo", JO, str(home / ".ssh"))
    os.chown(home, AL, AL)
    assert Gate(group("jo", above)).known(1) == [1]


@as_root
def test_root_reads_what_others_may_not(path: Path) -> None:
    os.chown(path, JO, JO)
    os.chown(path.parent, JO, JO)
    path.chmod(0o600)
    path.parent.chmod(0o700)
    assert Gate(group("jo", KeyFile(str(path), "jo", JO, str(path.parent)))).known(1) == [1]


@as_root
def test_without_rights_it_says_so(path: Path) -> None:
    """As somebody else, in a process of their own."""
    path.chmod(0o600)
    readable = written(path.with_name("all"), key(2))
    os.chown(readable, AL, AL)
    let_others_in(path.parent)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(AL)
            os.setuid(AL)
            gate = Gate(group("people", path, readable))
            os.write(writing, f"{gate.told} {gate.known(1, 2)}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    assert said == f"['{path}: cannot be read: Permission denied'] [2]"
