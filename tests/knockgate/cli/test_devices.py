"""``knockgate device``: who has knocked, what the admin says of them, and that the gate does so."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.process import Done, environment, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, initialised
from tests.knockgate.daemon.running import leases
from tests.knockgate.daemon.sealed_stage import DOORS, OPENED, Stage, stage
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import isolated

from knockgate.config import devices
from knockgate.mechanisms.certainty import Span
from knockgate.mechanisms.marks import Spend
from knockgate.spa.sealed import KeyKind
from knockgate.spa.sealed.dates import Date

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
FINGERPRINT = "SHA256:" + base64.b64encode(KEY).decode().rstrip("=")


@pytest.fixture
def gate(tmp_path: Path) -> SealedGate:
    return initialised(tmp_path)


def knocked(gate: SealedGate, *ids: bytes, key: bytes = KEY) -> list[str]:
    """Have these devices knock, each a minute after the one before; what they are called."""
    store = gate.store()
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    try:
        for number, each in enumerate(ids):
            date = Date(0, now - (len(ids) - number) * 60 * 10**9)
            assert isinstance(store.claim(key, each, date, Span(), None), Spend)
        return [store.row(each).hex() for each in ids]
    finally:
        store.close()


def listed(gate: SealedGate) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(gate.does("device", "list", "--json").stdout)["devices"]
    return found


def test_the_list_of_a_gate_that_does_not_run(gate: SealedGate) -> None:
    done = gate.does("device", "list")
    assert (done.stdout, "no device has knocked" in done.stderr) == ("", True)
    assert listed(gate) == []
    first, last = knocked(gate, bytes([1]) * 16, bytes([2]) * 16)
    gate.does("device", "enrol", first[:6], "--name", "jo's laptop")
    gate.does("device", "forget", "f" * 32)
    assert [(each["row"], each["state"], each["name"]) for each in listed(gate)] == [
        (last, None, None),
        (first, "known", "jo's laptop"),
        ("f" * 32, "barred", None),
    ]
    assert [each["key"] for each in listed(gate)] == [KEY.hex(), KEY.hex(), None]
    assert listed(gate)[1]["seconds_ago"] == pytest.approx(120, abs=30)
    for each in listed(gate):  # as people see it
        assert each["device"] == each["row"]
        assert each["fingerprint"] == (None if each["key"] is None else FINGERPRINT)
    heading, *rows = gate.does("device", "list").stdout.splitlines()
    assert heading.split() == ["DEVICE", "STATE", "LAST", "KNOCK", "SSH", "KEY", "NAME"]
    assert rows[0].split()[:2] == [last, "-"] and FINGERPRINT in rows[0]
    assert rows[1].startswith(f"{first}  known") and "2m" in rows[1] and rows[1].endswith("jo's laptop")
    assert rows[2].split() == ["f" * 32, "barred", "none", "-"]


def test_a_device_with_two_keys_is_there_twice_and_is_one(gate: SealedGate) -> None:
    (row,) = knocked(gate, bytes([1]) * 16)
    knocked(gate, bytes([1]) * 16, key=OTHER_KEY)
    assert [each["row"] for each in listed(gate)] == [row, row]
    gate.does("device", "enrol", row[:8])
    assert [each["state"] for each in listed(gate)] == ["known", "known"]


def test_it_is_known_then_barred_then_known(gate: SealedGate) -> None:
    (row,) = knocked(gate, bytes([1]) * 16)
    file = gate.keys_file.with_name("devices")
    file.touch(0o600)
    file.write_text("# mine\n")
    for words, state, said in (
        (["enrol", row, "--name", "laptop"], "known", f"{row} is known\n"),
        (["forget", row.upper()[:7]], "barred", f"{row} comes in nowhere from now on\n"),
        (["enrol", row[:6]], "known", f"{row} is known\n"),
    ):
        done = gate.does("device", *words)
        assert done.stdout == said and "no gate runs here" in done.stderr
        assert file.read_text() == f"# mine\n{state} {row} laptop\n"
        assert file.stat().st_mode & 0o777 == 0o600
    for verb, state in (("forget", "barred"), ("enrol", "known")):
        told = json.loads(gate.does("device", verb, row[:6], "--json").stdout)
        assert told == {"device": row, "state": state, "name": "laptop"}
    store = gate.store()
    assert [each.row.hex() for each in store.devices()] == [row], "its mark stays"
    store.close()


def test_which_device_is_meant(gate: SealedGate) -> None:
    rows = ["abcdef" + "0" * 26, "abcdef" + "1" * 26]
    for row in rows:
        gate.does("device", "enrol", row)
    before = gate.keys_file.with_name("devices").read_bytes()
    for word, message_ in (
        ("abcdef", "2 devices begin with abcdef"),
        ("abcdee", "no device begins with abcdee"),
        ("abcde", "'abcde' is no device"),
        ("abcdefg", "'abcdefg' is no device"),
        ("0" * 33, "is no device"),
    ):
        for verb in ("enrol", "forget"):
            done = gate.does("device", verb, word, status=2)
            assert message_ in done.stderr and "knockgate device list" in done.stderr
    assert gate.keys_file.with_name("devices").read_bytes() == before
    gate.does("device", "forget", "abcdef0")
    assert devices.load(gate.keys_file.with_name("devices")).barred == {bytes.fromhex(rows[0])}


def test_a_file_that_is_wrong_is_not_changed(gate: SealedGate) -> None:
    file = gate.keys_file.with_name("devices")
    file.touch(0o600)
    file.write_text("knwon abc\n")
    for words in (["list"], ["enrol", "0" * 32], ["forget", "0" * 32]):
        done = gate.does("device", *words, status=2)
        assert f"{file}:1: " in done.stderr
    assert file.read_text() == "knwon abc\n"


def test_a_shell_completes_devices(gate: SealedGate) -> None:
    rows = knocked(gate, bytes([1]) * 16, bytes([2]) * 16)
    asked = environment(
        _KNOCKGATE_COMPLETE="bash_complete",
        COMP_WORDS=f"knockgate device enrol --config {gate.config} {rows[0][:6]}",
        COMP_CWORD="5",
        PYTHONPATH=str(Path(__file__).parents[3] / "src"),
    )
    code = "import sys; from knockgate.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == [f"plain,{rows[0]}"]


# --- beside a gate that runs --------------------------------------------------------------------------


def _does(here: Stage, *words: str) -> str:
    done = knockgate("device", *words, "--config", str(here.gate.file))
    assert done.returncode == 0, done.stderr
    if words[0] != "list":
        assert "the gate that runs has read its files again" in done.stderr
    return done.stdout


@isolated
def test_a_gate_that_runs_is_asked_and_told(tmp_path: Path) -> None:
    doors = DOORS.replace("[doors.web]", '[doors.ssh.sealed]\ndevices = "known"\n[doors.web]')
    with stage(tmp_path, doors=doors) as here:
        here.knock()
        here.until_refused("unknown-device")
        assert not leases()
        (one,) = json.loads(_does(here, "list", "--json"))["devices"]
        assert one["remembered"] is False and one["state"] is None
        assert bytes.fromhex(one["key"]) == signers.fingerprint(KeyKind.ED25519)
        assert " refused " in _does(here, "list")
        _does(here, "enrol", one["row"][:6], "--name", "laptop")
        here.knock()
        here.until_opened(1)
        assert OPENED in leases()
        (one,) = json.loads(_does(here, "list", "--json"))["devices"]
        assert (one["remembered"], one["state"], one["name"]) == (True, "known", "laptop")
        _does(here, "forget", one["row"])
        for door in ("ssh", "web"):  # also where any device may
            here.knock(doors=(door,))
        here.until_refused("unknown-device", 2)
        here.knock(doors=("web",), device=bytes([7]) * 16)
        here.until_opened(1)  # the control: another device of the same key


@isolated
def test_a_gate_that_runs_does_not_tell_of_all(tmp_path: Path) -> None:
    """It would take it seconds, in which it hears nothing; and more than 180,000 could not be told at all."""
    with stage(tmp_path) as here:
        here.gate.end()
        with contextlib.closing(sqlite3.connect(here.state / "marks.sqlite")) as base, base:
            rows = ((number.to_bytes(32), bytes(16), 0, number) for number in range(1, 10_006))
            base.executemany("INSERT INTO marks VALUES (?, ?, ?, ?)", rows)
        assert (
            len(json.loads(_list(here).stdout)["devices"]) == 10_005
        )  # the control: all, while it is stopped
        here.gate.start()
        done = _list(here)
        assert {each["issued"] for each in json.loads(done.stdout)["devices"]} == {
            number / 10**9 for number in range(6, 10_006)
        }
        assert "5 more" in done.stderr


def _list(here: Stage) -> Done:
    done = knockgate("device", "list", "--json", "--config", str(here.gate.file))
    assert done.returncode == 0, done.stderr
    return done
