"""``simulate`` and sealed packets: beside a gate that runs, and where its keys cannot be had."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.capture import files
from tests.knockgate.capture.tcpdump import Tcpdump
from tests.knockgate.cli.process import Done, as_nobody, knockgate
from tests.knockgate.daemon.running import OTHER
from tests.knockgate.daemon.sealed_stage import DOORS, PEOPLE, Stage, device, make_gate, message, now, stage
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import isolated, until
from tests.packets import ipv4, udp

from knockgate.spa.sealed import KeyKind, SourceKind, Suite, seal
from knockgate.store.marks import SqliteMarks

HOME = '[doors.home]\nports = ["tcp/24"]\n[doors.home.sealed]\ndevices = "known"\n'


def at_home(folder: Path) -> Stage:
    """A gate whose door home is for known devices; nothing runs."""
    found = Stage(folder, doors=DOORS + HOME)
    found.gate.write(found.text.replace('"web"]', '"web", "home"]'), gate='clock = "trusted"\n')
    return found


def captured(folder: Path, *payloads: bytes) -> str:
    """A capture of now, with a packet each tenth of a second."""
    frames = []
    for number, payload in enumerate(payloads):
        packet = ipv4(udp(62202, payload=payload), 17, source="10.0.0.2", destination="10.0.0.1")
        frames.append((now() + number * 10**8, files.ethernet(packet, files.IP)))
    file = folder / "knock.pcap"
    file.write_bytes(files.pcap(frames))
    return str(file)


def steps(done: Done) -> list[dict[str, object]]:
    return [json.loads(each) for each in done.stdout.splitlines()[:-1]]


@isolated
def test_what_a_gate_did_is_what_simulate_says_of_its_capture(tmp_path: Path) -> None:
    """The real gate hears what tcpdump writes down. It runs on, also with what simulate has read."""
    with stage(tmp_path) as gate, Tcpdump("-i", "near", "udp", "port", "62202") as file:
        known = device()
        first = gate.knock(lease=40)
        gate.until_opened(1)
        gate.knock(suite=Suite.X25519, source=OTHER, doors=("ssh", "web"), device=known)
        gate.until_opened(2)
        observed = message(source=SourceKind.OBSERVED, address=b"")
        gate.send(seal(observed, messages.CARD), source=OTHER)
        gate.until_opened(3)
        gate.send(first)
        gate.until_refused("duplicate")
        gate.knock(issued=now() - 10**9)
        gate.until_refused("replayed")
        gate.knock(issued=now() - 3600 * 10**9, device=device())
        gate.until_refused("stale")
        gate.knock(issued=now() + 3600 * 10**9)
        gate.until_refused("ahead")
        gate.knock(doors=("shed",))
        gate.until_refused("door-denied")
        gate.knock(KeyKind.ECDSA_P256)
        gate.until_refused("unknown-key")
        gate.send(secrets.token_bytes(1333))
        gate.until_refused("not-ours")
        gate.knock(doors=("web",))
        gate.until_opened(4)
        until(lambda: len(file.read_bytes()) > 24 + 8 * 1333, "all is captured")
        done = knockgate("simulate", str(gate.gate.file), str(file), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        told = steps(done)
        assert [each["opened"] for each in told if each["opened"]] == [
            ["ssh"],
            ["ssh", "web"],
            ["ssh"],
            ["web"],
        ]
        assert told[0]["effects"] == ["opens ssh for 10.0.0.2, 40s"]
        assert told[2]["effects"] == ["opens ssh for 10.0.0.3, 30s"]
        assert {each["verdict"] for each in told} == {"dropped"}
        refused = [
            str(each["why"]).split(" is refused: ")[1].split(":")[0] for each in told if not each["opened"]
        ]
        assert sorted(refused) == sorted(gate.refused()) and len(refused) == 7
        gate.knock(doors=("web",))
        gate.until_opened(5)


def test_a_device_that_was_enrolled(tmp_path: Path) -> None:
    gate = at_home(tmp_path)
    config = str(gate.gate.file)
    file = captured(tmp_path, seal(message(doors=("home",)), messages.CARD))
    done = knockgate("simulate", config, file)
    assert done.returncode == 1
    assert "unknown-device: it is for known devices alone, and this one is not: home" in done.stdout
    store = SqliteMarks(gate.state / "marks.sqlite", incarnation=bytes(range(100, 116)), devices=1)
    (gate.state / "devices").write_text(f"known {store.row(message().head.device).hex()}\n")
    (gate.state / "devices").chmod(0o600)
    done = knockgate("simulate", config, file)  # while the store is in use
    store.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert "opens home for 10.0.0.2, 15s" in done.stdout
    for spoil, says in (
        (lambda: (gate.state / "devices").write_text("known x\n"), "is no line of a list of devices"),
        (lambda: (gate.state / "devices").chmod(0o644), "can be read by others"),
    ):
        spoil()
        done = knockgate("simulate", config, file)
        assert done.returncode == 1
        assert "knockgate: what was said of devices is left out: " in done.stderr and says in done.stderr


def test_marks_that_are_not_there(tmp_path: Path) -> None:
    """Only what was said of devices hangs on them."""
    gate = at_home(tmp_path)
    (gate.state / "marks.sqlite").unlink()
    file = captured(tmp_path, seal(message(), messages.CARD))
    done = knockgate("simulate", str(gate.gate.file), file)
    assert (done.returncode, done.stderr) == (0, "")
    (gate.state / "devices").write_text(f"barred {'0' * 32}\n")
    (gate.state / "devices").chmod(0o600)
    done = knockgate("simulate", str(gate.gate.file), file)
    assert done.returncode == 0
    assert f"devices is left out: {gate.state}/marks.sqlite: its salt cannot be read: " in done.stderr


def test_without_the_gates_keys_the_rest_is_done(tmp_path: Path) -> None:
    gate = at_home(tmp_path)
    file = captured(tmp_path, seal(message(), messages.CARD))
    assert "opens ssh" in knockgate("simulate", str(gate.gate.file), file).stdout
    for spoil, says in (
        (lambda: (gate.state / "gate.keys").write_text("incarnation = 1\n"), "must be 32 hex digits"),
        (lambda: shutil.rmtree(gate.state), "hint: knockgate init makes a gate's keys"),
    ):
        spoil()
        done = knockgate("simulate", str(gate.gate.file), file)
        assert done.returncode == 1
        assert "knockgate: sealed packets are left out: " in done.stderr and says in done.stderr
        assert done.stdout.splitlines()[0].endswith("dropped  a knock that the daemon listens for")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_without_rights_it_says_what_it_leaves_out(tmp_path: Path) -> None:
    gate = at_home(tmp_path)
    file = captured(tmp_path, seal(message(), messages.CARD))
    let_others_in(tmp_path)
    done = as_nobody("simulate", str(gate.gate.file), file)
    assert done.returncode == 1
    assert f"sealed packets are left out: {gate.state}/gate.keys cannot be read: Permission" in done.stderr
    assert "hint: run it as root" in done.stderr
    assert "1 packet in 0.0 s: no door opened" in done.stdout


def test_keys_are_those_of_now(tmp_path: Path) -> None:
    """A line that is taken out opens nothing any more, also of what was captured before."""
    make_gate(tmp_path)
    people, config = tmp_path / "people", tmp_path / "gate.toml"
    config.write_text(f'[gate]\nstate_directory = "{tmp_path}/state"\n{DOORS}{PEOPLE.format(file=people)}')
    people.write_text(signers.line(signers.ED25519) + " jo\n")
    file = captured(tmp_path, seal(message(), messages.CARD))
    assert "opens ssh" in knockgate("simulate", str(config), file).stdout
    people.write_text(signers.line(signers.ECDSA) + " al\nssh-rsa AAAA\n")
    done = knockgate("simulate", str(config), file)
    assert done.returncode == 1 and "unknown-key: nobody may come in with the SSH key" in done.stdout
    assert f"knockgate: {people}:2: " in done.stderr
