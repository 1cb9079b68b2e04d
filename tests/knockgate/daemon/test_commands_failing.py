"""Commands where the disk, the kernel or the command itself refuses."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.daemon.gates import CLIENT, OTHER, Gate, knock, step_until

from knockgate.daemon import commands

# The runner has no threads; the process of the tests may have some, and its children run nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.end()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """The kernel lets us write no file beyond its first byte, which is what a full disk comes to."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_opened_that_could_not_be_closed(gate: Gate) -> None:
    """With a full disk no command runs, a lease is not renewed, and closing goes on; then all is well."""
    runner = gate.runner(gate.door(lease=0.5), gate.door("free", open=("true",), close=()))
    knock(runner, OTHER)
    step_until(runner, lambda: gate.rules == ["192.0.2.8"] and runner.is_idle, "another door is open")
    with full_disk():
        knock(runner)
        knock(runner, OTHER)
        runner.step(0)
    assert gate.log == ["open 192.0.2.8", "opened 192.0.2.8"]
    assert sorted(line.partition(": ")[2].partition(",")[0] for line in gate.said[1:]) == [
        "not opened",
        "stays open no longer than before",
    ]
    step_until(runner, lambda: gate.rules == [] and not len(runner), "the other door is closed in time")
    knock(runner)  # control
    step_until(runner, lambda: gate.rules == ["192.0.2.7"], "with room on the disk it is opened")


def test_closing_does_not_need_the_disk(gate: Gate) -> None:
    """If it fails there, the door is closed all the same, and again after a restart: once too often."""
    door = gate.door(lease=0.2)
    assert door.commands
    close = f"while [ ! -e {gate.folder}/go ]; do sleep 0.02; done; {door.commands.close[0]}"
    runner = gate.runner(gate.door(lease=0.2, close=(close,)))
    knock(runner)
    step_until(runner, lambda: gate.rows() and not gate.rows()[0].process, "it is open")
    step_until(runner, lambda: not runner.is_idle, "it is being closed")
    (gate.folder / "go").touch()
    with full_disk():
        step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.rules == [] and "closed, and will be closed again after a restart" in gate.said[-1]
    gate.leave()
    again = gate.runner()
    step_until(again, lambda: not len(again), "it is closed once more")
    assert gate.log.count("closed 192.0.2.7") == 2 and gate.rows() == []


def test_when_no_process_can_be_started_opening_is_refused_and_closing_tried_again(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing waits for better times; nothing is forgotten, and nothing of a broken start is left."""
    monkeypatch.setattr(commands, "_TRY_AGAIN", 0.05)
    runner = gate.runner(gate.door(lease=0.1))
    knock(runner)
    step_until(runner, lambda: gate.rules and runner.is_idle, "it is open")
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", refuse)
        knock(runner, OTHER)
        step_until(runner, lambda: len([line for line in gate.said if "not closed yet" in line]) > 1, "tried")
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert len(runner) == 1 and any(
            "192.0.2.8: not opened, no command can be run" in s for s in gate.said
        )
    step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.rules == []


@pytest.mark.parametrize("failure", ["exit 3", "kill -9 $$", "sleep 60"])
def test_a_closing_that_fails_is_tried_again(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """By its status, by a signal, by its time limit: the door is not forgotten before it is closed."""
    monkeypatch.setattr(commands, "_TRY_AGAIN", 0.05)
    usual = gate.door().commands
    assert usual
    close = f"echo try >>{gate.folder}/tries; [ -e {gate.folder}/go ] || {failure}; {usual.close[0]}"
    runner = gate.runner(gate.door(lease=0, close=(close,), time_limit=0.2))
    knock(runner)
    tries = gate.folder / "tries"
    step_until(runner, lambda: tries.exists() and tries.read_text().count("try") > 1, "tried again")
    assert gate.rules == ["192.0.2.7"] and len(runner) == len(gate.rows()) == 1
    (gate.folder / "go").touch()
    step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.rules == [] and gate.rows() == []


def test_a_closing_that_never_works_is_left_for_the_next_start(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried a bounded number of times, ever more slowly, and said once; a knock opens meanwhile."""
    monkeypatch.setattr(commands, "_TRY_AGAIN", 0.01)
    usual = gate.door().commands
    assert usual
    close = f"[ -e {gate.folder}/go ] && {usual.close[0]}"
    runner = gate.runner(gate.door(lease=0.05, close=(close,)))
    begun = time.monotonic()
    knock(runner)
    step_until(runner, lambda: not len(runner), "it is given up")
    assert time.monotonic() - begun > 0.01 * (2 ** (commands._TRIES - 1) - 1)
    assert len([line for line in gate.said if "command on close ended with status 1" in line]) == 7
    assert [line for line in gate.said if "NOT closed" in line] == [gate.said[-1]]
    assert gate.rules == ["192.0.2.7"] and [row.source for row in gate.rows()] == [CLIENT]
    knock(runner)
    step_until(runner, lambda: len(gate.rules) == 2 and not runner._jobs, "a knock opens")
    (gate.folder / "rules").write_text("192.0.2.7\n")
    gate.leave()
    (gate.folder / "go").touch()
    again = gate.runner()
    assert len(again) == 1
    step_until(again, lambda: not len(again), "the next start closes it")
    assert gate.rules == [] and gate.rows() == []


def test_a_knock_does_not_wait_for_a_closing_that_fails(gate: Gate) -> None:
    """It has it tried once more at once, and then opens; where closing works, nothing is doubled."""
    usual = gate.door().commands
    assert usual
    close = f"[ -e {gate.folder}/go ] && {usual.close[0]}"
    now = [1000.0]
    runner = gate.runner(gate.door(lease=10, close=(close,)), now=lambda: now[0])
    knock(runner)
    step_until(runner, lambda: gate.rules and runner.is_idle, "it is open")
    now[0] += 10
    step_until(runner, lambda: "command on close ended with status 1" in gate.said[-1], "closing failed")
    (gate.folder / "rules").write_text("")  # as where somebody else emptied the firewall
    knock(runner)
    step_until(runner, lambda: gate.rules and runner.is_idle, "it is open again")
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7"] * 2
    (gate.folder / "go").touch()
    now[0] += 10
    step_until(runner, lambda: not len(runner), "it is closed in the end")
    assert gate.rules == [] and gate.rows() == []
