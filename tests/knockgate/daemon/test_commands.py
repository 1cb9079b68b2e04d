from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.daemon.gates import CLIENT, CLIENT6, OTHER, Gate, knock, step_until

from knockgate.config import knockd
from knockgate.config.doors import Commands
from knockgate.daemon import commands
from knockgate.daemon.commands import AT_ONCE, QUEUED, boottime

# The runner has no threads; the process of the tests may have some, and its children run nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.end()


# --- the usual course ---------------------------------------------------------------------------------


def test_opens_and_closes_when_the_lease_ends(gate: Gate) -> None:
    """Both commands run once; the rule stands in between, for the lease, counted from the opening's end."""
    runner = gate.runner(gate.door(lease=0.3, wait=0.2))
    knock(runner)
    step_until(runner, lambda: gate.rules, "the rule stands")
    opened = time.monotonic()
    assert [row.source for row in gate.rows()] == [CLIENT]
    step_until(runner, lambda: not runner.is_idle or not len(runner), "closing begins")
    step_until(runner, lambda: not len(runner), "it is closed")
    assert 0.25 < time.monotonic() - opened < 5
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"]
    assert gate.rules == [] and gate.rows() == []
    assert [line.partition(" after ")[0] for line in gate.said] == [
        f"door ssh for 192.0.2.7: command on {event} ended with status 0" for event in ("open", "close")
    ]


def test_a_further_knock_renews_and_opens_nothing_again(gate: Gate) -> None:
    """Three knocks make one rule, and it stands for a lease after the last of them; knockd makes three."""
    now = [1000.0]
    runner = gate.runner(gate.door(lease=10), now=lambda: now[0])
    for _ in range(2):
        knock(runner)  # both before the first command has ended
    step_until(runner, lambda: runner.is_idle and gate.rules, "it is open")
    for now[0] in (1007.0, 1014.0):
        knock(runner)
        runner.step(0)
    assert [row.due for row in gate.rows()] == [1024.0]
    now[0] = 1023.9
    runner.step(0)
    assert runner.is_idle and gate.rules == ["192.0.2.7"]
    now[0] = 1024.0
    step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.log == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"]
    assert gate.rules == []


def test_a_knock_while_it_closes_opens_anew(gate: Gate) -> None:
    """It neither keeps open what is being closed nor gets lost."""
    door = gate.door(lease=0.05)
    assert door.commands
    slow = f"sleep 0.2; {door.commands.close[0]}"
    runner = gate.runner(gate.door(lease=0.05, close=(slow,)))
    knock(runner)
    step_until(runner, lambda: gate.said, "it is open")
    step_until(runner, lambda: not runner.is_idle, "it is being closed")
    for _ in range(3):
        knock(runner)
    step_until(runner, lambda: len(gate.log) > 4, "it is opened again")
    assert gate.log[2:5] == ["closed 192.0.2.7", "open 192.0.2.7", "opened 192.0.2.7"]
    step_until(runner, lambda: not len(runner), "and closed again")
    assert gate.rules == []


def test_sources_and_doors_do_not_know_each_other(gate: Gate) -> None:
    """Each source has its own lease at each door."""
    runner = gate.runner(gate.door("a", lease=60), gate.door("b", lease=0.05))
    knock(runner, CLIENT, "a")
    knock(runner, CLIENT, "b")
    knock(runner, OTHER, "b")
    step_until(runner, lambda: len(gate.log) == 8 and len(runner) == 1, "b is closed for both")
    assert sorted(gate.log[-2:]) == ["closed 192.0.2.7", "closed 192.0.2.8"]
    assert gate.rules == ["192.0.2.7"] and [row.door for row in gate.rows()] == ["a"]


def test_without_anything_to_close_each_knock_runs_the_command(gate: Gate) -> None:
    """So it is with knockd, and nothing need be remembered."""
    runner = gate.runner(gate.door(close=()))
    for _ in range(3):
        knock(runner)
    step_until(runner, lambda: len(gate.rules) == 3 and runner.is_idle, "three commands have run")
    assert len(runner) == 0 and gate.rows() == []


def test_a_failed_opening_is_closed_all_the_same(gate: Gate) -> None:
    """It may have done half its work. What it said is in the log, on one line and cut."""
    runner = gate.runner(gate.door(lease=0, open=("echo no; printf '\\033[2J%05000d' 1 >&2; exit 3",)))
    (gate.folder / "rules").write_text("192.0.2.7\n")
    knock(runner)
    step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.rules == [] and gate.log == ["closed 192.0.2.7"]
    failed, closed = gate.said
    assert "command on open ended with status 3 after" in failed
    assert r"and said: no\n\x1b[2J0000" in failed and failed.isprintable() and len(failed) < 2200
    assert "command on close ended with status 0" in closed


def test_a_knock_after_a_failed_opening_tries_again(gate: Gate) -> None:
    """What failed is closed and opened anew, at once; when it has worked, a knock renews (control)."""
    usual = gate.door().commands
    assert usual
    first = f"[ -e {gate.folder}/go ] || {{ echo 192.0.2.7 >>{gate.folder}/rules; exit 1; }}; {usual.open[0]}"
    now = [1000.0]
    runner = gate.runner(gate.door(open=(first,), lease=10), now=lambda: now[0])
    knock(runner)
    step_until(runner, lambda: gate.said, "it has failed")
    assert gate.rules == ["192.0.2.7"] and len(runner) == 1 and gate.log == []
    (gate.folder / "go").touch()
    for _ in range(2):
        knock(runner)
    step_until(runner, lambda: len(gate.log) == 3 and runner.is_idle, "it is opened")
    assert gate.log == ["closed 192.0.2.7", "open 192.0.2.7", "opened 192.0.2.7"]
    knock(runner)
    runner.step(0)
    assert runner.is_idle and "is open already" in gate.said[-1] and gate.rules == ["192.0.2.7"]
    now[0] += 10
    step_until(runner, lambda: not len(runner) and runner.is_idle, "it is closed")
    now[0] += 10
    runner.step(0)
    assert gate.log[3:] == ["closed 192.0.2.7"] and gate.rules == []


def test_a_knockd_conf_is_run_as_it_is(gate: Gate) -> None:
    """Its shell lines go through a shell with the address in them, Cmd_Timeout is the lease."""
    conf, log = gate.folder / "knockd.conf", gate.folder / "log"
    conf.write_text(
        f"[open SSH]\n sequence = 7000,8000\n tcpflags = syn\n cmd_timeout = 0\n"
        f" start_command = echo start $((1+1)) %IP% $KNOCKGATE_DOOR >>{log}\n"
        f" stop_command = echo stop %IP% >>{log}\n stop_command_6 = echo stop6 %IP% >>{log}\n"
    )
    (door,) = knockd.load(str(conf), "lo").doors
    runner = gate.runner(door)
    for source in (CLIENT, CLIENT6):
        knock(runner, source, door.name)
        runner.step(0)
        step_until(runner, lambda: not len(runner) and runner.is_idle, "started and stopped")
    assert gate.log == [
        f"start 2 192.0.2.7 {door.name}",
        "stop 192.0.2.7",
        f"start 2 2001:db8:: {door.name}",
        "stop6 2001:db8::",
    ]


# --- limits -------------------------------------------------------------------------------------------


def test_no_more_commands_at_once_than_there_are_places(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait; with too many waiting a knock is refused, which is said once, and counted."""
    monkeypatch.setattr(commands, "QUEUED", 20)
    assert QUEUED == 1024
    script = f"echo x >>{gate.folder}/log; while [ ! -e {gate.folder}/go ]; do sleep 0.02; done"
    runner = gate.runner(gate.door(open=(script,), close=()))
    for _ in range(AT_ONCE):
        knock(runner)
    step_until(runner, lambda: len(gate.log) == AT_ONCE, "all places are taken")
    for _ in range(25):
        knock(runner)
    runner.step(0.1)
    assert len(gate.log) == AT_ONCE
    assert runner.refused == 5 and len(gate.said) == 1
    assert "nothing is run, too many knocks at once" in gate.said[0]
    (gate.folder / "go").touch()
    step_until(runner, lambda: len(gate.log) == AT_ONCE + 20 and runner.is_idle, "those that waited have run")
    knock(runner)  # control: there is room again
    step_until(runner, lambda: len(gate.log) == AT_ONCE + 21 and runner.is_idle, "a later knock is run")
    (gate.folder / "go").unlink()
    for _ in range(AT_ONCE + 20 + 1):
        knock(runner)
        runner.step(0)
    assert len([line for line in gate.said if "too many knocks at once" in line]) == 2  # it is told again
    (gate.folder / "go").touch()
    step_until(runner, lambda: runner.is_idle, "all have run")


def test_closing_goes_before_opening_and_is_never_refused(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one place, a door whose time is up is closed before the knocks that wait are run."""
    monkeypatch.setattr(commands, "AT_ONCE", 1)
    runner = gate.runner(gate.door("a", lease=0), gate.door("b", lease=60))
    knock(runner, CLIENT, "a")
    for number in range(3):
        knock(runner, bytes([10, 0, 0, number]), "b")
    step_until(runner, lambda: len(gate.log) == 9, "all have run")
    assert gate.log[:3] == ["open 192.0.2.7", "opened 192.0.2.7", "closed 192.0.2.7"]


def test_no_more_doors_stand_open_than_can_be_remembered(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next knock is refused and said once; one that only renews is not."""
    monkeypatch.setattr(commands, "STANDING", 1)
    runner = gate.runner(gate.door(lease=60))
    knock(runner)
    step_until(runner, lambda: gate.rules and runner.is_idle, "it is open")
    for _ in range(3):
        knock(runner, OTHER)
        knock(runner)
    runner.step(0)
    assert runner.refused == 3 and gate.rules == ["192.0.2.7"]
    assert len([line for line in gate.said if "too many doors stand open" in line]) == 1
    assert len([line for line in gate.said if "for another 60 s" in line]) == 3


def test_a_door_that_is_not_configured_runs_nothing(gate: Gate) -> None:
    """Nor one without commands; said once. After a reload a new door works, and a removed one is closed."""
    plain = gate.door("plain")
    object.__setattr__(plain, "commands", None)
    runner = gate.runner(gate.door(lease=0.3), plain)
    for _ in range(3):
        knock(runner, door="other")
        knock(runner, door="plain")
    assert runner.refused == 6 and len(gate.said) == 1
    knock(runner)
    step_until(runner, lambda: gate.rules, "ssh is open")
    runner.use([gate.door("other", lease=60)])
    knock(runner, OTHER, "other")
    knock(runner)  # no door of that name any more: it does not renew
    step_until(runner, lambda: gate.log.count("closed 192.0.2.7") and runner.is_idle, "ssh is closed")
    step_until(runner, lambda: gate.rules == ["192.0.2.8"], "the new door is open")


# --- the rest -----------------------------------------------------------------------------------------


def test_after_stop_nothing_is_started(gate: Gate) -> None:
    """What waits is dropped, what is due stays on the disk, what runs is waited for and noted."""
    runner = gate.runner(gate.door("slow", lease=0, wait=0.3), gate.door(lease=60))
    knock(runner, door="slow")
    step_until(runner, lambda: gate.log, "a command runs")
    knock(runner, OTHER)
    runner.stop()
    knock(runner, OTHER)
    assert gate.said == ["1 knocks that were waiting are not run"]
    step_until(runner, lambda: runner.is_idle, "the command has ended")
    runner.step(0)
    assert runner.is_idle and gate.rules == ["192.0.2.7"]
    (row,) = gate.rows()
    assert (row.door, row.process) == ("slow", 0) and row.due <= boottime()


def test_words_follow_the_configuration() -> None:
    """The fallback rules for IPv6, as ``Commands`` states them."""
    both = Commands(open=("a",), close=("b",), open6=("c",), close6=("d",))
    assert (both.for_source(CLIENT), both.for_source(CLIENT6)) == ((("a",), ("b",)), (("c",), ("d",)))
    assert Commands(close=("b",)).for_source(CLIENT) == ((), ())
