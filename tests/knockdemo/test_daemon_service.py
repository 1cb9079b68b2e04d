"""The demo's daemon as a service: how it starts and ends, and what it lives through."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockdemo.guarding import (
    BYSTANDER,
    CLIENT,
    KNOCK,
    SHORT,
    Daemon,
    command,
    environment,
    is_open,
    knock,
    members,
    network,
)
from tests.netns import DEADLINE, isolated, run, until, without_rights

from knockdemo import daemon
from knockgate.mechanisms.sequence import KnockTracker


def refused(config: Path, **variables: str) -> list[str]:
    """The lines of a daemon that could not start."""
    done = subprocess.run(
        command(config),
        capture_output=True,
        text=True,
        env=environment() | variables,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()


@isolated
def test_says_that_its_interface_is_down_and_listens_when_it_is_up(tmp_path: Path) -> None:
    """The one interface may go down and come back: both are told, and a knock opens afterwards."""
    with network():
        gate = Daemon(tmp_path, f'{SHORT}interface = "near"\n')
        run("ip", "link", "set", "near", "down")
        until(lambda: "near is down" in gate.log(), "down")
        run("ip", "link", "set", "near", "up")
        until(lambda: "near is up again" in gate.log(), "up")

        def knocked() -> bool:  # the cable carries again a while later
            knock(*KNOCK)
            return gate.opened_to(CLIENT) > 0

        until(knocked, "the client is let in")


@isolated
def test_a_restart_resets_the_table(tmp_path: Path) -> None:
    """Whoever was let in before is shut out by a restart, and only by that: the end changes nothing."""
    with network():
        gate = Daemon(tmp_path, "open_window_seconds = 60\n")
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")
        assert gate.end(signal.SIGTERM) == 0
        assert members() == {CLIENT}
        assert is_open(CLIENT)
        gate.start()
        assert members() == set()
        assert not is_open(CLIENT)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@isolated
def test_ends_well_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with status 0 and one line of what strangers did; the port stays shut."""
    with network():
        gate = Daemon(tmp_path)
        knock(7000, 8000, 1, 2)
        gate.knocked_by_another()
        assert gate.end(number) == 0
        last = gate.log().splitlines()[-1]
        assert last == (
            "knock-demo: 7 openings heard (0 more lost for want of room), "
            "2 sequences begun, 1 completed, 1 reset, 0 forgotten"
        )
        assert "Traceback" not in gate.log()
        assert not is_open(CLIENT)


@isolated
def test_a_dead_daemon_leaves_nothing_open(tmp_path: Path) -> None:
    """After kill -9 the open door is still closed by the kernel and the port stays shut."""
    with network():
        gate = Daemon(tmp_path)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")
        assert gate.end(signal.SIGKILL) == -signal.SIGKILL
        assert members() == {CLIENT}
        assert is_open(CLIENT)
        assert not is_open(BYSTANDER)
        until(lambda: members() == set(), "the kernel has closed")
        assert not is_open(CLIENT)
        knock(*KNOCK)
        assert not is_open(CLIENT)


@isolated
def test_puts_its_table_back(tmp_path: Path) -> None:
    """After somebody's flush the next knock brings the guard back, says so, and opens for the knocker."""
    with network():
        gate = Daemon(tmp_path)
        before = run("nft", "list", "table", "inet", "knockdemo")
        run("nft", "flush", "ruleset")
        assert run("nft", "list", "ruleset") == ""
        knock(*KNOCK)
        until(lambda: "tcp/6500 open to 10.0.0.2" in gate.log(), "the client is let in")
        assert members() == {CLIENT}
        assert "tcp/6500 without a guard" in gate.log()
        after = run("nft", "list", "table", "inet", "knockdemo")
        assert [line for line in after.splitlines() if "elements" not in line] == before.splitlines()


@isolated
def test_lives_on_when_nobody_reads_its_log() -> None:
    """A full disk behind standard error costs lines and nothing else."""
    with network():
        command = [sys.executable, "-m", "knockdemo.daemon"]
        with Path("/dev/full").open("w") as full, subprocess.Popen(command, stderr=full) as process:
            until(lambda: "knockdemo" in run("nft", "list", "tables"), "the table is loaded")
            knock(*KNOCK)
            until(lambda: members() == {CLIENT}, "the client is let in")
            process.terminate()
            assert process.wait(10) == 0


@isolated
def test_goes_on_when_the_firewall_refuses(tmp_path: Path) -> None:
    """With another table in the place of its own it says so, and goes on when its own is back."""
    with network():
        gate = Daemon(tmp_path)
        table = run("nft", "list", "table", "inet", "knockdemo")
        run("nft", "delete table inet knockdemo; add table inet knockdemo")
        knock(*KNOCK)
        until(lambda: "10.0.0.2 knocked and could not be let in: nft refused" in gate.log(), "told")
        assert gate.opened_to(CLIENT) == 0
        run("nft", "delete", "table", "inet", "knockdemo")
        run("nft", table)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@isolated
def test_tells_systemd_when_it_is_ready(tmp_path: Path) -> None:
    """READY=1 is sent when the port is shut and knocks are heard, and not before."""
    with network(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(tmp_path / "notify")
        manager.bind(path)
        manager.settimeout(DEADLINE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NOTIFY_SOCKET", path)
            Daemon(tmp_path)
        assert manager.recv(1000).split(b"\n")[0] == b"READY=1"
        assert not is_open(CLIENT)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@isolated
def test_cannot_start_without_what_it_needs(tmp_path: Path) -> None:
    """Wrong file, interface, program or right: a line, a hint, status 2, and no rule is left behind."""
    config = tmp_path / "knockdemo.toml"
    config.write_text('interface = "eth7"', encoding="utf-8")
    assert refused(config) == ["knock-demo: no interface eth7", "  hint: there are: lo"]
    config.write_text("\nservice_port = 0", encoding="utf-8")
    message, hint = refused(config)
    assert message == f"knock-demo: {config}:2: service_port: 0 is not between 1 and 65535"
    assert "6500" in hint
    absent = tmp_path / "absent.toml"
    assert refused(absent)[0] == f"knock-demo: {absent}: no such file"
    config.write_text("", encoding="utf-8")
    assert refused(config, PATH=str(tmp_path)) == [
        "knock-demo: nft is not installed",
        "  hint: apt install nftables",
    ]
    without_rights(lambda: no_right(config))
    assert run("nft", "list", "ruleset") == ""
    Daemon(tmp_path, "")  # control
    assert "table inet knockdemo" in run("nft", "list", "ruleset")


def no_right(config: Path) -> None:
    message, hint = refused(config)
    assert message == "knock-demo: no right to listen to packets"
    assert "CAP_NET_RAW" in hint


class Deaf:
    """Stands for a capture of which only the count matters."""

    def drops(self) -> tuple[int, int]:
        return 10, 3


def test_the_summary_counts_each_opening_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What was lost is not counted as heard."""
    daemon.summarize(KnockTracker([]), Deaf())  # type: ignore[arg-type]
    assert "7 openings heard (3 more lost" in capsys.readouterr().err
