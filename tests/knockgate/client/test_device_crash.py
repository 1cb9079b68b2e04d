"""A client is killed at each call that reaches its file: the file is the old one or the new one, never less.

The calls are counted from outside, by strace(1), which kills just before one is made. What a power failure
leaves is not shown, but that each flush comes before what relies on it.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockgate.client.test_device import GATE, MACHINE, NOW, OTHER, SECRET, ticket

from knockgate.spa.sealed import device_id
from knockgate.spa.sealed.dates import Date

CALLS = "openat,unlink,write,fsync,rename,mkdir,flock,ftruncate"
#: What a process does between two calls of getppid, with which the child brackets the course.
_PROGRAM = """
import os, sys
from pathlib import Path
from knockgate.client.device import next_date
path, now = Path(sys.argv[1]), int(sys.argv[2])
os.getppid()
found = next_date(path, bytes(range(32)), now=now, machine=b"0123456789abcdef" * 2,
                  fresh_secret=lambda: b"s" * 32)
os.getppid()
os.write(1, f"{found.date.era} {found.date.issued}".encode())
"""


def course(path: Path, log: Path, *inject: str) -> tuple[int, str, list[str]]:
    """How the child ended, what it told, and the calls that it made of the file, in their order."""
    options = ["-f", "-qq", "-y", "-o", str(log), "-e", f"trace=getppid,{CALLS}", *inject]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            ["strace", *options, sys.executable, "-c", _PROGRAM, str(path), str(NOW + 1)],
            env=environment,
            capture_output=True,
            check=False,
            timeout=120,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    lines = [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]
    return done.returncode, done.stdout.decode(), lines


def parted(lines: list[str]) -> tuple[list[str], list[str]]:
    """What was before the course, and the course."""
    ends = [number for number, line in enumerate(lines) if line.startswith("getppid")]
    return lines[: ends[0]], lines[ends[0] + 1 : ends[1]]


def name(line: str) -> str:
    return line.partition("(")[0]


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_killed_at_each_call(first: bool, tmp_path: Path) -> None:
    def laid_out(folder: Path) -> Path:
        path = folder / "state" / "device.json"
        folder.mkdir()
        if not first:
            ticket(path)
            ticket(path, gate=OTHER)
        return path

    code, told, lines = course(laid_out(tmp_path / "whole"), tmp_path / "log")
    assert (code, told) == (0, f"0 {NOW + 1}")
    before, calls = parted(lines)
    _check_order(calls)
    # strace counts each kind of call from the beginning of the process.
    counts = {each: sum(name(line) == each for line in before) for each in CALLS.split(",")}
    states = []
    for number, line in enumerate(calls):
        counts[name(line)] += 1
        path = laid_out(tmp_path / str(number))
        inject = f"inject={name(line)}:signal=KILL:when={counts[name(line)]}"
        code, told, _ = course(path, tmp_path / "log", "-e", inject)
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL) and told == "", line
        states.append(judge(path, first))
    turn = 1 + next(number for number, line in enumerate(calls) if name(line) == "rename")
    assert states == ["old"] * turn + ["new"] * (len(calls) - turn), list(zip(calls, states, strict=True))


def _check_order(calls: list[str]) -> None:
    """On the disk before it has its name, and its name too before anybody is told."""
    kinds = [name(line) for line in calls]
    written = max(number for number, line in enumerate(calls) if re.match(r"write\(\d+<.*\.new>", line))
    flushed = max(number for number, line in enumerate(calls) if re.match(r"fsync\(\d+<.*\.new>", line))
    renamed = kinds.index("rename")
    folder = max(number for number, line in enumerate(calls) if re.match(r"fsync\(\d+<.*/state>", line))
    assert written < flushed < renamed < folder
    assert kinds.index("flock") < written
    for made, line in enumerate(calls):
        if name(line) == "mkdir":
            assert "fsync" in kinds[made:written], "a folder is there after a power failure too"


def judge(path: Path, first: bool) -> str:
    """``old`` or ``new``: what the next one gets, who finds whatever was left lying about."""
    existed = path.exists()
    found = ticket(path, NOW + 1)
    assert found.device == device_id(SECRET, GATE, MACHINE)
    assert found.date in (Date(0, NOW + 1), Date(0, NOW + 2))
    is_old = found.date == Date(0, NOW + 1)
    assert found.is_new is (first and is_old)
    assert existed or (first and is_old)
    if not first:
        assert ticket(path, gate=OTHER).date == Date(0, NOW + 1), "what another gate was given is there"
    assert not list(path.parent.glob("*.new"))
    return "old" if is_old else "new"


def test_what_a_killed_one_left_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    for left, number in zip((b"", b"half", bytes(10_000)), itertools.count(), strict=False):
        path.with_name("device.json.new").write_bytes(left)
        assert ticket(path).date == Date(0, NOW + number)
