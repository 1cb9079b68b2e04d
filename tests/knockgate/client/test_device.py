"""The client's secret and dates: on a real disk, between real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns import isolated, own_mounts, run

from knockgate.client import device
from knockgate.client.device import Ticket, next_date
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.spa.sealed import device_id
from knockgate.spa.sealed.dates import LAST_ERA, WINDOW, Date

GATE, OTHER = bytes(range(32)), bytes(32)
NOW = 1_800_000_000 * 10**9
MACHINE = b"0123456789abcdef" * 2
SECRET = b"s" * 32


def ticket(
    path: Path,
    now: int = NOW,
    gate: bytes = GATE,
    machine: bytes = MACHINE,
    fresh_secret: Callable[[], bytes] = lambda: SECRET,
) -> Ticket:
    return next_date(path, gate, now=now, machine=machine, fresh_secret=fresh_secret)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "knockgate" / "device.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- what is given out -------------------------------------------------------------------------------


def test_the_first_knock_of_all(path: Path) -> None:
    assert ticket(path) == Ticket(device_id(SECRET, GATE, MACHINE), Date(0, NOW), True)
    assert mode(path) == mode(path.with_suffix(".lock")) == 0o600
    assert mode(path.parent) == 0o700
    assert sorted(each.name for each in path.parent.iterdir()) == ["device.json", "device.lock"]


def test_a_umask_that_takes_nothing_away_opens_nothing(path: Path) -> None:
    before = os.umask(0)
    try:
        ticket(path)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_what_follows(path: Path) -> None:
    ticket(path)
    assert ticket(path, NOW + 5) == Ticket(device_id(SECRET, GATE, MACHINE), Date(0, NOW + 5), False)
    assert ticket(path, NOW + 5).date == Date(0, NOW + 6), "the clock has not moved"
    assert ticket(path, NOW).date == Date(0, NOW + 7), "it was put back a little"
    assert ticket(path, NOW - WINDOW).date == Date(1, NOW - WINDOW), "it had been ahead"
    assert ticket(path, NOW).date == Date(1, NOW)


def test_gates_do_not_know_of_each_other(path: Path) -> None:
    ticket(path, NOW + 10**18)
    other = ticket(path, gate=OTHER)
    assert other == Ticket(device_id(SECRET, OTHER, MACHINE), Date(0, NOW), True)
    assert ticket(path).date.era == 1


def test_whether_a_gate_has_met_it(path: Path) -> None:
    assert not device.knows(path, GATE)
    assert not path.parent.exists(), "nothing is written for it"
    ticket(path)
    before = path.read_bytes()
    assert device.knows(path, GATE) and not device.knows(path, OTHER)
    assert path.read_bytes() == before
    path.write_bytes(before[:-3])
    with pytest.raises(ConfigError, match="damaged"):
        device.knows(path, GATE)
    path.unlink()
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.write_text("a file where the folder was")
    with pytest.raises(Unavailable):
        device.knows(path, GATE)


def test_a_copied_home_is_another_device(path: Path) -> None:
    assert ticket(path).device != ticket(path, machine=b"f" * 32).device != ticket(path, machine=b"").device


def test_no_more_eras_make_a_new_device_for_all_gates(path: Path) -> None:
    ticket(path, gate=OTHER)
    before = ticket(path)
    text = json.loads(path.read_text())
    text["gates"][GATE.hex()]["era"] = LAST_ERA
    path.write_text(json.dumps(text))
    assert ticket(path, NOW - 1).date == Date(LAST_ERA, NOW + 1), "no new era is needed yet"
    found = ticket(path, NOW - 2 * WINDOW, fresh_secret=lambda: b"n" * 32)
    assert found == Ticket(device_id(b"n" * 32, GATE, MACHINE), Date(0, NOW - 2 * WINDOW), True, renewed=True)
    assert found.device != before.device
    assert ticket(path, gate=OTHER) == Ticket(device_id(b"n" * 32, OTHER, MACHINE), Date(0, NOW), True)


@given(st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=8))
def test_dates_only_ever_rise(clocks: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "device.json")
        path.parent.chmod(0o700)
        last: Ticket | None = None
        for now in clocks:
            with contextlib.suppress(KnockgateError):  # at the end of time
                found = ticket(path, now)
                assert last is None or found.date > last.date
                last = found


@pytest.mark.parametrize("now", [0, -1, 2**63])
def test_a_clock_that_no_packet_can_say(now: int, path: Path) -> None:
    with pytest.raises(Unavailable, match="clock"):
        ticket(path, now)
    assert not path.exists()
    assert ticket(path, 1).date == Date(0, 1)


def test_the_last_nanosecond(path: Path) -> None:
    assert ticket(path, 2**63 - 1).date == Date(0, 2**63 - 1)
    with pytest.raises(ConfigError, match="date is too late"):
        ticket(path, 2**63 - 1)
    assert ticket(path, NOW).date == Date(1, NOW)


# --- where it is -------------------------------------------------------------------------------------


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    for given_, wanted in (
        (None, "/home/jo/.local/state"),
        ("relative", "/home/jo/.local/state"),
        ("", "/home/jo/.local/state"),
        ("/else", "/else"),
    ):
        if given_ is None:
            monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_STATE_HOME", given_)
        assert device.default_path() == Path(wanted, "knockgate", "device.json")


def test_the_machines_name(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    assert device.machine_id(file) == b""
    file.write_bytes(b"uninitialized\n")
    assert device.machine_id(file) == b""
    file.write_bytes(MACHINE + b"\n")
    assert device.machine_id(file) == MACHINE


# --- a file that is not as it should be --------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-3],
        lambda _: b"",
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda text: text.replace(b'"version"', b'"else"'),
        lambda text: text.replace(b"c3Nz", b"c3!z"),
        lambda text: text.replace(b"c3Nz", b"", 1),
        lambda text: text.replace(b'"era": 0', b'"era": -1'),
        lambda text: text.replace(b'"era": 0', b'"era": 65536'),
        lambda text: text.replace(b'"era": 0', b'"era": false'),
        lambda text: text.replace(b'"era": 0', b'"era": 0.0'),
        lambda text: text.replace(b'"last": ', b'"last": "1", "next": '),
        lambda text: text.replace(b'"last": 1', b'"last": 1' + b"0" * 20),
        lambda text: text.replace(b'"last": 1', b'"last": 1' + b"0" * 5000),
        lambda text: text.replace(GATE.hex().encode(), GATE.hex().upper().encode()),
        lambda text: text.replace(GATE.hex().encode(), GATE.hex()[2:].encode()),
        lambda _: b"[" * 100_000,
        lambda text: text + b" " * (1 << 20),
        lambda _: b'["version", "secret", "gates"]',
        lambda _: b"null",
        lambda text: b"\xff" + text,
    ],
)
def test_a_damaged_file_is_left_as_it_is(damage: Callable[[bytes], bytes], path: Path) -> None:
    ticket(path)
    right = path.read_bytes()
    wrong = damage(right)
    assert wrong != right
    path.write_bytes(wrong)
    with pytest.raises(ConfigError, match="damaged") as caught:
        ticket(path, NOW + 1)
    assert f"mv {path} {path}.old" in (caught.value.hint or "")
    assert "c3Nz" not in f"{caught.value}{caught.value.hint}"
    assert path.read_bytes() == wrong
    path.write_bytes(right)
    assert ticket(path, NOW + 1).date == Date(0, NOW + 1)


@given(st.binary(max_size=200))
def test_any_file_is_a_device_or_damaged(octets: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "device.json")
        ticket(path)
        path.write_bytes(octets)
        with pytest.raises(ConfigError):
            ticket(path)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602])
def test_others_may_read_or_write_it(bits: int, path: Path) -> None:
    ticket(path)
    path.chmod(bits)
    with pytest.raises(ConfigError, match="others than its owner") as caught:
        ticket(path)
    assert f"chmod 600 {path}" in (caught.value.hint or "")
    path.chmod(0o600)
    assert not ticket(path).is_new


def test_others_may_write_in_its_folder(path: Path) -> None:
    ticket(path)
    path.parent.chmod(0o770)
    with pytest.raises(ConfigError, match="others may write in this folder"):
        ticket(path)
    path.parent.chmod(0o750)
    assert not ticket(path).is_new


def test_what_is_no_file(path: Path, tmp_path: Path) -> None:
    ticket(path)
    real = tmp_path / "real"
    path.rename(real)
    path.symlink_to(real)
    with pytest.raises(ConfigError, match="no file"):
        ticket(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="no file"):
        ticket(path)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="no file"):
        ticket(path)
    path.unlink()
    real.rename(path)
    assert not ticket(path).is_new


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file(path: Path) -> None:
    ticket(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to nobody, and this runs as root") as caught:
        ticket(path)
    assert "sudo -H" in (caught.value.hint or "")
    os.chown(path, 0, 0)
    assert not ticket(path).is_new


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_root_leaves_nothing_in_the_home_of_another(depth: int, path: Path) -> None:
    """As `sudo -E` has it; at each state of that home: with the folder, or with one above it alone."""
    folder = path.parents[depth]
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to nobody"):
        ticket(path)
    assert not any(folder.iterdir())
    os.chown(folder, 0, 0)
    assert ticket(path).is_new


# --- a disk that is not as it should be --------------------------------------------------------------


@isolated
def _on_a_small_disk(fill: bool) -> None:
    own_mounts()
    disk = Path("/run/disk")
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=700,size=64k", "tmpfs", str(disk))
    path = disk / "knockgate" / "device.json"
    before = ticket(path)
    text = path.read_bytes()
    if fill:
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    else:
        run("mount", "-o", "remount,bind,ro", str(disk))
    with pytest.raises(Unavailable, match="nothing was sent") as caught:
        ticket(path, NOW + 1)
    assert ("no space left" if fill else "read-only") in caught.value.message
    assert "XDG_STATE_HOME" in (caught.value.hint or "")
    assert path.read_bytes() == text
    if fill:
        (disk / "fill").unlink()
    else:
        run("mount", "-o", "remount,bind,rw", str(disk))
    assert ticket(path, NOW + 1) == Ticket(before.device, Date(0, NOW + 1), False)


def test_a_full_disk() -> None:
    _on_a_small_disk(fill=True)


def test_a_disk_that_is_for_reading_only() -> None:
    _on_a_small_disk(fill=False)


# --- several at once ---------------------------------------------------------------------------------

_PROGRAM = """
import sys
from pathlib import Path
from knockgate.client.device import next_date
import secrets
for _ in range(25):
    found = next_date(Path(sys.argv[1]), bytes(32), now=10**18, machine=b"",
                      fresh_secret=lambda: secrets.token_bytes(32))
    print(found.device.hex(), *found.date)
"""


def test_processes_never_get_the_same_date(path: Path) -> None:
    """All of them begin where there is no folder yet, and their clock stands still."""
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    lines = [line for each in running for line in each.communicate(timeout=60)[0].splitlines()]
    assert all(each.returncode == 0 for each in running)
    assert len(lines) == len(set(lines)) == 6 * 25
    assert len({line.split()[0] for line in lines}) == 1, "they are one device"
    assert {int(line.split()[2]) for line in lines} == set(range(10**18, 10**18 + 6 * 25))


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_lock_that_is_not_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket(path)
    monkeypatch.setattr(device, "_PATIENCE", 0.05)
    with held(path.with_suffix(".lock")), pytest.raises(Unavailable, match="in use") as caught:
        ticket(path)
    assert "fuser" in (caught.value.hint or "")
    assert ticket(path).date == Date(0, NOW + 1)


def test_another_xdg_home_is_another_device(tmp_path: Path) -> None:
    """The control of the one above: nothing but the file makes a device."""
    one, other = (
        ticket(tmp_path / name / "device.json", fresh_secret=lambda: secrets.token_bytes(32)) for name in "ab"
    )
    assert one.device != other.device
    shutil.rmtree(tmp_path / "a")
    assert ticket(tmp_path / "a" / "device.json", fresh_secret=lambda: secrets.token_bytes(32)).is_new
