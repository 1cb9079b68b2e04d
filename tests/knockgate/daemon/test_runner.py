"""The runner as the process that it is: its command line, its link, its signals and its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.netns import DEADLINE, until

from knockgate.daemon.errands import OPENS_WITHIN, Answer, Errand, boottime

CLIENT, CLIENT6 = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8" + "00" * 11 + "07")

GATE = """
[gate]
state_directory = "{folder}/state"
[doors.ssh]
lease = "{lease}"
[doors.ssh.sequence]
steps = ["tcp/7000"]
runs_in = "daemon"
[doors.ssh.commands]
open = ["/bin/sh", "-c", "echo open $1 $2 $KNOCKGATE_DOOR >>{folder}/log", "sh", "%IP%", "{mark}"]
close = ["/bin/sh", "-c", "echo close $1 $KNOCKGATE_EVENT >>{folder}/log", "sh", "%IP%"]
"""


PROGRAM = ("-m", "knockgate.daemon.runner")
IMPATIENT = ("-c", "from knockgate.daemon import runner; runner._PATIENCE = 0.5; runner.main()")


class Process:
    """A runner on a file, with the other end of its link."""

    def __init__(
        self, folder: Path, *arguments: str, link: bool = True, program: Sequence[str] = PROGRAM
    ) -> None:
        self.folder = folder
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", *program, *arguments]
        self._said = folder / "said"
        with self._said.open("w") as said, far:
            self._process = subprocess.Popen(
                [*command, "--link", str(far.fileno() if link else 99)],
                pass_fds=[far.fileno()],
                stderr=said,
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self.near.close()

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def said(self) -> str:
        return self._said.read_text()

    def ready(self) -> Self:
        until(lambda: "ready to run" in self.said(), "the runner is ready")
        return self

    def knock(self, door: str = "ssh", source: bytes = CLIENT, *, ago: float = 0.0) -> bool:
        """``ago``: seconds. Whether it was taken."""
        errand = Errand(door, source, date=boottime() - ago)
        self.near.send(errand.encode())
        self.near.settimeout(DEADLINE)
        answer = Answer.decode(self.near.recv(100))
        assert answer.date == errand.date
        return answer.taken

    def until_log(self, *lines: str) -> None:
        until(lambda: self.log == list(lines), f"{lines} in the log")

    def until_says(self, text: str) -> None:
        until(lambda: text in self.said(), text)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        return self._process.wait(DEADLINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def write(folder: Path, lease: str = "1h", mark: str = "first") -> None:
    (folder / "gate.toml").write_text(GATE.format(folder=folder, lease=lease, mark=mark))


def gate(folder: Path) -> Process:
    return Process(folder, "--config", str(folder / "gate.toml"))


def test_runs_what_is_configured_and_ends_when_nobody_can_ask(folder: Path) -> None:
    """Over the link come a door and an address; with the link gone it ends, and leaves what is open open."""
    write(folder, lease="300ms")
    with gate(folder).ready() as process:
        process.knock()
        process.knock(source=CLIENT6)
        until(lambda: len(process.log) == 4, "opened and closed")
        assert sorted(process.log) == [
            "close 192.0.2.7 close",
            "close 2001:db8::7 close",
            "open 192.0.2.7 first ssh",
            "open 2001:db8::7 first ssh",
        ]
        process.near.close()
        assert process.status() == 0
        assert "knockgate-runner: nobody is left to ask; ending\n" in process.said()
    assert (folder / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_open_stays_so_over_a_restart(folder: Path, number: signal.Signals) -> None:
    """After SIGTERM and after SIGKILL; the next one renews it, and closes it when its lease is changed."""
    with gate(folder).ready() as process:
        process.knock()
        process.until_says("command on open ended with status 0")
        process.knock()  # it answers once that is on the disk
        process.signal(number)
        assert process.status() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    with gate(folder) as process:
        process.until_says("1 stand open")
        process.knock()
        process.until_says("is open already, for another 3600 s")
        process.until_log("open 192.0.2.7 first ssh")


def test_a_reload_counts_for_what_is_opened_from_then_on(folder: Path) -> None:
    """A file with a mistake is told, and nothing changes by it."""
    with gate(folder).ready() as process:
        (folder / "gate.toml").write_text("[doors")
        process.signal(signal.SIGHUP)
        process.until_says("the commands stay as they were")
        assert f"{folder}/gate.toml:1: not TOML" in process.said()
        process.knock()
        process.until_log("open 192.0.2.7 first ssh")
        write(folder, lease="300ms", mark="second")
        process.signal(signal.SIGHUP)
        process.until_says("the configuration is read again")
        process.knock(source=CLIENT6)
        process.until_log(
            "open 192.0.2.7 first ssh", "open 2001:db8::7 second ssh", "close 2001:db8::7 close"
        )


def test_nobody_makes_it_run_anything_else(folder: Path) -> None:
    """A door that is not there is told once; what is no errand ends the runner, and harms not the next."""
    with gate(folder).ready() as process:
        for door in ("/bin/sh", "ssh; reboot", "ssh\x1b[2J"):
            assert not process.knock(door)
        assert process.knock()
        process.until_log("open 192.0.2.7 first ssh")
        process.until_says("command on open ended")
        assert process.said().count("there is no such door with commands") == 1
        errand = {"door": "ssh", "source": f"fe80::1%$(touch {folder}/x)", "seconds": None, "date": 1.0}
        process.near.send(json.dumps(errand).encode())
        assert process.status() == 1
        assert (
            "the other end sent a message that is no errand: it names no door or no address" in process.said()
        )
        assert process.said().count("\n") == 4
    assert not (folder / "x").exists()
    with gate(folder) as process:
        process.until_says("1 stand open")


def test_what_was_asked_for_too_long_ago_is_not_run(folder: Path) -> None:
    """Nor does it renew what stands open. What has time left is run, before and after (controls)."""
    with gate(folder).ready() as process:
        assert process.knock(ago=OPENS_WITHIN / 2)
        process.until_says("command on open ended with status 0")
        assert [
            process.knock(source=each, ago=OPENS_WITHIN + 0.1) for each in (CLIENT6, CLIENT6, CLIENT)
        ] == [False] * 3
        assert process.said().count("nothing is run, it was asked for too long ago") == 1
        assert "is open already" not in process.said()
        assert process.knock(source=CLIENT6)
        process.until_log("open 192.0.2.7 first ssh", "open 2001:db8::7 first ssh")


def test_waits_for_what_runs_before_it_ends(folder: Path) -> None:
    """A command that is under way at SIGTERM ends, and is noted as ended; a second SIGTERM is nothing."""
    slow = (
        (folder / "gate.toml").read_text().replace("echo open", f"touch {folder}/begun; sleep 0.4; echo open")
    )
    (folder / "gate.toml").write_text(slow)
    with gate(folder).ready() as process:
        process.knock()
        until((folder / "begun").exists, "the command runs")
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGTERM)
        assert process.status() == 0
        assert process.log == ["open 192.0.2.7 first ssh"]
    with gate(folder) as process:
        process.until_says("1 stand open")
        process.knock()
        process.until_says("is open already")


def test_ends_what_opens_and_does_not_end(folder: Path) -> None:
    """Also where nothing closes it, which nobody would end any more; a runner that comes next waits."""
    text = (
        (folder / "gate.toml").read_text().replace("echo open", f"echo $$ >>{folder}/pids; exec sleep 99 #")
    )
    (folder / "gate.toml").write_text(text.replace("close = ", "# "))
    pids = folder / "pids"
    (folder / "next").mkdir()
    file = str(folder / "gate.toml")
    with Process(folder, "--config", file, program=IMPATIENT).ready() as process:
        process.knock()
        until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the command runs")
        with Process(folder / "next", "--config", file) as following:
            following.until_says("another runner is still there; waiting until it has ended")
            assert Path(f"/proc/{pids.read_text().strip()}").exists()  # control
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            assert not Path(f"/proc/{pids.read_text().strip()}").exists()
            assert "command on open was ended, its time was up" in process.said()
            following.ready()


def test_cannot_start_without_a_line_that_says_why(folder: Path) -> None:
    """No link, no configuration, a state directory that is a file: status 2, and a hint."""
    file = str(folder / "gate.toml")
    with gate(folder).ready():
        other = folder / "other"
        other.mkdir()
        wrong = other / "gate.toml"
        wrong.write_text((folder / "gate.toml").read_text().replace("/state", "/gate.toml"))
        for arguments, link, says in (
            (["--config", file], False, "--link 99: Bad file descriptor"),
            (["--config", f"{folder}/none"], True, f"{folder}/none: no such file"),
            (["--config", str(wrong)], True, "File exists"),
        ):
            with Process(other, *arguments, link=link) as process:
                assert process.status() == 2
                assert says in process.said() and "hint: " in process.said()
                assert "Traceback" not in process.said()
