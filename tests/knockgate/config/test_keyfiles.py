"""Files of ssh keys: what of them is taken, and that every change of them is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from knockgate.config import keyfiles
from knockgate.config.keyfiles import KeyFiles, Line, Notice
from knockgate.config.keys import KeyFile, SshKeys
from knockgate.spa.sshkeys import PublicKey
from knockgate.spa.sshkeys.files import MOST_LINES, MOST_OCTETS

RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 old"
JO, AL = 1234, 1235  # user ids; nobody of this machine
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@cache
def key(number: int) -> str:
    """One line for each number, without options and comment."""
    private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(number: int) -> bytes:
    kind, text = key(number).split()
    return PublicKey.of_text(kind.encode(), text.encode()).fingerprint


def group(name: str, *files: Path | KeyFile, shared: bool | None = None) -> SshKeys:
    """A key of gate.toml with these files."""
    places = tuple(each if isinstance(each, KeyFile) else KeyFile(str(each)) for each in files)
    return SshKeys(name=name, ssh=("/x",), doors=("ssh",), shared=shared, files=places)


class Gate:
    """One who looks at files again and again."""

    def __init__(self, *groups: SshKeys) -> None:
        self.files = KeyFiles(groups)
        self.told = self.look()

    def look(self) -> list[str]:
        return [str(notice) for notice in self.files.refresh()]

    def known(self, *numbers: int) -> list[int]:
        """Those of the keys that are found."""
        return [number for number in numbers if self.files.find(fingerprint(number))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the keys 1 and 2."""
    return written(tmp_path / "keys", key(1), key(2))


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)
    return path


def aged(path: Path) -> None:
    """Wait until nobody would read it a second time for having changed just now."""
    while abs(time.time_ns() - path.stat().st_ctime_ns) < 110_000_000:
        time.sleep(0.01)


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
        before = keyfiles._Signature.of(path.stat())
        with path.open("r+") as stream:
            stream.write(f"{key(number)}\n")
        twins += keyfiles._Signature.of(path.stat()) == before
        gate.look()
        seen += gate.known(number) == [number]
    return seen, twins


def test_changes_within_one_step_of_the_kernels_clock_are_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer kernels (6.13) have finer times for files that somebody looks at; here they are as before."""
    fine = keyfiles._Signature.of

    def coarse(found: os.stat_result) -> keyfiles._Signature:
        exact, step = fine(found), 10_000_000
        return exact._replace(modified=exact.modified // step * step, changed=exact.changed // step * step)

    monkeypatch.setattr(keyfiles._Signature, "of", coarse)
    written(path, key(1))
    seen, twins = changes_seen(path)
    assert seen == 300 and twins > 0
    monkeypatch.setattr(keyfiles, "_RACY", 0)
    assert changes_seen(path)[0] < 300  # so it is that which sees them


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened, from now on."""
    opened: list[str] = []

    def opening(name: str, *more: int) -> int:
        opened.append(name)
        return real(name, *more)

    real = os.open
    monkeypatch.setattr(os, "open", opening)
    return opened


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


# --- what may be read ---------------------------------------------------------------------------------


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


def test_a_change_while_it_is_read_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says: here that file's times are of long ago."""
    real = os.read

    def reading(opened: int, size: int) -> bytes:
        octets = real(opened, size)
        written(path, key(3))
        return octets

    monkeypatch.setattr(keyfiles, "_RACY", 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", reading)
        gate = Gate(group("people", path))
    assert gate.known(1, 3) == [1]
    gate.look()
    assert gate.known(1, 3) == [3]


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
    for folder in (path.parent, *path.parent.parents[:-2]):
        folder.chmod(0o755)
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
