"""``knockgate backup`` and ``restore``: the same gate elsewhere, and nothing of its past can be repeated."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.cli.backups import (
    DATE,
    DEVICE,
    TO_COME,
    backed_up,
    below,
    claim,
    full,
    lost,
    restored,
    takes,
)
from tests.knockgate.cli.process import as_nobody, command, environment, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, all_below
from tests.knockgate.daemon.sealed_stage import stage
from tests.knockgate.store.test_replay_closed import LOW, moment
from tests.netns import isolated

from knockgate.cli.gatefiles import now
from knockgate.config import devices
from knockgate.model import Claim, Moment
from knockgate.spa.sealed.dates import Date


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedGate:
    return full(tmp_path, monkeypatch)


# --- the same gate ------------------------------------------------------------------------------------


def test_the_same_gate_is_there_again(gate: SealedGate) -> None:
    assert takes(gate, DATE), "the control: it is new"
    keys, text = gate.keys(), Path(gate.config).read_text()
    rows = devices.load(gate.folder / "state" / "devices")
    file = backed_up(gate)
    assert file.stat().st_mode & 0o777 == 0o600
    done = restored(file)
    assert gate.starts() and gate.keys().keys == keys.keys
    assert gate.keys().incarnation != keys.incarnation, "marks of before do not go with these keys"
    assert Path(gate.config).read_text() == text
    assert devices.load(gate.folder / "state" / "devices") == rows
    store = gate.store()
    assert {store.row(DEVICE)} == rows.barred, "devices are called as they were"
    store.close()
    modes = {each.name: each.stat().st_mode & 0o777 for each in gate.folder.rglob("*") if each.is_file()}
    assert modes["gate.keys"] == modes["marks.sqlite"] == modes["replay.sqlite"] == 0o600
    assert modes["alice.secrets"] == 0o600 and modes["people"] == 0o644
    assert f"made {gate.marks_file}" in done.stdout and "does not run with these keys any more" in done.stderr
    gate.does("check")


def test_what_came_before_is_refused_and_what_comes_is_taken(gate: SealedGate) -> None:
    begun = int(now().timestamp())
    restored(backed_up(gate))
    assert not takes(gate, DATE) and not takes(gate, Date(0, begun * 10**9 - 1))
    assert takes(gate, TO_COME)
    for synchronised in (True, False):
        at = Moment(now=begun + 5.0, synchronised=synchronised, up=5.0, boot="b")
        for issued in (begun, begun - 100, begun - 3599):
            assert claim(gate, issued, at) is Claim.FORGOTTEN
        assert claim(gate, begun + 3600 + synchronised, at) is Claim.CLAIMED


def test_where_nobody_knows_the_time_nothing_is_shut_out(gate: SealedGate) -> None:
    done = restored(backed_up(gate), "--clock-unknown")
    assert "NOTHING IS SHUT OUT" in done.stderr
    assert takes(gate, DATE)
    assert not (gate.folder / "state" / "replay.sqlite").exists()
    assert claim(gate, LOW, moment(LOW + 1)) is Claim.CLAIMED


def test_a_clock_that_nobody_vouches_for(gate: SealedGate, monkeypatch: pytest.MonkeyPatch) -> None:
    file = backed_up(gate)
    before = sorted(all_below(gate.folder))
    monkeypatch.setattr("knockgate.clock.is_synchronised", lambda: False)
    done = knockgate("restore", str(file))
    assert done.returncode == 2 and "nothing vouches for that" in done.stderr
    assert "--clock-unknown" in done.stderr
    monkeypatch.setattr("knockgate.clock.is_synchronised", lambda: True)
    monkeypatch.setattr("time.clock_gettime_ns", lambda _: (int(now().timestamp()) - 3600) * 10**9)
    done = knockgate("restore", str(file))
    assert done.returncode == 2 and "UTC is still to come" in done.stderr
    assert sorted(all_below(gate.folder)) == before
    monkeypatch.undo()
    monkeypatch.setattr("knockgate.clock.is_synchronised", lambda: True)
    assert knockgate("restore", str(file)).returncode == 0
    assert gate.starts()


def test_one_without_sealed_knocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "gate.toml"
    config.write_text(
        f'[gate]\nstate_directory = "{tmp_path}/state"\nrun_directory = "{tmp_path}/run"\n'
        '[doors.ssh]\nports = ["tcp/22"]\n'
        'sequence = { steps = ["tcp/7000", "udp/8000"] }\n'
        '[doors.web]\nports = ["tcp/80"]\n'
        f'sequence = {{ one_time = "{tmp_path}/once", runs_in = "daemon" }}\n'
    )
    done = knockgate("backup", "gate.tar", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert f"not in it: {tmp_path}/once: sequences that are used from now on" in done.stderr
    text = config.read_text()
    config.unlink()
    done = restored(Path("gate.tar"))
    assert config.read_text() == text
    assert "knocks dated" not in done.stdout and "SHUT OUT" not in done.stderr


def test_what_belongs_to_others_is_left_out(gate: SealedGate) -> None:
    with Path(gate.config).open("a") as stream:
        stream.write('[keys.users]\nssh = "%h/.ssh/authorized_keys"\nusers = ["root"]\ndoors = ["ssh"]\n')
        stream.write(f'[keys.shared]\nssh = "{gate.folder}/sshds"\nshared = true\ndoors = ["ssh"]\n')
        stream.write(f'[keys.none]\nssh = "{gate.folder}/none"\ndoors = ["ssh"]\n')
    (gate.folder / "sshds").touch()
    found = json.loads(gate.does("backup", "gate.tar", "--json").stdout)
    home = os.path.expanduser("~root")  # noqa: PTH111 - of that user
    assert {each["path"]: each["why"] for each in found["left_out"]} == {
        f"{home}/.ssh/authorized_keys": "it belongs to root",
        f"{gate.folder}/sshds": "it is sshd's too",
        f"{gate.folder}/none": "there is no such file",
    }
    names = ("gate.toml", "alice.secrets", "people", "state/gate.keys", "state/devices", "state/devices.kept")
    assert found["files"] == [f"{gate.folder}/{name}" for name in names]
    with tarfile.open("gate.tar") as tar:
        assert tar.getnames()[1:] == [path[1:] for path in found["files"]]


# --- what is said, and what is not done ---------------------------------------------------------------


def test_both_say_what_they_would_do(gate: SealedGate) -> None:
    done = gate.does("backup", "gate.tar", "--dry-run")
    assert f"would make gate.tar, with\n    {gate.config}\n" in done.stdout and not Path("gate.tar").exists()
    assert json.loads(gate.does("backup", "gate.tar", "--dry-run", "--json").stdout)["dry_run"] is True
    file = backed_up(gate)
    before = sorted(all_below(gate.folder))
    done = restored(file, "--dry-run", "--clock-right")
    assert f"would make {gate.config}\n" in done.stdout and f"would make {gate.marks_file}\n" in done.stdout
    assert sorted(all_below(gate.folder)) == before
    found = json.loads(restored(file, "--clock-right", "--json").stdout)
    assert found["dry_run"] is False and found["refused_until"].endswith("+00:00")
    assert {"path": str(gate.marks_file), "action": "create"} in found["files"]
    assert {each["action"] for each in found["files"]} == {"create"}


def test_through_a_pipe(gate: SealedGate) -> None:
    words = command("backup", "-", "--config", gate.config)
    path = environment(PYTHONPATH=str(Path(__file__).parents[3] / "src"))
    done = subprocess.run(words, capture_output=True, env=path, check=True)
    assert b"gate.keys" in done.stderr and b"gate.keys" in done.stdout
    lost(gate)
    words = command("restore", "-", "--clock-right")
    again = subprocess.run(words, input=done.stdout, capture_output=True, env=path, check=False)
    assert again.returncode == 0, again.stderr
    assert gate.starts()
    assert knockgate("backup", "-", "--json", "--config", gate.config).returncode == 2


def test_nothing_is_written_over(gate: SealedGate) -> None:
    Path("gate.tar").write_text("mine")
    assert "is there already" in gate.does("backup", "gate.tar", status=2).stderr
    assert Path("gate.tar").read_text() == "mine"
    file = backed_up(gate)
    for name, content in (
        ("gate.toml", b"# mine\n"),
        ("state/marks.sqlite", b""),
        ("state/replay.sqlite", b""),
    ):
        path = gate.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        before = sorted(all_below(gate.folder))
        done = restored(file, status=2)
        assert f"{path} is there already" in done.stderr and f"move away {path}" in done.stderr
        assert sorted(all_below(gate.folder)) == before and path.read_bytes() == content
        path.unlink()
    restored(file)


def test_what_is_the_same_already_stays(gate: SealedGate) -> None:
    """As where another tool lays gate.toml down."""
    file = backed_up(gate)
    for name in ("gate.toml", "people"):
        shutil.copy2(gate.folder / "gone" / name, gate.folder / name)
    number = Path(gate.config).stat().st_ino
    done = restored(file)
    assert f"{gate.config} is the same already" in done.stdout
    assert Path(gate.config).stat().st_ino == number and gate.starts() and not takes(gate, DATE)


def test_a_backup_is_of_a_gate_that_would_start(gate: SealedGate) -> None:
    kept = gate.marks_file.read_bytes()
    gate.marks_file.unlink()
    assert "its salt cannot be read" in gate.does("backup", "gate.tar", status=2).stderr
    gate.marks_file.write_bytes(kept)
    gate.marks_file.chmod(0o600)
    gate.does("backup", "gate.tar")  # the control
    (gate.folder / "alice.secrets").unlink()
    assert "alice.secrets cannot be read" in gate.does("backup", "other.tar", status=2).stderr
    assert not Path("other.tar").exists()


def test_a_backup_that_is_wrong_writes_nothing(gate: SealedGate) -> None:
    file = backed_up(gate)
    before = below(gate)
    with tarfile.open(file) as tar:
        found = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    base = str(gate.folder)[1:]
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({f"{base}/gate.toml": b"[doors.ssh]\nprots = 1\n"}, "unknown key"),
        ({f"{base}/gate.toml": b"\xff"}, "no UTF-8"),
        ({f"{base}/state/gate.keys": b"incarnation = 1\n"}, "must be 32 hex digits"),
        ({f"{base}/state/gate.keys": None}, "has no keys of the gate's"),
        ({f"{base}/state/devices": b"none\n"}, "no line of a list of devices"),
        ({f"{base}/alice.secrets": b"KEY: short\n"}, "alice.secrets"),
        ({f"{base}/alice.secrets": None}, "alice.secrets cannot be read"),
        (
            {"etc/passwd": b"root::0:0::/:/bin/sh\n"},
            "/etc/passwd is in the backup, and its gate.toml does not",
        ),
    ]
    for change, message in cases:
        _write(file, {name: text for name, text in (found | change).items() if text is not None})
        done = restored(file, status=2)
        assert message in done.stderr, done.stderr
        assert below(gate) == before
    for octets in (b"", b"spoilt" * 1000, file.read_bytes()[:1000]):
        file.write_bytes(octets)
        assert "is no backup of a gate" in restored(file, status=2).stderr
    _write(file, found)
    restored(file)  # the control


def _write(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o600
            tar.addfile(info, io.BytesIO(text))


def test_a_backup_that_others_could_have_written_is_refused(gate: SealedGate) -> None:
    file = backed_up(gate)
    file.chmod(0o644)
    assert "can be read by others" in restored(file, status=2).stderr
    assert "cannot be read" in restored(Path("none.tar"), status=2).stderr
    link = Path("link.tar")
    link.symlink_to(file)
    assert "is a link" in restored(link, status=2).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_rights_it_is_told_what_needs_them(gate: SealedGate, tmp_path: Path) -> None:
    let_others_in(tmp_path)
    done = as_nobody("backup", "gate.tar", "--config", gate.config)
    assert done.returncode == 2 and "run it as root" in done.stderr
    file = backed_up(gate)
    done = as_nobody("restore", str(file))
    assert done.returncode == 2 and "cannot be read" in done.stderr


@isolated
def test_a_gate_may_run_for_a_backup_and_not_for_the_other(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        here.knock()
        here.until_opened(1)
        done = knockgate("backup", str(tmp_path / "gate.tar"), "--config", str(here.gate.file))
        assert done.returncode == 0, done.stderr
        for name in ("gate.keys", "marks.sqlite", "devices", "devices.kept", "known-networks-sealed"):
            (tmp_path / "state" / name).unlink(missing_ok=True)
        for each in (tmp_path / "state").glob("marks.sqlite*"):
            each.unlink()
        done = knockgate("restore", str(tmp_path / "gate.tar"), "--clock-right")
        assert done.returncode == 2 and "knockgate is running already" in done.stderr
        assert not (tmp_path / "state" / "gate.keys").exists()
