"""The lanes are alike: each file offers the same names; and each checks that its knock was really sent."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from knockdemo import config, units
from knockdemo.client import parse_step
from knockdemo.lanes import INSTALLED, NAMES, Lane, Sender, choose
from knockdemo.lanes import d as gate
from knockgate.config import doors
from knockgate.errors import ConfigError, Unavailable


class Recorder:
    """Runs nothing: keeps the commands and answers as told."""

    def __init__(self, status: int = 0, out: str = "", err: str = "") -> None:
        self.commands: list[list[str]] = []
        self.answer = (status, out, err)

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(argv))
        return subprocess.CompletedProcess(argv, *self.answer)

    def sender(self) -> Sender:
        return Sender("192.0.2.2", self.run, lambda *_: 0.25, ["knock-client"], Path("/keys/client.fwknoprc"))


@pytest.mark.parametrize("lane", choose(",".join(NAMES)), ids=NAMES)
def test_lane_offers_what_every_lane_offers(lane: Lane) -> None:
    wanted = {name for name in (*Lane.__annotations__, *vars(Lane)) if not name.startswith("_")}
    assert wanted <= set(vars(lane))
    assert lane.UNITS[-1].endswith(".service")


def test_lanes_are_named_in_any_order_and_case() -> None:
    assert [lane.NAME for lane in choose("d, c, a")] == ["A", "C", "D"]


@pytest.mark.parametrize("names", ["", "E", "A,", "A B"])
def test_unknown_lane_is_named(names: str) -> None:
    with pytest.raises(ConfigError, match="no lane"):
        choose(names)


def test_lane_that_is_not_installed_is_no_lane_of_the_tour() -> None:
    assert [lane.NAME for lane in choose("D")] == ["D"]
    with pytest.raises(ConfigError, match="no lane D") as caught:
        choose("D", INSTALLED)
    assert caught.value.hint == "the lanes are A, B, C"


@pytest.mark.parametrize("name", ["A", "B", "D"])
def test_sequence_is_sent_in_order_and_checked(name: str) -> None:
    (lane,) = choose(name)
    opened = Recorder(0, json.dumps({"check": {"open": True, "ms": 12.5}}))
    assert lane.knock(opened.sender(), "192.0.2.1", 2) == 0.0125
    ports = {
        "A": ["7000", "8000", "9000"],
        "B": ["7100", "7200", "7300"],
        "D": ["7400", "7500/udp", "7600"],
    }[name]
    assert opened.commands[0][:5] == ["knock-client", "192.0.2.1", *ports]
    shut = Recorder(1, json.dumps({"check": {"open": False, "ms": None}}))
    assert lane.knock(shut.sender(), "192.0.2.1", 2) is None


@pytest.mark.parametrize("name", NAMES)
def test_knock_that_was_not_sent_is_an_error(name: str) -> None:
    (lane,) = choose(name)
    failed = Recorder(2, "", "step 1 could not be sent\n")
    with pytest.raises(Unavailable, match="sent nothing: step 1"):
        lane.knock(failed.sender(), "192.0.2.1", 2)


def test_fwknops_keys_never_stand_in_a_command() -> None:
    (lane,) = choose("C")
    recorder = Recorder()
    assert lane.knock(recorder.sender(), "192.0.2.1", 2) == 0.25
    lane.knock_dated(recorder.sender(), "192.0.2.1", -3600)
    lane.knock_dated(recorder.sender(), "192.0.2.1", 3600)
    for command in recorder.commands:
        assert not [word for word in command if "key" in word and word != "/keys/client.fwknoprc"]
        assert "--no-save-args" in command
    assert recorder.commands[1][-2:] == ["--time-offset-minus", "3600s"]
    assert recorder.commands[2][-2:] == ["--time-offset-plus", "3600s"]


def test_last_words() -> None:
    a, b, c, d = choose("A,B,C,D")
    assert a.last_words("anything") is None and d.last_words("anything") is None
    assert b.last_words("openSecret: running command\n") is None
    assert (
        b.last_words("x\niptables v1: host/network `::1' not found\ny")
        == "iptables v1: host/network `::1' not found"
    )
    assert c.last_words("Starting fwknopd\n") is None
    log = "(stanza #1) SPA data time difference is too great (3600 seconds).\nAdded access rule\n"
    assert c.last_words(log) == "SPA data time difference is too great (3600 seconds)."
    assert (
        c.last_words("Replay detected from source IP: 192.0.2.4, Dest")
        == "Replay detected from source IP: 192.0.2.4"
    )


def test_lanes_and_installed_files_agree() -> None:
    """Ports and sequences stand in the lanes and in the installed files; both must say the same."""
    a, b, c, d = choose("A,B,C,D")
    plan = units.fresh_plan("eth0", 9)
    rendered = units.render(plan) | units.render_gate(plan)
    files = {path: file.content.decode() for path, file in rendered.items()}
    assert config.parse(files["/etc/knockdemo/knockdemo.toml"], "toml").service_port == a.PORT
    assert f"--dport {b.PORT} " in files["/etc/knockd.conf"]
    assert "7100,7200,7300" in files["/etc/knockd.conf"]
    assert f"tcp/{c.PORT}\n" in files["/etc/fwknop/access.conf"]
    (door,) = doors.parse(files["/etc/knockdemo/gate.toml"]).doors
    assert [str(port) for port in door.ports] == [f"tcp/{d.PORT}"]
    assert door.lease == 9
    assert door.sequence and door.sequence.runs_in is doors.RunsIn.KERNEL
    steps = [parse_step(f"{port.number}/{port.protocol.name}") for port in door.sequence.steps]
    assert steps == [parse_step(knock) for knock in gate.KNOCKS]


def test_gates_unit_is_accepted_and_loads_its_rules(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("not installed: systemd-analyze")
    files = units.render_gate(units.fresh_plan("eth0", 9))
    unit = files["/etc/systemd/system/knockdemo-gate.service"].content.decode()
    program, option, rules = units.exec_start(unit)
    assert (program, option) == ("/usr/sbin/nft", "-f")
    assert files[rules].content.startswith(b"add table inet knockgate\n")
    path = tmp_path / "knockdemo-gate.service"
    for text, accepted in ((unit, True), (unit.replace(program, "/no/such/nft"), False)):
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ((done.returncode, done.stderr) == (0, "")) is accepted, done.stderr
