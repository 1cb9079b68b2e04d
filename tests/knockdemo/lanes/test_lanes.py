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
from knockdemo.lanes import c as fwknop
from knockdemo.lanes import d as gate
from knockdemo.lanes import e as sealed
from knockdemo.lanes import f as packets
from knockgate.config import doors, keys
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
        keys = Path("/keys/client.fwknoprc")
        return Sender(
            "192.0.2.2", self.run, lambda *_: 0.25, ["knock-client"], keys, lambda by: ["gate", str(by)]
        )


@pytest.mark.parametrize("lane", choose(",".join(NAMES)), ids=NAMES)
def test_lane_offers_what_every_lane_offers(lane: Lane) -> None:
    wanted = {name for name in (*Lane.__annotations__, *vars(Lane)) if not name.startswith("_")}
    assert wanted <= set(vars(lane))
    assert lane.UNITS[-1].endswith(".service")


def test_lanes_are_named_in_any_order_and_case() -> None:
    assert [lane.NAME for lane in choose("d, c, a")] == ["A", "C", "D"]


@pytest.mark.parametrize("names", ["", "G", "A,", "A B", "F.D"])
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


def test_sealed_knock_takes_the_profile_of_the_hosts_address() -> None:
    (lane,) = choose("E")
    client = Recorder(0, json.dumps({"wait": {"seconds": 0.004}}))
    assert lane.knock(client.sender(), "192.0.2.1", 2) == 0.004
    lane.knock(client.sender(), "2001:db8::1", 2)
    lane.knock_dated(client.sender(), "192.0.2.1", -3600)
    assert [command[:4] for command in client.commands] == [
        ["gate", "0", "knock", "lane-e"],
        ["gate", "0", "knock", "lane-e-ipv6"],
        ["gate", "-3600", "knock", "lane-e"],
    ]
    shut = Recorder(1, json.dumps({"wait": {"seconds": None}}))
    assert lane.knock(shut.sender(), "192.0.2.1", 2) is None
    with pytest.raises(Unavailable, match="knockgate sent nothing: Traceback"):
        lane.knock(Recorder(1, "", "Traceback (most recent call last):\n").sender(), "192.0.2.1", 2)


def test_card_is_kept_for_every_profile_that_is_knocked_with() -> None:
    (lane,) = choose("E")
    client = Recorder()
    lane.meet(client.sender(), ["192.0.2.1", "2001:db8::1"])
    assert [command[:6] for command in client.commands] == [
        ["gate", "0", "trust", name, host, "/keys/client.card"]
        for name, host in (("lane-e", "192.0.2.1"), ("lane-e-ipv6", "2001:db8::1"), ("shell", "192.0.2.1"))
    ]
    with pytest.raises(Unavailable, match="knockgate trust"):
        lane.meet(Recorder(2, "", "no such file\n").sender(), ["192.0.2.1", "2001:db8::1"])


@pytest.mark.parametrize(("name", "file"), [("C", "client.fwknoprc"), ("F", "gate.fwknoprc")])
def test_fwknops_keys_never_stand_in_a_command(name: str, file: str) -> None:
    (lane,) = choose(name)
    recorder = Recorder()
    assert lane.knock(recorder.sender(), "192.0.2.1", 2) == 0.25
    lane.knock_dated(recorder.sender(), "192.0.2.1", -3600)
    lane.knock_dated(recorder.sender(), "192.0.2.1", 3600)
    for command in recorder.commands:
        assert not [word for word in command if "key" in word and word != f"/keys/{file}"]
        assert f"/keys/{file}" in command and "--no-save-args" in command
    assert recorder.commands[1][-2:] == ["--time-offset-minus", "3600s"]
    assert recorder.commands[2][-2:] == ["--time-offset-plus", "3600s"]


def test_last_words() -> None:
    a, b, c, d, e, f = choose("A,B,C,D,E,F")
    assert a.last_words("anything", {}) is None and d.last_words("anything", {}) is None
    assert b.last_words("openSecret: running command\n", {}) is None
    assert (
        b.last_words("x\niptables v1: host/network `::1' not found\ny", {})
        == "iptables v1: host/network `::1' not found"
    )
    assert c.last_words("Starting fwknopd\n", {}) is None
    log = "(stanza #1) SPA data time difference is too great (3600 seconds).\nAdded access rule\n"
    assert c.last_words(log, {}) == "SPA data time difference is too great (3600 seconds)."
    assert (
        c.last_words("Replay detected from source IP: 192.0.2.4, Dest", {})
        == "Replay detected from source IP: 192.0.2.4"
    )
    assert f.last_words("knockgate-listener: open packet for 192.0.2.2 (packet of client, 15s)\n", {}) is None
    log = (
        "knockgate-listener: a knock of client is refused: replayed: it was sent before (from 192.0.2.4)\n"
        "knockgate-listener: a knock of client is refused: stale: it is too old; its clock is 1h behind ours "
        "(from 192.0.2.2)\nknockgate-listener: open packet for 192.0.2.2 (packet of client, 15s)\n"
    )
    stale = "stale: it is too old; its clock is 1h behind ours"
    assert f.last_words(log, {}) == stale
    assert e.last_words(log, {}) is None, "E's gate is F's, and so is the log"
    log = f"knockgate-listener: a knock of people SHA256:abc is refused: {stale} (from 192.0.2.2); compare\n"
    assert (e.last_words(log, {"stale": 1}), f.last_words(log, {"stale": 1})) == (stale, None)
    assert e.last_words("", {"duplicate": 1}) == "duplicate: it came before, to the byte"


def test_lane_f_says_that_ipv6_is_not_the_gates_fault() -> None:
    (lane,) = choose("F")
    failed = Recorder(1, "", "Invalid allow IP specified for SPA access\n")
    with pytest.raises(Unavailable, match="Invalid allow IP specified for SPA access; it is the client"):
        lane.knock(failed.sender(), "2001:db8::1", 2)
    with pytest.raises(Unavailable) as caught:
        lane.knock(failed.sender(), "192.0.2.1", 2)
    assert "it is the client" not in str(caught.value)


def test_lanes_and_installed_files_agree() -> None:
    """Ports and sequences stand in the lanes and in the installed files; both must say the same."""
    a, b, c, d, e, f = choose("A,B,C,D,E,F")
    plan = units.fresh_plan("eth0", 9)
    rendered = units.render(plan) | units.render_gate(plan)
    files = {path: file.content.decode() for path, file in rendered.items()}
    assert config.parse(files["/etc/knockdemo/knockdemo.toml"], "toml").service_port == a.PORT
    assert f"--dport {b.PORT} " in files["/etc/knockd.conf"]
    assert "7100,7200,7300" in files["/etc/knockd.conf"]
    assert f"tcp/{c.PORT}\n" in files["/etc/fwknop/access.conf"]
    gate_toml = doors.parse(files["/etc/knockdemo/gate.toml"])
    door, sealed_door, packet, ssh = gate_toml.doors
    assert [str(port) for port in door.ports] == [f"tcp/{d.PORT}"]
    assert door.lease == 9
    assert door.sequence and door.sequence.runs_in is doors.RunsIn.KERNEL
    steps = [parse_step(f"{port.number}/{port.protocol.name}") for port in door.sequence.steps]
    assert steps == [parse_step(knock) for knock in gate.KNOCKS]
    assert ([str(port) for port in packet.ports], packet.lease) == ([f"tcp/{f.PORT}"], 9)
    assert gate_toml.fwknop and gate_toml.fwknop.port.number == packets.SPA_PORT != fwknop.SPA_PORT
    for other, port in ((sealed_door, e.PORT), (ssh, e.SSH_PORT)):
        assert ([str(each) for each in other.ports], other.lease) == ([f"tcp/{port}"], 9)
    assert (sealed_door.name, ssh.name) == (e.ASKS_FOR, "ssh")
    assert gate_toml.sealed and gate_toml.sealed.port.number == sealed.SPA_PORT
    assert f"Port {e.SSH_PORT}\n" in files["/etc/knockdemo/sshd_config"]
    assert (
        f"--output /etc/knockdemo/{sealed.CARD}\n" in files["/etc/systemd/system/knockdemo-gate-init.service"]
    )
    client = files[f"/etc/knockdemo/{packets.RC_FILE}"]
    assert f"tcp/{f.PORT}\n" in client and f" {packets.SPA_PORT}\n" in client


def test_lane_fs_two_sides_have_the_same_secrets(tmp_path: Path) -> None:
    rendered = units.render_gate(units.fresh_plan("eth0", 9), str(tmp_path))
    for target, file in rendered.items():
        path = tmp_path / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    path = tmp_path / units.GATE.lstrip("/")
    (key,) = keys.load(path, doors.load(path))
    client = rendered[f"/etc/knockdemo/{packets.RC_FILE}"]
    assert (key.secret.key, key.secret.hmac_key) == units.keys_in(client.content.decode())
    assert client.mode == rendered["/etc/knockdemo/client.secrets"].mode == 0o600


def test_gates_unit_is_accepted_and_loads_its_rules(tmp_path: Path) -> None:
    files = units.render_gate(units.fresh_plan("eth0", 9))
    unit = files["/etc/systemd/system/knockdemo-gate.service"].content.decode()
    program, option, rules = units.exec_start(unit)
    assert (program, option) == ("/usr/sbin/nft", "-f")
    assert files[rules].content.startswith(b"add table inet knockgate\n")
    expect_accepted(tmp_path / "knockdemo-gate.service", unit, unit.replace(program, "/no/such/nft"))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("knockdemo-gate-daemon", [units.GATE_PROGRAM, "run", units.GATE]),
        ("knockdemo-gate-init", [units.GATE_PROGRAM, "init", "--bare", "--config", units.GATE]),
        ("knockdemo-sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/knockdemo/sshd_config"]),
    ],
)
def test_gates_daemons_have_units_that_are_accepted(tmp_path: Path, name: str, command: list[str]) -> None:
    files = units.render_gate(units.fresh_plan("eth0", 9))
    texts = {Path(path).name: file.content.decode() for path, file in files.items()}
    unit = texts[f"{name}.service"]
    assert units.exec_start(unit)[: len(command)] == command
    # The programs need not be installed here; systemd looks at the units that are required as well.
    for other in ("knockdemo-gate-init", "knockdemo-gate-daemon"):
        text = texts[f"{other}.service"].replace(units.GATE_PROGRAM, "/bin/true")
        (tmp_path / f"{other}.service").write_text(text)
    here = unit.replace(command[0], "/bin/true")
    expect_accepted(tmp_path / f"{name}.service", here, here.replace("/bin/true", "/no/such/true"))


def expect_accepted(path: Path, good: str, bad: str) -> None:
    """systemd takes the one unit without a word and not the other."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("not installed: systemd-analyze")
    for text, accepted in ((good, True), (bad, False)):
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ((done.returncode, done.stderr) == (0, "")) is accepted, done.stderr
