from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.netns import until

from knockgate.daemon.log import Seldom

SPEAKER = """
import sys
from knockgate.daemon.log import say
for number in range(3000):
    say("gate", f"line {number} " + "x" * 100)
say("gate", "y" * 5000)
print("said", flush=True)
sys.stdin.readline()
say("gate", "flows again")
"""


def test_a_reader_that_is_stuck_does_not_hold_up_who_speaks() -> None:
    """What finds no room is counted, and told when somebody reads again."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", SPEAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    ) as speaker:
        os.close(writer)
        assert speaker.stdin and speaker.stdout
        os.set_blocking(speaker.stdout.fileno(), False)
        until(lambda: speaker.stdout and speaker.stdout.readline() == "said\n", "all is said, nobody reads")
        os.set_blocking(reader, False)
        before = os.read(reader, 1 << 20).decode().splitlines()
        assert before[0].startswith("gate: line 0 x") and 100 < len(before) < 3000
        speaker.stdin.write("\n")
        speaker.stdin.close()
        speaker.wait()
    after = os.read(reader, 1 << 20).decode()
    os.close(reader)
    lost = 3001 - len(before)
    assert after == f"gate: {lost} lines were lost, nobody read the log\ngate: flows again\n"


def test_a_line_is_cut_to_what_a_pipe_takes_at_once() -> None:
    """A short one is whole (control); nobody left to read is no reason to end."""
    code = "from knockgate.daemon.log import say; say('gate', 'short'); say('gate', 'y' * 5000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    short, long = done.stderr.splitlines(keepends=True)
    assert short == b"gate: short\n" and len(long) == 4096
    reader, writer = os.pipe()
    os.close(reader)
    subprocess.run([sys.executable, "-c", code], stderr=writer, check=True)
    os.close(writer)


def test_kinds_that_people_make_up_are_not_all_remembered(capfd: pytest.CaptureFixture[str]) -> None:
    seldom = Seldom("gate")
    for _ in range(2):
        seldom.say("store", "again")
    assert capfd.readouterr().err == "gate: again\n"
    for number in range(10_000):
        seldom.say(f"key {number}", "refused")
    assert len(vars(seldom)["_said"]) == 4096
    capfd.readouterr()
    seldom.say("store", "again")  # so long ago that it is forgotten, which costs a line
    assert capfd.readouterr().err.endswith("gate: again\n")
