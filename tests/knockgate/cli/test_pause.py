"""``pause`` and ``resume``, shadows and networks that are let in: what the client sees, and what is said."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, WEB, Host, gate, running, status
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, own_mounts, until

COMMANDS = """[doors.bell]
commands.open = ["/bin/true"]
sequence = { steps = ["tcp/7777"], runs_in = "daemon" }
"""


def states(*words: str) -> dict[str, str]:
    return {door["name"]: door["state"] for door in status(*words)["doors"]}


@isolated
def test_everybody_comes_in_and_then_the_kernel_shuts(tmp_path: Path) -> None:
    """Without a daemon. One door or all; what is said last holds; status tells, and its answer is no."""
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    with_file = ["--config", file]
    assert knockgate("up", file).returncode == 0
    assert host.seen() == host.seen(443) == "filtered" and status(file)["guarded"]
    done = knockgate("pause", "10m", "ssh", *with_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ssh: open for EVERYBODY for 10m, and then shut again\n"
    assert host.seen() == "open" and host.seen(443) == "filtered"
    found = status(file)
    assert not found["guarded"] and found["in_force"] and states(file) == {"ssh": "paused", "web": "shut"}
    (paused,) = found["paused"]
    assert (paused["door"], paused["port"], paused["lasts"]) == ("ssh", "tcp/22", 600)
    assert 500 < paused["left"] <= 600
    told = knockgate("status", file).stdout.splitlines()
    assert told[0].startswith("PAUSED, everybody comes in: ssh, for ")
    assert any(line.startswith("ssh ") and "PAUSED for " in line for line in told)
    assert knockgate("up", file).returncode == 0  # loading again keeps it
    assert host.seen() == "open"
    assert knockgate("pause", "2", *with_file).stdout.startswith("ssh, web: open for EVERYBODY for 2s")
    assert host.seen() == host.seen(443) == "open"
    until(lambda: status(file)["guarded"], "the kernel has shut them")
    assert host.seen() == host.seen(443) == "filtered"


@pytest.mark.parametrize("command", [("pause", "0"), ("pause", "0s"), ("resume",)], ids=" ".join)
@isolated
def test_it_is_ended_before_its_time(tmp_path: Path, command: tuple[str, ...]) -> None:
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    with_file = ["--config", file]
    assert knockgate("up", file).returncode == 0
    done = knockgate(*command, *with_file)
    assert (done.returncode, done.stdout) == (0, "ssh, web: there was no pause\n")
    assert knockgate("pause", "10m", *with_file).returncode == 0
    assert host.seen() == "open"
    session, served = host.session()
    done = knockgate(*command, "ssh", *with_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ssh: not paused any more; connections that are established live on\n"
    assert host.seen() == "filtered" and host.seen(443) == "open"
    assert knockgate(*command, "ssh", *with_file).stdout == "ssh: there was no pause\n"
    session.sendall(b"typed")
    assert served.recv(5) == b"typed"
    assert knockgate(*command, *with_file).returncode == 0
    assert host.seen(443) == "filtered"


@isolated
def test_what_cannot_be_paused(tmp_path: Path) -> None:
    """More than a day, less than a second, no door, a door without ports, no table; nothing changes."""
    host = Host()
    file = gate(tmp_path, SSH, COMMANDS)
    with_file = ["--config", file]
    done = knockgate("pause", "10m", *with_file)
    assert done.returncode == 2 and "the table is not loaded" in done.stderr
    assert knockgate("up", file).returncode == 0
    for words, says in (
        (("24h1s",), "is not between 1s and 1d"),
        (("0.5",), "is not between 1s and 1d"),
        (("-5",), "no such option"),
        (("soon",), "'soon' is no time"),
        (("10m", "shh"), "did you mean ssh?"),
        (("10m", "ssh", "bell"), "door bell guards no port"),
    ):
        done = knockgate("pause", *words, *with_file)
        assert done.returncode == 2 and says in done.stderr, words
        assert "Traceback" not in done.stderr
    assert status(file)["paused"] == [] and host.seen() == "filtered"
    assert knockgate("pause", "24h", *with_file).returncode == 0  # the control; all doors that have ports
    assert [each["door"] for each in status(file)["paused"]] == ["ssh"] and host.seen() == "open"
    gate(tmp_path, WEB)
    assert knockgate("up", file).returncode == 0
    assert status(file)["paused"][0]["door"] is None
    assert "tcp/22 (no door any more)" in knockgate("status", file).stdout
    assert knockgate("resume", *with_file).returncode == 0
    assert status(file)["paused"] == []


@isolated
def test_the_daemon_pauses_for_root_and_its_death_changes_nothing(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    with_file = ["--config", file]
    own_mounts()
    with running(file, directory=tmp_path) as daemon:
        assert knockgate("pause", "1h", "ssh", "web", "ssh", *with_file).returncode == 0
        assert host.seen() == host.seen(443) == "open"
        assert "web: not paused any more" in knockgate("resume", "web", *with_file).stdout
        assert host.seen() == "open" and host.seen(443) == "filtered"
        assert knockgate("up", file).returncode == 0  # a reload
        assert host.seen() == "open"
        assert knockgate("pause", "3", "ssh", *with_file).returncode == 0
        halves = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert len(halves) == 2
        for process in (daemon.pid, *map(int, halves)):
            os.kill(process, signal.SIGKILL)
        daemon.wait(timeout=30)
        for half in halves:
            os.waitpid(int(half), 0)  # they are ours now, who are process 1 here
        assert host.seen() == "open"
        until(lambda: not status(file)["paused"], "the kernel has shut it")
        assert host.seen() == "filtered"


@isolated
def test_a_host_is_moved_behind_a_gate_by_way_of_a_shadow(tmp_path: Path) -> None:
    """Check, up, run and status say that nothing is shut, and who would be kept out; then it is shut."""
    host = Host()
    file = gate(tmp_path, "shadow = true\n", SSH, WEB)
    checked = knockgate("check", file)
    assert checked.returncode == 0
    assert "warning: NOTHING IS SHUT: shadow = true in [gate]" in checked.stderr
    assert knockgate("check", "--strict", file).returncode == 1
    assert json.loads(knockgate("check", "--json", file).stdout)["shadow"] is True
    done = knockgate("up", file)
    assert (done.returncode, done.stdout) == (0, "NOTHING IS SHUT: all doors are in shadow\n")
    assert "knockgate status" in done.stderr
    assert host.seen() == host.seen(443) == host.seen() == "open"
    told = knockgate("status", file)
    lines = told.stdout.splitlines()
    assert told.returncode == 1
    assert lines[0] == "NOTHING IS SHUT: all doors are in shadow; what would be dropped is counted below"
    assert "ssh   tcp/22            IN SHADOW, not shut  kernel sequence" in lines
    assert "ssh        2 connections      0 connections" in lines
    assert any("10.9.9.2" in line and line.endswith("kept out") for line in lines)
    with host.client:
        knocked = knockgate("knock", "10.9.9.1", "7000", "udp/8000", "9000", "--wait", "22")
    assert knocked.returncode == 0
    found = status(file)
    assert found["shadow"]["doors"]["web"] == {"would_drop": 1, "would_pass": 0}
    ssh = found["shadow"]["doors"]["ssh"]
    # Knocking tries the door before and after.
    assert ssh["would_drop"] >= 2 and ssh["would_pass"] >= 1
    assert {(each["source"], each["door"], each["would_drop"]) for each in found["shadow"]["sources"]} == {
        ("10.9.9.2", "ssh", True),
        ("10.9.9.2", "ssh", False),
        ("10.9.9.2", "web", True),
    }
    assert states(file) == {"ssh": "shadow", "web": "shadow"}
    with running(file, directory=tmp_path):
        assert "knockgate: NOTHING IS SHUT: all doors are in shadow\n" in (tmp_path / "log").read_text()
        assert "knockgate-warden: NOTHING IS SHUT: all doors" in (tmp_path / "log").read_text()
        gate(tmp_path, SSH, WEB)
        done = knockgate("up", file)
        assert "shut until somebody knocks" in done.stdout and "NOTHING" not in done.stdout
        assert host.seen(443) == "filtered"
        found = status(file)
        assert found["guarded"] and found["shadow"] is None


@isolated
def test_one_door_in_shadow_and_networks_that_are_always_let_in(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, 'allow = ["10.9.9.0/30", "2001:db8::/32"]\n', SSH, WEB)
    assert knockgate("up", file).returncode == 0
    assert host.seen() == host.seen(443) == "open"
    assert "always open: all doors for 10.9.9.0/30, 2001:db8::/32" in knockgate("status", file).stdout
    assert "all doors: always open for 10.9.9.0/30" in knockgate("check", file).stdout
    assert status(file)["allow"] == {"*": ["10.9.9.0/30", "2001:db8::/32"]} and status(file)["guarded"]
    shadow = WEB + "shadow = true\n"
    gate(tmp_path, SSH.replace("[doors.ssh]\n", '[doors.ssh]\nallow = ["10.9.9.2"]\n'), shadow)
    done = knockgate("up", file)
    assert done.stdout == "NOT SHUT, in shadow: web\n"
    assert host.seen() == host.seen(443) == "open"
    assert states(file) == {"ssh": "shut", "web": "shadow"}
    assert status(file)["allow"] == {"*": [], "ssh": ["10.9.9.2"]}
    assert "always open: ssh for 10.9.9.2" in knockgate("status", file).stdout
    gate(tmp_path, SSH, WEB)
    assert knockgate("up", file).returncode == 0
    assert host.seen() == host.seen(443) == "filtered"  # the control
