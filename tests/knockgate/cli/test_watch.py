"""``status --watch``, on a terminal and on a pipe, of gates that run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, WEB, Host, gate, running
from tests.knockgate.cli.process import command, environment, knockgate
from tests.knockgate.cli.terminals import Terminal, at_terminal
from tests.knockgate.daemon.sealed_stage import device, now, stage
from tests.netns import DEADLINE, isolated, own_mounts, until

#: Seconds that no test waits for: what happens, happens at once.
NEVER = "3600"


def loaded(folder: Path, *doors: str) -> str:
    file = gate(folder, *(doors or (SSH, WEB)))
    assert knockgate("up", file).returncode == 0
    return file


def opens(file: str, source: str = "10.9.9.7", time: str = "1h") -> None:
    done = knockgate("open", "ssh", source, "--for", time, "--config", file)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def watching(file: str, seconds: str = "0.1", *, rows: int = 40, columns: int = 100) -> Iterator[Terminal]:
    words = command("status", file, "--watch", seconds)
    with at_terminal(*words, rows=rows, columns=columns) as terminal:
        terminal.until_shown("knockgate status, ", "q ends it")
        yield terminal


def left(terminal: Terminal) -> list[int]:
    """Of the one lease, in seconds, as frame after frame has it."""
    found = re.findall(r"10\.9\.9\.2  ssh   tcp/22  (\d+)s", "\n".join(map("\n".join, terminal.frames)))
    terminal.read()
    return [int(each) for each in found]


# --- on a terminal ------------------------------------------------------------------------------------


@isolated
def test_leases_count_down_and_what_is_new_is_marked(tmp_path: Path) -> None:
    host = Host()
    file = loaded(tmp_path)
    with watching(file) as terminal:
        first = terminal.until_shown("every 0.1 s; q ends it", "guarded by the kernel alone", "ssh   tcp/22")
        assert "NEW" not in first and terminal.modes == {"other screen"}
        with host.client:
            done = knockgate("knock", "10.9.9.1", "7000", "udp/8000", "9000", "--wait", "22")
        assert done.returncode == 0, done.stdout
        shown = terminal.until_shown("OPENED ssh for 10.9.9.2, ", "15s  kernel sequence, NEW")
        assert re.search(
            r"^NEW \d\d:\d\d:\d\d  OPENED ssh for 10.9.9.2, 1[345]s \(kernel sequence\)$", shown, re.MULTILINE
        )
        assert "open for 1 source" in shown
        until(lambda: len(set(left(terminal))) >= 3, "it counts down")
        assert left(terminal) == sorted(left(terminal), reverse=True)
        assert knockgate("close", "ssh", "--all", "--config", file).returncode == 0
        terminal.until_shown("ended: ssh for 10.9.9.2 (kernel sequence)", "tcp/22            shut")
        terminal.types("q")
        assert terminal.until_ended() == 0
        assert terminal.is_as_before()
        assert all(len(frame) == 40 for frame in terminal.frames)


@pytest.mark.long
@isolated
def test_a_daemon_that_ends_and_begins_is_told_of(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    with contextlib.ExitStack() as daemon:
        daemon.enter_context(running(file, directory=tmp_path))
        with watching(file) as terminal:
            assert "no daemon runs" not in terminal.screen()
            daemon.close()
            terminal.until_shown("the daemon does not answer any more", "no daemon runs")
            with running(file, directory=tmp_path):
                terminal.until_shown("  the daemon answers")
                assert "no daemon runs" not in terminal.until_shown("guarded")
                knockgate("down", file)
            assert knockgate("down", file).returncode == 0
            terminal.until_shown("NOT LOADED any more", "ssh   tcp/22  UNGUARDED")
            terminal.types("Q")
            assert terminal.until_ended() == 0


@isolated
def test_a_file_that_is_changed_is_read_again(tmp_path: Path) -> None:
    file = loaded(tmp_path, SSH)
    with watching(file) as terminal:
        gate(tmp_path, "[doors.ssh]\nports = 22\n")
        terminal.until_shown("as it was is shown, now: ", "doors.ssh.ports", "ssh   tcp/22  shut")
        gate(tmp_path, SSH, WEB)
        terminal.until_shown("can be read again", "ANOTHER configuration is in force", "web is a new door")
        assert knockgate("up", file).returncode == 0
        assert "now: " not in terminal.until_shown("this configuration is in force").splitlines()[1]


@isolated
def test_it_follows_the_size_of_the_window(tmp_path: Path) -> None:
    """Though it will not look again for an hour."""
    file = loaded(tmp_path)
    for number in range(30):
        opens(file, f"10.9.9.{number + 1}")
    with watching(file, NEVER) as terminal:
        assert "10.9.9.30" in terminal.screen() and "no room" not in terminal.screen()
        terminal.resize(12, 60)
        shown = terminal.until_shown("... and 28 more lines")
        assert len(shown.splitlines()) == 12 and max(map(len, shown.splitlines())) <= 60
        terminal.resize(50, 100)
        assert "no room" not in terminal.until_shown("10.9.9.30")
        terminal.resize(1, 10)
        until(lambda: len(terminal.screen().splitlines()) == 1, "one line")


@isolated
def test_a_serial_console_does_not_know_its_size(tmp_path: Path) -> None:
    """And says that it is 0 by 0."""
    with watching(loaded(tmp_path), NEVER) as terminal:
        before = terminal.screen()
        terminal.resize(1, 10)
        until(lambda: len(terminal.screen().splitlines()) == 1, "one line")
        terminal.resize(0, 0)
        terminal.rows, terminal.columns = 24, 80  # as it is drawn all the same
        until(lambda: terminal.screen().rstrip() == before.rstrip(), "all of it")


@isolated
def test_frames_are_whole_and_only_what_is_new_is_drawn(tmp_path: Path) -> None:
    """No flicker: nothing is cleared before it is written over, and each frame is one write."""
    file = loaded(tmp_path)
    opens(file)
    with watching(file) as terminal:
        until(lambda: terminal.screen() and len(terminal.frames) >= 5, "frames")
        assert all("10.9.9.7" in "\n".join(frame) for frame in terminal.frames)
        drawn = terminal.raw[terminal.raw.index("\x1b[?2026h") :]
        assert "\x1b[2J" not in terminal.raw
        for frame in drawn.split("\x1b[?2026h")[1:-1]:
            assert frame.startswith("\x1b[H") and frame.endswith("\x1b[J\x1b[?2026l")


ENDINGS = {"q": ("q", 0), "ctrl-c": ("\x03", 0), "term": (signal.SIGTERM, -15), "hup": (signal.SIGHUP, -1)}


@pytest.mark.parametrize(("how", "status"), ENDINGS.values(), ids=list(ENDINGS))
@isolated
def test_the_terminal_is_as_it_was_found(how: str | signal.Signals, status: int, tmp_path: Path) -> None:
    with watching(loaded(tmp_path), NEVER) as terminal:
        assert not terminal.is_as_before()
        if isinstance(how, str):
            terminal.types(how)
        else:
            terminal.process.send_signal(how)
        assert terminal.until_ended() == status
        assert terminal.is_as_before()
        assert "Traceback" not in terminal.raw


@isolated
def test_the_terminal_is_as_it_was_found_after_a_bug(tmp_path: Path) -> None:
    code = (
        "import sys; from knockgate.cli import main, watch\n"
        "def broken(*_): raise RuntimeError('a bug')\n"
        "watch._Eye.again = broken\nsys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "status", loaded(tmp_path), "--watch", "0.1"]
    with at_terminal(*words) as terminal:
        assert terminal.until_ended() == 1
        assert terminal.is_as_before()
        assert "RuntimeError: a bug" in terminal.raw.partition("\x1b[?1049l")[2]


@isolated
def test_it_can_be_stopped_and_go_on(tmp_path: Path) -> None:
    shell = ["bash", "-c", 'set -m; "$@"; echo STOPPED; read; fg; echo ENDED $?', "bash"]
    with at_terminal(*shell, *command("status", loaded(tmp_path), "--watch")) as terminal:
        terminal.until_shown("q ends it")
        terminal.types("\x1a")
        until(lambda: terminal.screen() and "STOPPED" in terminal.raw, "it is stopped")
        assert terminal.is_as_before()
        before = len(terminal.frames)
        terminal.types("\n")
        until(lambda: terminal.screen() and len(terminal.frames) > before, "it goes on")
        assert terminal.modes == {"other screen"}
        terminal.types("q")
        assert terminal.until_ended() == 0
        assert terminal.is_as_before() and terminal.raw.endswith("ENDED 0\r\n")


@isolated
def test_between_two_looks_it_sleeps(tmp_path: Path) -> None:
    """Nobody wakes it, as long as another process takes to begin and end; typing does: the control."""
    own_mounts()
    with watching(loaded(tmp_path), NEVER) as terminal:
        status = Path(f"/proc/{terminal.process.pid}/status")

        def woken() -> int:
            return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))

        until(lambda: "S (sleeping)" in status.read_text(), "it sleeps")
        before = woken()
        assert knockgate("--version").returncode == 0
        subprocess.run(command("--version"), env=environment(), check=True, capture_output=True)
        assert woken() - before <= 2
        for _ in range(5):
            seen = woken()
            terminal.types("x")
            until(lambda seen=seen: woken() > seen, "it wakes up")  # type: ignore[misc]


# --- on a pipe ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def piped(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """What it says goes to a file, which is no terminal."""
    said = Path(words[0]).parent / "said"
    with said.open("wb") as stream:
        process = subprocess.Popen(
            command("status", *words),
            stdout=stream,
            stderr=stream,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process, said
    finally:
        process.kill()
        process.wait(DEADLINE)


@isolated
def test_on_a_pipe_there_is_a_block_for_each_change(tmp_path: Path) -> None:
    file = loaded(tmp_path)
    with piped(file, "--watch=0.1") as (process, said):

        def until_blocks(number: int) -> list[str]:
            until(lambda: said.read_text().count("\n\n") >= number, f"{number} blocks")
            return re.split(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", said.read_text())[1:]

        assert "  guarded by the kernel alone; no daemon runs\n" in until_blocks(2)[0]  # it has an empty line
        opens(file)
        until(lambda: "OPENED ssh for" in said.read_text(), "it is told")
        opens(file, time="2h")
        until(lambda: "again" in said.read_text(), "it is told")
        assert knockgate("close", "ssh", "10.9.9.7", "--config", file).returncode == 0
        until(lambda: "ended" in said.read_text(), "it is told")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        _, *blocks = re.split(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", said.read_text())
        assert blocks[1:] == [
            "  OPENED ssh for 10.9.9.7, 1h (hand)\n\n",
            "  OPENED ssh again, for 10.9.9.7, 2h (hand)\n\n",
            "  ended: ssh for 10.9.9.7 (hand)\n\n",
        ]
        assert "\x1b" not in said.read_text()


@isolated
def test_refusals_are_changes_too(tmp_path: Path) -> None:
    """Of who has a key, and of strangers; for programs there is a line for each look."""
    with stage(tmp_path) as site:
        with piped(str(site.gate.file), "--watch=0.1", "--json") as (process, said):

            def objects() -> list[dict[str, object]]:
                return [
                    json.loads(line)
                    for line in said.read_text().splitlines(keepends=True)
                    if line[-1] == "\n"
                ]

            def changed() -> list[str]:
                return [change for each in objects() for change in each["changes"]]  # type: ignore[attr-defined]

            until(objects, "it began")
            site.knock(issued=now() - 2 * 3600 * 10**9, device=device())
            until(lambda: "REFUSED a sealed knock of somebody who has a key: stale" in changed(), "refused")
            site.send(os.urandom(1333))
            until(lambda: "strangers sent sealed knocks: 1 not-ours" in changed(), "a stranger")
            site.knock()
            until(lambda: any(each.startswith("OPENED ssh for") for each in changed()), "opened")
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == -signal.SIGTERM
            found = objects()
        assert len(found) > len(changed()) == 3  # a line a look, changed or not
        single = json.loads(knockgate("status", "--json", str(site.gate.file)).stdout)
        assert all(each.keys() == {*single, "time", "changes", "error"} for each in found)
        times = [each["time"] for each in found]
        assert times == sorted(times) and abs(times[-1] - time.clock_gettime(time.CLOCK_REALTIME)) < 60  # type: ignore[type-var, operator]


@isolated
def test_it_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    """Though it has nothing to say for an hour."""
    file = loaded(tmp_path)
    words = command("status", file, "--watch", NEVER)
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout and process.stderr
        assert b"UTC" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 141
        assert process.stderr.read() == b""


@isolated
def test_it_is_not_begun_where_nothing_can_be_seen(tmp_path: Path) -> None:
    file = gate(tmp_path, "[doors.ssh]\nports = 22\n")
    with at_terminal(*command("status", file, "--watch")) as terminal:
        assert terminal.until_ended() == 2
        assert "\x1b" not in terminal.raw and "doors.ssh.ports" in terminal.raw
    done = knockgate("status", "--watch", file)
    assert done.returncode == 2
    assert "--watch" in done.stderr and "a FILE goes before --watch, or after --config" in done.stderr
    assert "is not between 100ms and 1d" in knockgate("status", file, "--watch", "0").stderr
