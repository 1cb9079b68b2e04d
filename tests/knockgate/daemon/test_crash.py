"""The runner is killed at each point of its course, and the next one closes what stands open.

The points are those at which the world changes: each call by which the runner starts a process, lets it
go, writes to the disk and hears of an end, just before and just after it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.daemon.gates import BOOT, CLIENT, OTHER, Gate, knock, step_until
from tests.netns import until

from knockgate.config.doors import Door
from knockgate.daemon import commands
from knockgate.daemon.command import Command
from knockgate.daemon.commands import boottime
from knockgate.store.pending import PendingStore

# The runner has no threads; the process of the tests may have some, and its children run nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

#: The calls, in the order in which one knock makes them.
CALLS = [
    ("fork", os, "fork"),
    ("put", PendingStore, "put"),
    ("go", os, "write"),
    ("reap", Command, "reap"),
    ("remove", PendingStore, "remove"),
]
COURSE = ["fork", "put", "go", "reap", "put", "fork", "put", "go", "reap", "remove"]
POINTS = [f"{when} {call}" for call in COURSE for when in ("before", "after")]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.end()


def run_and_kill(gate: Gate, door: Door, at: int) -> bool:
    """Let a runner open and close the door in a process of its own; whether it was killed at that point."""
    child = os.fork()
    if child == 0:
        try:
            _course(gate, door, at)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _course(gate: Gate, door: Door, at: int) -> None:
    passed: list[str] = []
    runner_itself = os.getpid()

    def point(name: str) -> None:
        if os.getpid() != runner_itself:  # the command's process, before it is the command
            return
        passed.append(name)
        (gate.folder / "points").write_text("\n".join(passed))
        if len(passed) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            point(f"before {name}")
            answer = function(*arguments)
            point(f"after {name}")
            return answer

        return call

    runner = gate.runner(door)
    for name, owner, attribute in CALLS:
        setattr(owner, attribute, watched(name, getattr(owner, attribute)))
    knock(runner)
    runner.step(0)
    step_until(runner, lambda: len(passed) >= len(POINTS), "the door is closed again")
    os._exit(0)


def slow_door(gate: Gate, lease: float = 0, wait: float = 0.06) -> Door:
    """Its opening command takes a while, and leaves its number."""
    usual = gate.door(wait=wait)
    assert usual.commands
    return gate.door(lease=lease, open=(f"echo $$ >>{gate.folder}/pids; {usual.commands.open[0]}",))


def openings_running(gate: Gate) -> list[int]:
    path = gate.folder / "pids"
    numbers = [int(number) for number in path.read_text().split()] if path.exists() else []
    return [number for number in numbers if _runs(number)]


def _runs(number: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


def assert_closed(gate: Gate, boot: str = BOOT) -> None:
    """A new runner closes what stands open, and no opening command comes after it."""
    runner = gate.runner(boot=boot)
    step_until(runner, lambda: not len(runner), "all is closed")
    until(lambda: not openings_running(gate), "no opening command is left")
    assert gate.rules == [] and gate.rows() == []


def test_the_points_are_all_there_are(gate: Gate) -> None:
    """A runner that is not killed passes just these, and the rule stands in between (control)."""
    assert not run_and_kill(gate, slow_door(gate), at=0)
    assert (gate.folder / "points").read_text().splitlines() == POINTS
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"]
    assert_closed(gate)


@pytest.mark.parametrize("at", range(1, len(POINTS) + 1), ids=POINTS)
def test_killed_and_started_again_at_once(gate: Gate, at: int) -> None:
    """What was opened is closed, also where the opening command still ran when its runner died."""
    assert run_and_kill(gate, slow_door(gate), at)
    assert (gate.folder / "points").read_text().splitlines() == POINTS[:at]
    assert_closed(gate)


@pytest.mark.parametrize("boot", [BOOT, "another boot"])
def test_killed_and_started_again_later(gate: Gate, boot: str) -> None:
    """The rule stands for as long as nobody is there to take it away; then it is closed at once.

    A reboot is played: the rules outlive it and another identity of the boot is given to the new runner.
    """
    assert run_and_kill(gate, slow_door(gate, lease=3600), POINTS.index("after go") + 1)
    until(lambda: gate.rules and not openings_running(gate), "the opening command ends by itself")
    assert_closed(gate, boot)


def test_what_runs_still_is_ended_before_it_can_open(gate: Gate) -> None:
    """The broken off command has a child that would open in a minute; both are ended, then it is closed."""
    door = gate.door(
        lease=3600,
        open=(f"(echo $$ >>{gate.folder}/pids; sleep 60; echo %IP% >>{gate.folder}/rules); true",),
    )
    assert run_and_kill(gate, door, POINTS.index("after go") + 1)
    until(lambda: openings_running(gate), "the opening command runs")
    assert_closed(gate)
    assert "a command of an earlier run is still running, and is ended" in gate.said[0]


def test_closing_waits_until_what_is_ended_is_gone(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a disk does not end at once; here that is played, by not ending it."""
    monkeypatch.setattr(commands, "end_all", lambda *_: None)
    assert run_and_kill(gate, slow_door(gate, wait=0.5), POINTS.index("after go") + 1)
    until(lambda: gate.log, "the opening command runs")
    assert_closed(gate)
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"]


def test_a_lease_goes_on_after_a_crash(gate: Gate) -> None:
    """A door that had been opened in full stays open until its time, and a knock renews it as before."""
    _, opened, _ = (number for number, point in enumerate(POINTS, 1) if point == "after put")
    assert run_and_kill(gate, gate.door(lease=0.8), opened)
    start = time.monotonic()
    runner = gate.runner(gate.door(lease=0.8))
    runner.step(0.3)
    assert len(runner) == 1 and gate.rules == ["192.0.2.7"]
    knock(runner)
    assert gate.rows()[0].due > boottime() + 0.7
    step_until(runner, lambda: not len(runner), "it is closed in time")
    assert time.monotonic() - start > 1
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"] and gate.rules == []


def test_after_a_reboot_a_knock_opens_anew(gate: Gate) -> None:
    """What stood open is closed first, whatever its lease; a knock meanwhile is not taken for a renewal.

    The reboot is played: another identity of the boot is given to the new runner.
    """
    runner = gate.runner(gate.door(lease=3600))
    knock(runner)
    knock(runner, OTHER)
    step_until(runner, lambda: len(gate.rules) == 2 and runner.is_idle, "it is open for two")
    gate.leave()
    runner = gate.runner(gate.door(lease=3600), boot="another boot")
    knock(runner)
    step_until(runner, lambda: len(gate.log) == 8 and runner.is_idle, "closed for both, opened for one")
    ours = [line for line in gate.log if line.endswith("192.0.2.7")]
    assert [line.split()[0] for line in ours] == ["open", "opened", "closed", "open", "opened"]
    assert gate.rules == ["192.0.2.7"]
    assert [row.source for row in gate.rows()] == [CLIENT]


def test_a_door_that_is_gone_from_the_configuration_is_closed(gate: Gate) -> None:
    """With the command that was promised when it was opened, also where there is another one by now."""
    runner = gate.runner(gate.door("a", lease=0.2), gate.door("b", lease=0.2))
    for door in "ab":
        knock(runner, door=door)
    step_until(runner, lambda: len(gate.rules) == 2 and runner.is_idle, "both are open")
    gate.leave()
    changed = gate.door("b", close=("echo nothing",))
    runner = gate.runner(changed)
    step_until(runner, lambda: not len(runner), "both are closed")
    assert gate.rules == []
