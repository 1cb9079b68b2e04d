from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.daemon.gates import CLIENT, CLIENT6, Gate, knock, step_until
from tests.netns import until

from knockgate.daemon import commands
from knockgate.daemon.command import is_running
from knockgate.daemon.commands import escaped
from knockgate.model import address_text

# The runner has no threads; the process of the tests may have some, and its children run nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.end()


# --- what a command is given --------------------------------------------------------------------------

#: Writes all that it is given, as lines that Python reads back.
SHOW = r"""
import os, sys
with open(sys.argv[1], "w") as file:
    print(ascii([sys.argv[2:], dict(os.environ), sys.stdin.read(), os.getcwd(), os.getsid(0) == os.getpid(),
        sorted(os.listdir("/proc/self/fd"))]), file=file)
"""


@pytest.mark.parametrize("source", [CLIENT, CLIENT6, CLIENT6[:8]])
def test_a_command_gets_its_words_a_small_environment_and_nothing_else(gate: Gate, source: bytes) -> None:
    """The address stands in each word; there is no shell to read them, and no descriptor of ours."""
    shown = gate.folder / "shown"
    words = ("a b", "$(touch x); `id` %IP%", "%IP%/%IP%", "%ip%", "", "*", "-rf", "\n")
    python = ("/usr/bin/python3", "-I", "-S", "-c", SHOW, str(shown))
    with (gate.folder / "open").open("w") as ours:
        assert ours.fileno() > 2
        runner = gate.runner(gate.door("a;b $(id)", shell=False, open=(*python, *words), close=()))
        knock(runner, source, "a;b $(id)")
        step_until(runner, lambda: gate.said, "the command has ended")
    address = address_text(source)
    arguments, environment, read, folder, leads, descriptors = eval(shown.read_text())  # noqa: S307 - our own
    assert arguments == [word.replace("%IP%", address) for word in words]
    environment.pop("LC_CTYPE", None)  # Python's own doing (PEP 538)
    assert environment == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C",
        "KNOCKGATE_DOOR": "a;b $(id)",
        "KNOCKGATE_SOURCE": address,
        "KNOCKGATE_EVENT": "open",
    }
    assert (read, folder, leads) == ("", "/", True)
    assert descriptors == ["0", "1", "2", "3", "4"]  # 3 and 4: its own file, and the folder that it lists


def test_a_shell_line_goes_through_a_shell(gate: Gate) -> None:
    """As with knockd: the address is put into the text; a line that begins with a dash is no option."""
    line = f"-x 2>/dev/null; echo $((1+1)) %IP% $KNOCKGATE_EVENT >{gate.folder}/log"
    runner = gate.runner(gate.door(open=(line,), close=()))
    knock(runner)
    step_until(runner, lambda: gate.log, "the line has run")
    assert gate.log == ["2 192.0.2.7 open"]


def test_a_command_ignores_no_signal(gate: Gate) -> None:
    """Python ignores SIGPIPE, so that a pipeline in a command would not end with its last member."""
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # control
    runner = gate.runner(gate.door(open=(f"grep SigIgn /proc/self/status >{gate.folder}/log",), close=()))
    knock(runner)
    step_until(runner, lambda: gate.log, "the command has run")
    (line,) = gate.log
    ignored = int(line.split()[1], 16)  # others may have been so in whoever started the tests
    assert not ignored & sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


def test_the_commands_for_ipv6_are_its_own_or_those_for_ipv4(gate: Gate) -> None:
    """Without them the others are run; an empty one runs nothing, and then there is nothing to close."""
    ways: dict[str, dict[str, Any]] = {
        "same": {},
        "own": {
            "open6": (f"echo open6 %IP% >>{gate.folder}/log",),
            "close6": (f"echo closed6 %IP% >>{gate.folder}/log",),
        },
        "none": {"open6": ()},
        "open": {"close6": ()},
    }
    runner = gate.runner(*(gate.door(name, lease=0, **way) for name, way in ways.items()))
    address, network = address_text(CLIENT6), address_text(CLIENT6[:8])
    usual = [f"open {address}", f"opened {address}", f"closed {address}"]
    own = [f"open6 {address}", f"closed6 {address}"]
    for name, expected in (("none", []), ("same", usual), ("own", own), ("open", usual[:2])):
        (gate.folder / "log").write_text("")
        knock(runner, CLIENT6, name)
        runner.step(0)
        step_until(runner, lambda: runner.is_idle and not len(runner), name)
        assert gate.log == expected
    (gate.folder / "log").write_text("")
    knock(runner, CLIENT6[:8], "own")  # a network of IPv6 is of IPv6
    runner.step(0)
    step_until(runner, lambda: runner.is_idle and not len(runner), "a network")
    assert gate.log == [f"open6 {network}", f"closed6 {network}"]
    knock(runner, CLIENT, "none")  # control: an IPv4 source gets the usual
    step_until(runner, lambda: "closed 192.0.2.7" in gate.log, "the control")


@pytest.mark.parametrize(
    "name", ["a\nb", "%IP%", "a b", "'", '"; DROP TABLE pending; --', "\x1b[2J", "ü", "../x"]
)
def test_hostile_names_of_doors_are_only_names(gate: Gate, name: str) -> None:
    """Whatever a door is called, it opens and closes, and its name is text in log, store and environment."""
    door = gate.door(name, lease=0.05)
    assert door.commands
    close = f'echo "$KNOCKGATE_DOOR" >{gate.folder}/name; {door.commands.close[0]}'
    runner = gate.runner(gate.door(name, lease=0.05, close=(close,)))
    knock(runner, door=name)
    step_until(runner, lambda: gate.rules, "it is open")
    assert [row.door for row in gate.rows()] == [name]
    step_until(runner, lambda: not len(runner), "it is closed")
    assert (gate.folder / "name").read_text() == f"{name}\n"
    assert gate.rows() == []
    assert all(line.isprintable() for line in gate.said)
    assert all(f"door {escaped(name)} for 192.0.2.7" in line for line in gate.said)


def test_a_door_with_a_zero_byte_in_its_name_opens_nothing(gate: Gate) -> None:
    """No command can be given that name; it is said, and the next door works (control)."""
    runner = gate.runner(gate.door("a\0b"), gate.door())
    knock(runner, door="a\0b")
    knock(runner)
    step_until(runner, lambda: gate.rules, "the other door is open")
    assert any(r"door a\x00b for" in line and "status 127" in line for line in gate.said)


# --- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "how", "says"),
    [
        (("/nonexistent/x",), "ended with status 127", "/nonexistent/x: No such file or directory"),
        (("/etc/passwd",), "ended with status 127", "/etc/passwd: Permission denied"),
        (("/bin/sh", "-c", "kill -9 $$"), "was ended by signal 9", ""),
        (("/bin/sh", "-c", "x" * (1 << 18)), "ended with status 127", "/bin/sh: Argument list too long"),
    ],
)
def test_how_a_command_fails_is_told(gate: Gate, command: tuple[str, ...], how: str, says: str) -> None:
    runner = gate.runner(gate.door(shell=False, open=command, close=()))
    knock(runner)
    step_until(runner, lambda: gate.said, "it is told")
    (line,) = gate.said
    assert how in line and line.endswith(f"and said: {says}".strip())


def alive(pids: Path) -> list[int]:
    numbers = [int(number) for number in pids.read_text().split()] if pids.exists() else []
    return [number for number in numbers if Path(f"/proc/{number}").exists() and not zombie(number)]


def zombie(number: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return True


def test_a_command_over_its_time_is_ended_with_its_children(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ignores SIGTERM, with a child that does too; closing runs afterwards, within its own time."""
    monkeypatch.setattr("knockgate.daemon.command._GRACE", 0.2)
    pids = gate.folder / "pids"
    stubborn = (
        f"trap '' TERM; (echo $$ >>{pids}; sh -c 'echo $$ >>{pids}; sleep 60' ) & sleep 60 & wait; sleep 60"
    )
    runner = gate.runner(gate.door(lease=0, open=(stubborn,), time_limit=0.2))
    (gate.folder / "rules").write_text("192.0.2.7\n")
    start = time.monotonic()
    knock(runner)
    step_until(runner, lambda: len(alive(pids)) == 2, "it runs, with a child")
    step_until(runner, lambda: not len(runner), "it is closed")
    assert 0.35 < time.monotonic() - start < 10
    assert "command on open was ended, its time was up after 0.4" in gate.said[0]
    assert gate.rules == []
    until(lambda: not alive(pids), "nobody of its session is left")


def test_a_command_that_ends_on_sigterm_is_not_waited_for(gate: Gate) -> None:
    """The first signal is a polite one; its children go with it, even those that ignore it."""
    pids = gate.folder / "pids"
    runner = gate.runner(
        gate.door(
            close=(), open=(f"sh -c 'trap \"\" TERM; echo $$ >{pids}; sleep 60' & wait",), time_limit=0.3
        )
    )
    start = time.monotonic()
    knock(runner)
    step_until(runner, lambda: gate.said, "it has ended")
    assert time.monotonic() - start < 1.8  # less than the time until SIGKILL
    assert "its time was up" in gate.said[0]
    until(lambda: pids.exists() and not alive(pids), "its child is gone")


def test_what_a_command_leaves_in_the_background_lives_on(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may speak, too: nobody listens, but the pipe is not closed to it. Of so many; then the oldest is."""
    monkeypatch.setattr(commands, "_LEFT_BEHIND", 2)
    script = (
        f"(echo $$; while [ ! -e {gate.folder}/go ]; do sleep 0.02; done; echo on >>{gate.folder}/log; "
        f"echo spoke; echo %IP% >>{gate.folder}/rules) & echo started >>{gate.folder}/log"
    )
    runner = gate.runner(gate.door(open=(script,), close=()))
    for _ in range(3):
        knock(runner)
        step_until(runner, lambda: runner.is_idle and gate.said, "the command has ended")
    (gate.folder / "go").touch()
    step_until(runner, lambda: len(gate.rules) >= 2 and gate.log.count("on") == 3, "they have spoken")
    step_until(runner, lambda: not runner._left_behind, "nothing is read any more")
    assert len(gate.said) == 3


def test_output_never_makes_a_command_stand_still(gate: Gate) -> None:
    """Two megabytes are read as fast as they come, and 2 KiB of them are kept."""
    runner = gate.runner(
        gate.door(open=("head -c 2000000 /dev/zero | tr '\\0' x; exit 1",), close=(), time_limit=20)
    )
    knock(runner)
    step_until(runner, lambda: gate.said, "it has ended")
    assert "ended with status 1" in gate.said[0]
    assert 2000 < len(gate.said[0]) < 2200


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    """Not one that has the number of another, and not one that has ended, be it reaped or not."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        assert is_running(process.pid, started)
        assert not is_running(process.pid, started - 1)
        process.kill()
        until(lambda: not is_running(process.pid, started), "it has ended, and waits to be reaped")
        assert Path(f"/proc/{process.pid}").exists()
    assert not is_running(process.pid, started)


def test_commands_say_what_they_like_on_one_line() -> None:
    assert escaped(" a\nb\x1b[2J\ud800ü\u202e\t ") == r"a\nb\x1b[2J\ud800ü\u202e"
