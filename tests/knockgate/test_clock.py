from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from knockgate import clock
from knockgate.clock import KernelClock, is_synchronised
from knockgate.config.readers import Reliance


@pytest.mark.parametrize(
    ("reliance", "says", "expected"),
    [
        (Reliance.AUTO, [False, False], [False, False]),
        (Reliance.AUTO, [False, True, False], [False, True, True]),
        (Reliance.AUTO, [True, False], [True, True]),
        (Reliance.TRUSTED, [False, True], [True, True]),
        (Reliance.UNKNOWN, [False, True], [False, False]),
    ],
)
def test_when_it_is_relied_on(
    reliance: Reliance, says: list[bool], expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the kernel says. Once it has vouched for the clock, it may take that back: nobody listens."""
    assert told_by(KernelClock(reliance), says, monkeypatch) == expected


@pytest.mark.parametrize(
    ("reliance", "says", "expected"),
    [
        (Reliance.AUTO, [False, True, False, True], [False, True, False, True]),
        (Reliance.AUTO, [True, False], [True, False]),
        (Reliance.TRUSTED, [False, True, False], [True, True, True]),
        (Reliance.UNKNOWN, [False, True], [False, False]),
    ],
)
def test_what_the_kernel_says_at_that_moment(
    reliance: Reliance, says: list[bool], expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For who keeps account of it themselves. An admin's word is asked for before the kernel's."""
    assert told_by(KernelClock(reliance, sticky=False), says, monkeypatch) == expected


def told_by(ours: KernelClock, says: list[bool], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    found = []
    for answer in says:
        monkeypatch.setattr(clock, "is_synchronised", lambda answer=answer: answer)
        found.append(ours.read().synchronised)
    return found


def test_the_moment_is_this_machine_s() -> None:
    """Beside what the kernel tells otherwise: a file's time, /proc/uptime, and sysctl.

    Where a machine plays its clock and the identity of its boot, as one that builds and tests may do, all
    of these are played alike: what is compared is that we read them as everybody does.
    """
    ours = KernelClock(Reliance.TRUSTED)
    before, now, after = read_elsewhere(), ours.read(), read_elsewhere()
    assert before.up <= now.up + 0.02 and now.up <= after.up + 0.02  # /proc/uptime has hundredths
    assert before.now <= now.now + 0.02 and now.now <= after.now + 0.02  # a file's time has ticks
    boot = subprocess.run(
        ["cat", "/proc/sys/kernel/random/boot_id"], capture_output=True, text=True, check=True
    ).stdout
    assert now.boot == boot.strip() and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", now.boot)
    assert ours.read().up > now.up


class Elsewhere(NamedTuple):
    """The same times by other ways."""

    now: float
    up: float


def read_elsewhere() -> Elsewhere:
    up = float(Path("/proc/uptime").read_text().split()[0])
    file = os.memfd_create("time")
    os.write(file, b"x")
    now = os.fstat(file).st_mtime
    os.close(file)
    return Elsewhere(now, up)


def asked_under_strace(*options: str) -> tuple[list[bool], list[dict[str, str]], str]:
    """What ``is_synchronised`` answers twice, and what strace(1) read out of the two calls by itself."""
    script = "from knockgate.clock import *\nprint(is_synchronised(), is_synchronised())"
    trace = "trace=adjtimex,clock_adjtime,clock_settime,settimeofday"
    command = [
        "strace",
        "-v",
        "-qq",
        "-e",
        "signal=none",
        "-e",
        trace,
        *options,
        sys.executable,
        "-c",
        script,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    assert done.returncode == 0, done.stderr
    calls = [dict(re.findall(r"(\w+)=([-\w|]+)", line)) for line in done.stderr.splitlines()]
    return [word == "True" for word in done.stdout.split()], calls, done.stderr


def test_the_real_kernel() -> None:
    """It is asked, and never told anything. What it answers depends on the machine.

    One without a time server says 16 s; that no machine is in the state we need is why the next test exists.
    """
    answers, calls, text = asked_under_strace()
    assert len(calls) == 2, text
    assert all(call["modes"] == "0" for call in calls), text
    assert answers == [int(call["maxerror"]) < 16_000_000 for call in calls], text
    assert "settime" not in text
    assert is_synchronised() in answers


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="the bytes put in place are those of 64 bits")
def test_the_kernel_s_answer_put_in_place() -> None:
    """Just below 16 s the clock is synchronised, at 16 s it is not; STA_UNSYNC does not count either way.

    strace writes over the beginning of the answer as the call returns, and reads it back for us: so it is
    seen that we take the number from where it stands.
    """
    call = asked_under_strace()[2].partition("(")[0]
    argument = {"adjtimex": "@arg1", "clock_adjtime": "@arg2"}[call]
    for status in (0, 0x40):  # STA_UNSYNC
        for error, expected in ((15_999_999, True), (16_000_000, False)):
            words = (0, 0, 0, error, 0, status)  # modes, offset, freq, maxerror, esterror, status
            poked = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
            answers, calls, text = asked_under_strace(
                "-e", f"inject={call}:poke_exit={argument}={poked.hex()}"
            )
            assert [each["maxerror"] for each in calls] == [str(error)] * 2, text
            assert ["STA_UNSYNC" in each["status"] for each in calls] == [bool(status)] * 2, text
            assert answers == [expected] * 2
