"""Files of ssh keys: what of them is taken, and that every change of them is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knockgate.config.key_files import RSA, Gate, aged, fingerprint, group, key, watched, written

from knockgate.config import keyfiles, strictmodes
from knockgate.config.keyfiles import KeyFiles, Line, Notice


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the keys 1 and 2."""
    return written(tmp_path / "keys", key(1), key(2))


# --- what is found ------------------------------------------------------------------------------------


def test_a_line_is_found_by_its_fingerprint(path: Path) -> None:
    written(path, "# staff", "", f'from="192.0.2.0/24" {key(1)} jo@work')
    files = KeyFiles([group("people", path)])
    assert files.find(fingerprint(1)) == () and files.total == 0  # not yet read
    assert files.refresh() == ()
    ((name, file, entry),) = files.find(fingerprint(1))
    assert (name, file, entry.line, entry.comment) == ("people", str(path), 3, "jo@work")
    assert entry.options.sources and not entry.options.sources.admit(bytes([198, 51, 100, 1]))
    assert files.find(fingerprint(2)) == () and files.find(b"") == ()
    assert files.total == 1 and files.flaws == ()


def test_lines_are_found_in_the_order_of_keys_of_files_and_of_lines(tmp_path: Path) -> None:
    first = written(tmp_path / "a", key(2), f"{key(1)} a2", f"{key(1)} a3")
    second = written(tmp_path / "b", f"{key(1)} b1")
    gate = Gate(group("late", second, first), group("early", first))

    def places(number: int) -> list[tuple[str, str, int]]:
        return [
            (each.group, Path(each.file).name, each.entry.line)
            for each in gate.files.find(fingerprint(number))
        ]

    assert places(1) == [
        ("late", "b", 1),
        ("late", "a", 2),
        ("late", "a", 3),
        ("early", "a", 2),
        ("early", "a", 3),
    ]
    assert places(2) == [("late", "a", 1), ("early", "a", 1)]
    assert gate.files.total == 2
    written(first, key(1), key(3))
    gate.look()
    assert places(1) == [("late", "b", 1), ("late", "a", 1), ("early", "a", 1)]
    assert gate.known(1, 2, 3) == [1, 3]
    content = second.read_text()
    second.unlink()
    gate.look()
    assert places(1) == [("late", "a", 1), ("early", "a", 1)]
    written(second, content)
    gate.look()
    assert places(1) == [("late", "b", 1), ("late", "a", 1), ("early", "a", 1)]


def test_a_bad_line_costs_itself_alone(path: Path) -> None:
    written(path, key(1), RSA, f'from="10.0.0.0/8 {key(4)}', "ssh-ed25519 AAAA", key(2))
    gate = Gate(group("people", path))
    assert gate.known(1, 2, 4) == [1, 2]
    assert [line.partition(": ")[0] for line in gate.told] == [f"{path}:{number}" for number in (2, 3, 4)]
    assert "an RSA key cannot knock" in gate.told[0]
    assert all(flaw.hint for flaw in gate.files.flaws)
    assert gate.look() == []  # once
    written(path, key(1), RSA, "nonsense", key(2))
    assert gate.look() == [f"{path}:3: there is no key on the line"]  # what is new
    assert len(gate.files.flaws) == 2


def test_many_bad_lines_are_not_told_one_by_one(path: Path) -> None:
    written(path, *[RSA] * 100)
    gate = Gate(group("people", path))
    assert len(gate.told) == 21 and gate.told[-1] == f"{path}: 80 more lines are not taken"
    assert len(gate.files.flaws) == 100


def test_options_of_ours_stand_in_files_of_ours(path: Path) -> None:
    written(path, f'doors="ssh" {key(1)}', key(2))
    ours, shared = group("ours", path), group("theirs", path, shared=True)
    gate = Gate(ours, shared)
    assert [line.group for line in gate.files.find(fingerprint(1))] == ["ours"]
    assert [line.group for line in gate.files.find(fingerprint(2))] == ["ours", "theirs"]
    assert gate.told == [
        f"{path}:1: the option is one of the gate's own, and this file is sshd's as well (doors)"
    ]


def test_what_a_file_comes_to(path: Path) -> None:
    written(path, key(1), RSA, f"cert-authority {key(2)}", f"{key(3)} three")
    gate = Gate(group("people", path), group("gone", path.with_name("none")))
    people, gone = gate.files.files
    assert (people.group, people.path, people.authorities, people.trouble) == ("people", str(path), 1, None)
    assert [entry.comment for entry in people.keys] == ["", "three"]
    assert [flaw.line for flaw in people.flaws] == [2]
    assert gone.keys == () and gone.trouble == Notice(
        str(path.with_name("none")), None, "there is no such file", "its keys open nothing until it is there"
    )
    assert gate.files.flaws == (*people.flaws, gone.trouble)


def test_times_without_a_zone_are_read_as_one_says(path: Path) -> None:
    written(path, f'expiry-time="20300101" {key(1)}')
    for zone in (0, 3600):
        files = KeyFiles([group("people", path)], local=lambda parts, zone=zone: time.mktime(parts) + zone)  # type: ignore[misc]
        files.refresh()
        (line,) = files.find(fingerprint(1))
        assert line.entry.options.expires == time.mktime((2030, 1, 1, 0, 0, 0, 0, 1, 0)) + zone


# --- changes ------------------------------------------------------------------------------------------


def replaced(path: Path) -> None:
    other = written(path.with_name("new"), key(1), key(3))
    other.rename(path)


def rewritten(path: Path) -> None:
    written(path, key(1), key(3))


def overwritten(path: Path) -> None:
    """Of the same size, in place, and with the time of before."""
    found = path.stat()
    with path.open("r+") as stream:
        stream.write(f"{key(1)}\n{key(3)}\n")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)


def linked(path: Path) -> None:
    """Another name of another file."""
    other = written(path.with_name("new"), key(1), key(3))
    path.unlink()
    path.hardlink_to(other)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("change", [replaced, rewritten, overwritten, linked])
def test_a_change_is_seen(path: Path, change: Callable[[Path], None], *, old: bool) -> None:
    """At once, also of a file that has been read the moment before."""
    gate = Gate(group("people", path))
    if old:
        aged(path)
        assert gate.look() == []
    assert gate.known(1, 2, 3) == [1, 2]
    change(path)
    assert gate.look() == []
    assert gate.known(1, 2, 3) == [1, 3]


def changes_seen(path: Path) -> tuple[int, int]:
    """Of 300 changes in place: after how many the new key was found, and how many the times do not show."""
    gate, seen, twins = Gate(group("people", path)), 0, 0
    for number in range(10, 310):
        before = strictmodes._Signature.of(path.stat())
        with path.open("r+") as stream:
            stream.write(f"{key(number)}\n")
        twins += strictmodes._Signature.of(path.stat()) == before
        gate.look()
        seen += gate.known(number) == [number]
    return seen, twins


def test_changes_within_one_step_of_the_kernels_clock_are_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer kernels (6.13) have finer times for files that somebody looks at; here they are as before."""
    fine = strictmodes._Signature.of

    def coarse(found: os.stat_result) -> strictmodes._Signature:
        exact, step = fine(found), 10_000_000
        return exact._replace(modified=exact.modified // step * step, changed=exact.changed // step * step)

    monkeypatch.setattr(strictmodes._Signature, "of", coarse)
    written(path, key(1))
    seen, twins = changes_seen(path)
    assert seen == 300 and twins > 0
    monkeypatch.setattr(strictmodes, "_RACY", 0)
    assert changes_seen(path)[0] < 300  # so it is that which sees them


def test_a_file_that_rests_is_not_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = watched(monkeypatch)
    gate = Gate(group("people", path), group("others", path))
    assert opened == [str(path)]
    aged(path)
    gate.look()
    assert opened == [str(path)] * 2  # once more, since it was new
    for _ in range(10):
        gate.look()
    assert opened == [str(path)] * 2


def test_a_file_that_is_not_there_costs_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of many users have one, and each knock looks for all."""
    gate = Gate(group("people", tmp_path / "keys"))
    with monkeypatch.context() as patch:
        patch.delattr(keyfiles._File, "load")  # whoever would read it fails
        for _ in range(10):
            assert gate.look() == []
    written(tmp_path / "keys", key(1))  # the control
    assert gate.look() and gate.known(1) == [1]


def test_a_line_counts_from_the_moment_on_at_which_it_is_written(path: Path) -> None:
    files = KeyFiles([group("people", path)])
    files.refresh()
    for number in range(3, 30):
        assert not files.find(fingerprint(number))
        written(path, key(number))
        files.refresh()
        assert files.find(fingerprint(number)) and not files.find(fingerprint(number - 1))


def test_a_file_that_goes_and_comes_back(path: Path) -> None:
    gate = Gate(group("people", path))
    content = path.read_text()
    path.unlink()
    assert gate.look() == [f"{path}: there is no such file"]
    assert gate.known(1, 2) == [] and gate.files.total == 0
    assert gate.look() == []  # it has been said
    written(path, content)
    assert gate.look() == [f"{path}: can be read again, and has 2 keys"]
    assert gate.known(1, 2) == [1, 2]
    written(path)
    assert gate.look() == [] and gate.known(1, 2) == []  # empty, as its owner has made it
    folder = path.parent
    folder.rename(folder.with_name("away"))
    assert gate.look() == [f"{path}: there is no such file"]
    folder.with_name("away").rename(folder)
    assert gate.look() == [f"{path}: can be read again, and has 0 keys"]


def test_a_file_that_was_never_there(tmp_path: Path) -> None:
    gate = Gate(group("people", tmp_path / "none" / "keys"))
    assert gate.told == [f"{tmp_path}/none/keys: there is no such file"]
    (tmp_path / "none").mkdir()
    written(tmp_path / "none" / "keys", key(1))
    assert gate.look() == [f"{tmp_path}/none/keys: can be read again, and has 1 key"]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["write", "replace", "delete", "lock", "unlock", "link"]),
        st.lists(st.integers(0, 6), max_size=5),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(edits=EDITS)
def test_whoever_looked_all_the_time_knows_what_a_newcomer_knows(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str, list[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("edits")
    a, b = folder / "a", folder / "b"
    groups = [group("one", a, b), group("two", b), group("three", a, shared=True)]
    gate = Gate(*groups)
    for name, edit, numbers in edits:
        path = folder / name
        # 0 is no key, and 6 has an option of ours.
        lines = [
            RSA if each == 0 else f'doors="ssh" {key(6)}' if each == 6 else key(each) for each in numbers
        ]
        if edit == "replace" or (edit == "write" and path.is_symlink()):
            written(folder / "new", *lines).rename(path)
        elif edit == "write":
            written(path, *lines)
        elif edit == "delete":
            path.unlink(missing_ok=True)
        elif edit == "link":
            path.unlink(missing_ok=True)
            path.symlink_to(folder / "elsewhere")
        elif path.exists():
            path.chmod(0o666 if edit == "lock" else 0o644)
        gate.look()
    fresh = Gate(*groups).files
    assert gate.files.total == fresh.total
    assert gate.files.files == fresh.files and gate.files.flaws == fresh.flaws
    for number in range(1, 7):
        assert gate.files.find(fingerprint(number)) == fresh.find(fingerprint(number))


def test_a_change_while_it_is_read_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says: here that file's times are of long ago."""
    real = os.read

    def reading(opened: int, size: int) -> bytes:
        octets = real(opened, size)
        written(path, key(3))
        return octets

    monkeypatch.setattr(strictmodes, "_RACY", 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", reading)
        gate = Gate(group("people", path))
    assert gate.known(1, 3) == [1]
    gate.look()
    assert gate.known(1, 3) == [3]


# --- many ---------------------------------------------------------------------------------------------


def test_a_change_costs_what_has_changed(tmp_path: Path) -> None:
    """Lines that were there before are not read again, or adding one to 3,000 would take a second."""
    lines = [key(number) for number in range(1, 601)]
    paths = [written(tmp_path / f"{number}", *lines[number::6]) for number in range(6)]
    gate = Gate(group("people", *paths))
    assert gate.files.total == 600 and gate.told == []
    before = {id(gate.files.find(fingerprint(number))[0].entry.key) for number in range(1, 601)}
    written(paths[0], key(1000), *lines[0::6][1:])
    gate.look()
    after = {id(gate.files.find(fingerprint(number))[0].entry.key) for number in range(2, 601)}
    assert after <= before
    assert gate.known(1, 2, 1000) == [2, 1000]
    (line,) = gate.files.find(fingerprint(7))
    assert line == Line("people", str(paths[0]), line.entry) and line.entry.line == 2
