"""The whole lab, as a user runs it: what it answers, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.knockdemo.lab.running import (
    IS_ROOT,
    NOBODY,
    Left,
    finish,
    skip_if_forbidden,
    start,
    wait_for_stage,
)

#: (lane, cell) -> what these mechanisms really do. The lab itself compares nothing with this.
EXPECTED: dict[str, dict[str, Any]] = {
    "A": {
        "firewall": "nftables",
        "port": 6500,
        "replay_opens": {"observer": True, "client": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
        "wire": ["tcp/7000", "tcp/8000", "tcp/9000"],
    },
    "B": {
        "firewall": "iptables",
        "port": 6501,
        "replay_opens": {"observer": True, "client": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": False,
        "wire": ["tcp/7100", "tcp/7200", "tcp/7300"],
    },
    "C": {
        "firewall": "iptables",
        "port": 6502,
        "replay_opens": {"observer": False, "client": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": False,
    },
    "D": {
        "firewall": "nftables",
        "port": 6503,
        "replay_opens": {"observer": True, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
        "wire": ["tcp/7400", "udp/7500", "tcp/7600"],
    },
    "E": {
        "firewall": "nftables",
        "port": 6504,
        "replay_opens": {"observer": False, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "wire_names": [],
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
    },
    "F": {
        "firewall": "nftables",
        "port": 6505,
        "replay_opens": {"observer": False, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": True,
    },
}
SWEEP_OPENS = {"A": False, "B": True, "C": False, "D": False, "E": False, "F": False}


def check_ssh(lane: dict[str, Any], window: int) -> None:
    """It gets in by its own knock alone, and stays in when nobody gets in any more."""
    ssh = dict(lane["ssh"])
    assert 0 < ssh.pop("seconds") < window
    assert ssh == {
        "port": 6506,
        "before": "filtered",
        "enters": True,
        "seen_from": "192.0.2.2",
        "meanwhile": {"client": "open", "bystander": "filtered", "ssh_without_a_knock": True},
        "stays": True,
        "after": {"client": "filtered", "bystander": "filtered", "ssh_without_a_knock": False},
    }


def check(report: dict[str, Any], window: int) -> None:
    """A report of all lanes says what these mechanisms do."""
    assert (report["format"], report["window_s"], report["ok"]) == (1, window, True)
    assert [lane["lane"] for lane in report["lanes"]] == ["A", "B", "C", "D", "E", "F"]
    for lane in report["lanes"]:
        name = lane["lane"]
        assert lane["scans"] == {"before": "filtered", "knocked": "open", "expired": "filtered"}
        assert (lane["control"], lane["bystander"]) == ("closed", "filtered")
        assert lane["banner"] == f"You knocked. Welcome to the secret service on port {lane['port']}."
        assert lane["version_learns"] == {"before": False, "knocked": True}
        assert {cell: lane[cell] for cell in EXPECTED[name]} == EXPECTED[name]
        assert lane["sweep_opens"]["ascending"] is SWEEP_OPENS[name]
        assert 0 < lane["knock_to_open_ms"] < 2000
        # knockd and fwknopd count in whole seconds, and a probe is made every twentieth.
        assert window - 1.3 <= lane["open_for_s"] <= window + 1.5
        assert lane["fresh_opens"] is True
        is_packet = name in "CEF"
        assert lane["wire_again"]["same"] is not is_packet
        assert not is_packet or lane["wire_again"]["bytes_in_common"] < 8
        for cell, value in lane.items():
            assert value is not None or lane["why"][cell]
    lanes = {lane["lane"]: lane for lane in report["lanes"]}
    check_ssh(lanes["E"], window)
    assert lanes["A"]["sweep_opens"]["random"] is False
    assert lanes["C"]["sweep_opens"]["random"] is False
    for name, port in (("C", 62201), ("E", 62204), ("F", 62205)):
        (packet,) = lanes[name]["wire"]
        assert packet.startswith(f"udp/{port}, ")
    for name, replayed in (("E", "duplicate: it came before"), ("F", "replayed: it was sent before")):
        why = lanes[name]["why"]
        assert why["replay_opens"].startswith(replayed)
        assert why["stale_opens"].startswith("stale: it is too old; its clock is ")
        assert why["future_opens"].startswith("ahead: it is dated ahead of us; its clock is ")
    assert lanes["F"]["why"]["ipv6"].endswith("it is the client that cannot: the gate takes IPv6")
    assert lanes["D"]["why"]["closes_without_daemon"].startswith("no process of this lane runs")
    assert report["sweep"]["ascending_per_s"] > 100


@pytest.mark.long
def test_lab_as_root_and_as_an_ordinary_user_at_once(scratch: Path) -> None:
    """Two labs side by side answer alike and leave nothing: no process, mount, namespace, file or rule."""
    users = [None, NOBODY] if IS_ROOT else [None, None]
    with Left(scratch / "home") as left:
        labs = [start(scratch, "--window", "4", "--json", "-", user=user) for user in users]
        for lab in labs:
            wait_for_stage(lab, "scanning before the knock")
            left.watch(lab)
        results = [finish(lab) for lab in labs]
    assert len(left.namespaces) > len(users) * 3
    for status, out, err in results:
        skip_if_forbidden(status, err)
        assert status == 0, err
        check(json.loads(out), 4)


@pytest.mark.long
@pytest.mark.parametrize("user", [None, NOBODY])
def test_lab_ten_times_in_a_row(scratch: Path, user: int | None) -> None:
    if user and not IS_ROOT:
        pytest.skip("needs root to become another user")
    with Left(scratch / "home"):
        for _ in range(10):
            status, out, err = finish(start(scratch, "--window", "4", "--json", "-", user=user))
            assert status == 0, err
            check(json.loads(out), 4)


def test_lab_for_people(scratch: Path) -> None:
    """The table has a row a question and a column a lane, in a file the JSON, on stderr the progress.

    The inside may be root: a ``json.py`` that lies about in the current folder is not its business.
    """
    (scratch / "json.py").write_text("raise SystemExit('imported from the current folder')\n")
    file = scratch / "home" / "out.json"
    words = ["lab", "--window", "3", "--lanes", "a", "--json", str(file)]
    done = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "knockdemo"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    skip_if_forbidden(done.returncode, done.stderr)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["ok"] is True
    assert [lane["lane"] for lane in report["lanes"]] == ["A"]
    for words_of_it in (
        "nftables, tcp/6500",
        "scan before",
        "daemon killed while open",
        "What you trade",
        "tcp/7000",
    ):
        assert words_of_it in done.stdout
    assert "a sequence carries no time" in " ".join(done.stdout.split())
    assert "waiting for door A to close by itself" in done.stderr


@pytest.mark.parametrize(
    ("how", "lanes"), [(signal.SIGINT, "B"), (signal.SIGTERM, "B,E"), (signal.SIGKILL, "A,B,C,D,E,F")]
)
def test_interrupted_lab_leaves_nothing(scratch: Path, how: signal.Signals, lanes: str) -> None:
    """However its outside ends, the inside ends with it."""
    with Left(scratch / "home") as left:
        lab = start(scratch, "--window", "15", "--lanes", lanes)
        wait_for_stage(lab, "knocking at door B")
        left.watch(lab)
        assert len(left.namespaces) > 3
        if how == signal.SIGINT:
            os.killpg(lab.pid, how)
        else:
            lab.send_signal(how)
        status, _, err = finish(lab, 30)
        assert status == (130 if how == signal.SIGINT else -how)
        assert "Traceback" not in err
