"""What a listener says of doors whose commands a runner does not take, with both as they are run."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from tests.knockgate.daemon.running import CLIENT, OTHER, Gate, knock, network
from tests.netns import isolated, own_mounts, until

from knockgate.config.doors import Commands, Door
from knockgate.daemon.asked import Asked
from knockgate.daemon.errands import Answer, Errand
from knockgate.daemon.link import Surprise
from knockgate.daemon.log import Seldom
from knockgate.daemon.ward import Gone

DOORS = """
[doors.job]
lease = "1s"
sequence = {{ steps = ["tcp/8000"], runs_in = "daemon" }}
commands = {{ open = ["/bin/sh", "-c", "echo job %IP% >>{ran}"] }}
[doors.web]
ports = ["tcp/80"]
lease = "1s"
sequence = {{ steps = ["tcp/8100"], runs_in = "daemon" }}
commands = {{ open = ["/bin/sh", "-c", "echo web %IP% >>{ran}"] }}
"""
JOB = Door(name="job", ports=(), lease=1.0, commands=Commands(open=("true",)))


@isolated
def test_what_a_runner_does_not_take_in_time_is_not_run_and_not_told_as_open(tmp_path: Path) -> None:
    """It stands still, as one that cannot start behind its socket; later knocks are run (control)."""
    own_mounts()
    ran = tmp_path / "ran"
    gate = Gate(tmp_path, DOORS.format(ran=ran))
    with network():
        gate.start()
        runner = gate.halves()["runner"]
        os.kill(runner, signal.SIGSTOP)
        knock("tcp/8000", "tcp/8100")
        gate.until_said(f"open web for {CLIENT} (daemon sequence)")  # its port is
        gate.until_said(f"job is not opened for {CLIENT}: the runner does not answer")
        gate.until_said(f"commands of web are not run for {CLIENT}: the runner does not answer")
        assert gate.status()["doors"]["job"]["opened"] == 0
        os.kill(runner, signal.SIGCONT)
        gate.until_said("nothing is run, it was asked for too long ago")
        knock("tcp/8000", "tcp/8100", source=OTHER)
        gate.until_said(f"open job for {OTHER} (daemon sequence)")
        until(lambda: ran.exists() and len(ran.read_text().splitlines()) == 2, "both are run")
        assert sorted(ran.read_text().splitlines()) == [f"job {OTHER}", f"web {OTHER}"]
        assert "open job for " + CLIENT not in gate.log()
        assert gate.status()["doors"]["job"]["opened"] == 1
        assert gate.end() == 0


def test_each_answer_is_for_its_errand(capfd: pytest.CaptureFixture[str]) -> None:
    """In whatever order they come; what nobody asked for is nothing, what is no answer ends the listener."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        near.settimeout(0)
        asked, opened = Asked(near, Seldom("test")), list[str]()
        assert asked.next_wakeup() is None
        for name in ("first", "second", "third"):
            asked.ask(JOB, bytes(4), None, lambda each=name: opened.append(each))  # type: ignore[misc]
        first, second, third = (Errand.decode(far.recv(4096)).date for _ in range(3))
        for date, taken in ((0.0, True), (third, True), (second, False), (first, True), (first, True)):
            far.send(Answer(date, taken).encode())
            asked.hear()
        asked.hear()  # nothing is there
        assert opened == ["third", "first"] and asked.next_wakeup() is None
        assert capfd.readouterr().err.count("job is not opened for 0.0.0.0: the runner refused") == 1
        far.send(b"?")
        with pytest.raises(Surprise):
            asked.hear()
        far.close()
        with pytest.raises(Gone):
            asked.hear()
        with pytest.raises(Gone):
            asked.ask(JOB, bytes(4), None, None)


def test_a_runner_that_takes_nothing_has_too_much_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        near.settimeout(0)
        asked = Asked(near, Seldom("test"))
        for _ in range(5000):
            asked.ask(JOB, bytes(4), None, None)
        assert "job is not opened for 0.0.0.0: the runner has too much to do" in capfd.readouterr().err
