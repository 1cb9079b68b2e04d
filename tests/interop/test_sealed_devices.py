"""Devices: two that have one key, a home that was copied, and doors that take known ones only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.interop.sealed import (
    HOUR,
    Gate,
    Person,
    become,
    guarding,
    machine,
    public,
    recording,
    root,
    send,
    set_clocks,
)
from tests.knockgate.daemon.running import leases
from tests.netns import isolated

pytestmark = root


def _devices(gate: Gate) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(gate.does("device", "list", "--json").stdout)["devices"]
    return found


@isolated
def test_two_devices_with_one_key_do_not_disturb_each_other(tmp_path: Path) -> None:
    """One whose clock is an hour behind knocks between the other's knocks, and a replay of either is none."""
    with machine(tmp_path):
        _, behind = set_clocks()
        laptop = Person(tmp_path / "laptop")
        phone = Person(tmp_path / "phone", clocks=behind)
        behind.lead(-HOUR)
        key = laptop.key()
        gate = Gate(tmp_path, public(key))
        gate.says(gate='clock = "unknown"')
        for each in (laptop, phone):
            each.trusts(gate, key)
        with guarding(gate), recording() as recorded:
            old = []
            for each in (laptop, phone, laptop, phone):
                each.gets_in(gate)
                old.append(recorded())
            found = _devices(gate)
            assert len({each["row"] for each in found}) == 2 and len({each["key"] for each in found}) == 1
            for number, knock in enumerate(old, 1):
                send(knock)
                gate.until_refused("duplicate", number)
            # The control: what is one device is told of its own clock that it went back.
            behind.lead(-3 * HOUR)
            (phone.home / ".local" / "state" / "knockgate" / "device.json").rename(tmp_path / "kept")
            shutil.copytree(laptop.home / ".local", phone.home / ".local", dirs_exist_ok=True)
            text = (phone.home / ".local" / "state" / "knockgate" / "device.json").read_text()
            (phone.home / ".local" / "state" / "knockgate" / "device.json").write_text(_without_dates(text))
            phone.knock()
            gate.until_refused("replayed")
            assert leases() == set()


def _without_dates(text: str) -> str:
    """A client that has forgotten when it has knocked, and not what it is called."""
    return json.dumps({**json.loads(text), "gates": {}})


@isolated
def test_a_copied_home_is_another_device_on_another_machine(tmp_path: Path) -> None:
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        gate = Gate(tmp_path, public(key))
        jo.trusts(gate, key)
        with guarding(gate):
            jo.gets_in(gate)
            shutil.copytree(jo.home, tmp_path / "copy")
            copy = Person(tmp_path / "copy")
            copy.gets_in(gate)  # the control: a copy on the same machine is the same device
            assert len(_devices(gate)) == 1
            become("f" * 32)
            copy.gets_in(gate)
            assert len(_devices(gate)) == 2
            become("0123456789abcdef0123456789abcdef")
            jo.gets_in(gate)
            assert len(_devices(gate)) == 2


@isolated
def test_a_door_for_known_devices(tmp_path: Path) -> None:
    """Enrolled by what `device list` shows; forgotten; and enrolled again."""
    with machine(tmp_path):
        laptop, other = Person(tmp_path / "laptop"), Person(tmp_path / "other")
        key = laptop.key()
        gate = Gate(tmp_path, public(key))
        gate.says('\n[doors.ssh.sealed]\ndevices = "known"\n')
        for each in (laptop, other):
            each.trusts(gate, key)
        with guarding(gate):
            laptop.knock()
            gate.until_refused("unknown-device")
            story = gate.newest()
            assert (story["step"], story["standing"]) == (9, None) and story["device"] in story["hint"]
            ((row),) = [each["row"] for each in _devices(gate)]
            assert row == story["device"]
            gate.changes("device", "enrol", str(row)[:8], "--name", "jo's laptop")
            laptop.gets_in(gate)
            other.knock()  # the same key, as whoever is asked by a forwarded agent has it
            gate.until_refused("unknown-device")
            assert leases() == set()
            gate.changes("device", "forget", str(row))
            laptop.knock()
            gate.until_refused("unknown-device")
            assert gate.newest()["standing"] == "barred" and leases() == set()
            gate.changes("device", "enrol", str(row))
            laptop.gets_in(gate)  # the control
