"""Who can read and write what decides who comes in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.cli.sealed_gates import LINE, initialised
from tests.knockgate.doctor.looking import SSH, kinds, of, written

from knockgate.config import doors
from knockgate.doctor import rights, units
from knockgate.doctor.finding import Kind
from knockgate.doctor.host import Host
from knockgate.doctor.rights import Place, Seen
from knockgate.doctor.units import Confined
from knockgate.errors import Unavailable

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A gate with all its files; nobody else's folder is above it, but sticky ones."""
    initialised(tmp_path)
    (tmp_path / "run").mkdir(mode=0o755)
    return tmp_path


def there(folder: Path) -> set[Kind]:
    file = str(folder / "gate.toml")
    return kinds(rights.examine(Host(doors.load(file), file)))


def test_a_gate_as_init_makes_it(gate: Path) -> None:
    assert there(gate) == set()


@pytest.mark.parametrize(
    ("name", "mode", "kind"),
    [
        ("gate.toml", 0o666, Kind.WRITABLE),
        ("gate.toml", 0o664, Kind.WRITABLE),
        ("state", 0o777, Kind.WRITABLE),
        ("run", 0o775, Kind.WRITABLE),
        ("state/marks.sqlite", 0o644, Kind.READABLE),
        ("state/marks.sqlite", 0o662, Kind.WRITABLE),
        ("state/gate.keys", 0o640, Kind.READABLE),
    ],
)
def test_modes(gate: Path, name: str, mode: int, kind: Kind) -> None:
    before = (gate / name).stat().st_mode & 0o777
    (gate / name).chmod(mode)
    assert kind in there(gate)
    found = of(
        [each for each in rights.examine(_host(gate)) if each.seen.startswith(f"{gate / name} ")], kind
    )
    for command in found.fix.split("; "):  # it does what it says
        program, change, path = command.split()
        assert program == "chmod"
        os.chmod(path, before if change == "600" else (gate / name).stat().st_mode & ~0o022)
    assert kind not in there(gate)


def _host(folder: Path) -> Host:
    file = str(folder / "gate.toml")
    return Host(doors.load(file), file)


@ROOT
@pytest.mark.root
@pytest.mark.parametrize("name", ["gate.toml", "state", "state/gate.keys"])
def test_owners(gate: Path, name: str) -> None:
    os.chown(gate / name, 65534, 65534)
    assert Kind.FOREIGN in there(gate)
    os.chown(gate / name, 0, 0)
    assert there(gate) == set()


def test_folders_above() -> None:
    place, owners = Place("/srv/x/gate.toml", False), {0}

    def judged(*above: tuple[str, Seen]) -> list[Kind]:
        return [each.kind for each in rights.judge_folders(place, list(above), owners)]

    assert judged(("/srv/x", Seen(0o755, 0, True)), ("/", Seen(0o755, 0, True))) == []
    assert judged(("/srv/x", Seen(0o775, 0, True))) == [Kind.WRITABLE]
    assert judged(("/srv/x", Seen(0o1777, 0, True))) == []
    assert judged(("/srv/x", Seen(0o755, 1000, True))) == [Kind.FOREIGN]


def test_files_of_keys_that_cannot_be_used(gate: Path) -> None:
    (gate / "people").chmod(0o666)
    assert there(gate) == {Kind.KEYS_UNUSABLE}
    (gate / "people").unlink()
    assert there(gate) == {Kind.KEYS_UNUSABLE}
    (gate / "people").write_text(LINE + "\n")
    (gate / "people").chmod(0o644)
    assert there(gate) == set()


def test_the_gates_own_keys_are_missing(gate: Path) -> None:
    (gate / "state" / "gate.keys").rename(gate / "state" / "elsewhere")
    assert there(gate) == {Kind.KEYS_MISSING}
    (gate / "state" / "elsewhere").rename(gate / "state" / "gate.keys")
    assert there(gate) == set()


def test_a_file_of_one_time_sequences(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    text = f'[doors.x]\nports = ["tcp/1"]\n[doors.x.sequence]\nruns_in = "daemon"\none_time = "{lines}"\n'
    assert kinds(rights.examine(written(tmp_path, text))) == {Kind.KEYS_UNUSABLE}
    lines.touch(mode=0o600)
    assert kinds(rights.examine(written(tmp_path, text))) == set()
    lines.chmod(0o644)
    assert kinds(rights.examine(written(tmp_path, text))) == {Kind.READABLE}


def test_secrets_of_fwknops(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    assert knockgate("key", "new", "--fwknop", "jo", "-o", str(secrets)).returncode == 0
    text = SSH + f'[keys.jo]\nfwknop = "{secrets}"\ndoors = ["ssh"]\n'
    assert kinds(rights.examine(written(tmp_path, text))) == set()
    secrets.chmod(0o640)
    found = list(rights.examine(written(tmp_path, text)))
    assert kinds(found) == {Kind.KEYS_UNUSABLE}
    assert of(found, Kind.KEYS_UNUSABLE).fix == f"chmod 600 {secrets}"
    lines = [line for line in secrets.read_text().splitlines() if "BASE64: " in line]
    assert len(lines) == 2 and not any(line.split()[-1] in str(found) for line in lines)


@ROOT
@pytest.mark.root
def test_what_the_units_cannot_get_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines"
    lines.touch(mode=0o600)
    text = f'[doors.x]\nports = ["tcp/1"]\n[doors.x.sequence]\nruns_in = "daemon"\none_time = "{lines}"\n'
    known = written(tmp_path, text)
    assert kinds(rights.examine(known)) == set()
    nobody = Confined("nobody", 65534, frozenset({65534}), (), (str(tmp_path),))
    monkeypatch.setattr(units, "confined", lambda _: nobody)
    assert kinds(rights.examine(known)) == {Kind.CLOSED_TO_UNIT}
    seen = of(rights.examine(known), Kind.CLOSED_TO_UNIT).seen
    assert seen.startswith(f"door x: knockgate-listener cannot write {lines}")

    def silent(_: str) -> None:
        raise Unavailable("systemctl is not there")

    monkeypatch.setattr(units, "confined", silent)
    assert kinds(rights.examine(known)) == {Kind.NOT_LOOKED_AT}
