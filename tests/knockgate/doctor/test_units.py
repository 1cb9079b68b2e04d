"""Which units start something of the gate at boot, and what their processes cannot get at."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.doctor.looking import KEYED, SSH, configuration

from knockgate.config import doors
from knockgate.config.doors import Configuration
from knockgate.doctor import units
from knockgate.doctor.units import Confined, Does
from knockgate.errors import Unavailable

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
BOTH = Does.GUARDS | Does.HEARS


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """An admin's units, and a distribution's."""
    for name in ("etc", "usr"):
        (tmp_path / name).mkdir()
    return str(tmp_path / "etc"), str(tmp_path / "usr")


def unit(folder: str, name: str, text: str = "[Service]\nExecStart=/x\n", *, enabled: bool = True) -> Path:
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if enabled:
        link = Path(folder, "multi-user.target.wants", path.name)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    return path


@pytest.mark.parametrize("place", [0, 1], ids=["by knockgate install", "by a package"])
@pytest.mark.parametrize(
    ("name", "what"),
    [(units.WARDEN, Does.GUARDS), (units.LISTENER, BOTH), (units.RULES, Does.GUARDS)],
)
def test_units_of_ours(folders: tuple[str, str], place: int, name: str, what: Does) -> None:
    path = unit(folders[place], name, enabled=False)
    assert units.enabled(folders) == {} and units.is_there(name, folders)
    link = Path(folders[0], "sysinit.target.wants", name)  # where `systemctl enable` makes it
    link.parent.mkdir()
    link.symlink_to(path)
    assert units.enabled(folders) == {name: what}
    path.unlink()
    assert units.enabled(folders) == {} and not units.is_there(name, folders)


@pytest.mark.parametrize("name", ["knockgate-keeper.service", "knockgate-metrics.service", "ssh.service"])
def test_units_that_neither_guard_nor_hear(folders: tuple[str, str], name: str) -> None:
    unit(folders[0], name, "[Service]\nExecStart=/usr/bin/knockgate metrics -o /run/x\n")
    assert units.enabled(folders) == {}


def test_a_unit_that_is_masked_is_not_started(folders: tuple[str, str]) -> None:
    unit(folders[1], units.WARDEN)
    assert units.enabled(folders) == {units.WARDEN: Does.GUARDS}
    Path(folders[0], units.WARDEN).symlink_to("/dev/null")
    assert units.enabled(folders) == {} and not units.is_there(units.WARDEN, folders)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("/usr/bin/knockgate run --knockd /etc/knockd.conf", BOTH),
        ("/opt/x/bin/python -m knockgate run", BOTH),
        ("/usr/bin/knockgate up", Does.GUARDS),
        ("/usr/sbin/nft -f /etc/knockgate/rules.nft", Does.GUARDS),
        ("/usr/sbin/knockd", None),
        ("/usr/bin/cat /etc/knockgate/rules.nft", None),
    ],
)
def test_units_of_somebodys_own(folders: tuple[str, str], command: str, what: Does | None) -> None:
    unit(folders[0], "gate@eth0.service", f"[Service]\nExecStart={command}\n")
    assert units.enabled(folders) == ({"gate@eth0.service": what} if what else {})


def test_what_is_enabled_until_the_next_boot_does_not_start_then(
    folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit(folders[0], units.WARDEN)
    assert units.enabled(folders) == {units.WARDEN: Does.GUARDS}
    monkeypatch.setattr(units, "_PASSING", folders[0])
    assert units.enabled(folders) == {} and units.is_there(units.WARDEN, folders)


def test_an_instance_is_its_template(folders: tuple[str, str]) -> None:
    path = unit(folders[1], "gate@.service", "[Service]\nExecStart=/usr/bin/knockgate run\n", enabled=False)
    links = Path(folders[0], "multi-user.target.wants")
    links.mkdir()
    (links / "gate@eth0.service").symlink_to(path)
    assert units.enabled(folders) == {"gate@eth0.service": BOTH}


def test_a_drop_in_counts(folders: tuple[str, str]) -> None:
    unit(folders[1], "knockd.service", "[Service]\nExecStart=/usr/sbin/knockd\n")
    assert units.enabled(folders) == {}
    unit(
        folders[0],
        "knockd.service.d/knockgate.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/knockgate run --knockd /etc/knockd.conf\n",
        enabled=False,
    )
    assert units.enabled(folders) == {"knockd.service": BOTH}


# --- what they cannot get at --------------------------------------------------------------------------

NOBODY = pwd.getpwnam("nobody")


def half(state: Path, *, uid: int = NOBODY.pw_uid, strict: bool = True) -> Confined:
    return Confined(
        "nobody", uid, frozenset({NOBODY.pw_gid}), (str(state),), (str(state),) if strict else None
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory, as systemd leaves it."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
        let_others_in(tmp_path)
    return folder


def one_time(path: Path) -> Configuration:
    return configuration(
        f'[doors.x]\nports = ["tcp/1"]\n[doors.x.sequence]\nruns_in = "daemon"\none_time = "{path}"\n'
    )


def told(found: Configuration, listener: Confined) -> list[tuple[str, str]]:
    return [(str(each), each.hint) for each in units.on_listener(found, listener)]


@ROOT
@pytest.mark.root
def test_a_file_of_one_time_sequences_that_the_listener_cannot_write(state: Path) -> None:
    path = state / "lines"
    path.touch(mode=0o600)
    ((message, fix),) = told(one_time(path), half(state))
    assert message.startswith(f"door x: knockgate-listener cannot write {path}, ")
    program, user, file = fix.split()
    assert (program, file) == ("chown", str(path))
    os.chown(path, pwd.getpwnam(user).pw_uid, -1)  # it does what it says
    assert told(one_time(path), half(state)) == []
    path.chmod(0o400)
    assert len(told(one_time(path), half(state))) == 1
    path.chmod(0o060)  # its owner has the owner's rights alone
    assert len(told(one_time(path), half(state))) == 1
    os.chown(path, 0, NOBODY.pw_gid)
    assert told(one_time(path), half(state)) == []


@ROOT
@pytest.mark.root
def test_a_file_of_one_time_sequences_where_the_listener_may_not_write(tmp_path: Path, state: Path) -> None:
    path, link = tmp_path / "lines", state / "link"
    path.touch(mode=0o666)
    path.chmod(0o666)
    link.symlink_to(path)
    for name in (path, link):
        assert told(one_time(name), half(state, strict=False)) == []
        ((_, fix),) = told(one_time(name), half(state))
        there = state / name.name
        assert fix == f'mv {name} {there}; chown nobody {there}; one_time = "{there}" in gate.toml'
    closed = state / "closed"
    closed.mkdir(mode=0o700)
    (closed / "lines").touch()
    (closed / "lines").chmod(0o666)
    ((_, fix),) = told(one_time(closed / "lines"), half(state))
    assert fix.startswith("mv ")
    closed.chmod(0o711)  # to go through a folder it need not be listed
    assert told(one_time(closed / "lines"), half(state)) == []
    closed.chmod(0o744)
    assert len(told(one_time(closed / "lines"), half(state))) == 1
    assert told(one_time(state / "none"), half(state)) == []  # told elsewhere


@ROOT
@pytest.mark.root
def test_what_systemd_gives_the_listener_at_its_first_start_is_no_finding(state: Path) -> None:
    path = state / "lines"
    path.touch(mode=0o600)
    assert len(told(one_time(path), half(state))) == 1
    os.chown(state, 0, 0)
    assert told(one_time(path), half(state)) == []
    assert len(told(one_time(path), half(state)._replace(states=()))) == 1


@ROOT
@pytest.mark.root
def test_a_state_directory_that_the_listener_cannot_write(tmp_path: Path, state: Path) -> None:
    def gate(folder: Path, text: str = SSH + KEYED) -> Configuration:
        return configuration(text.format(folder=tmp_path), f'state_directory = "{folder}"')

    other = tmp_path / "other"
    other.mkdir()
    assert told(gate(state), half(state)) == []
    assert told(gate(other, SSH), half(state)) == []  # it remembers nothing
    ((message, fix),) = told(gate(other), half(state))
    assert message == f"knockgate-listener cannot write in {other}, which is its state_directory"
    assert f"ReadWritePaths={other}" in fix and fix.endswith(f"chown -R nobody {other}")
    ((_, fix),) = told(gate(other), half(state, strict=False))
    assert fix == f"chown -R nobody {other}"
    os.chown(other, NOBODY.pw_uid, -1)
    assert told(gate(other), half(state, strict=False)) == []
    state.chmod(0o500)
    assert len(told(gate(state), half(state))) == 1


def test_what_systemd_says_of_a_unit() -> None:
    group = grp.getgrgid(NOBODY.pw_gid).gr_name
    said = {
        "User": "nobody",
        "Group": group,
        "SupplementaryGroups": "daemon",
        "ProtectSystem": "strict",
        "ReadWritePaths": "-/srv/x /srv/y",
        "StateDirectory": "knockgate",
        "RuntimeDirectory": "knockgate/listener",
    }
    found = units.read_confined(said)
    assert (found.user, found.uid) == ("nobody", NOBODY.pw_uid)
    assert found.groups >= {NOBODY.pw_gid, grp.getgrnam("daemon").gr_gid}
    assert found.states == ("/var/lib/knockgate",)
    for path in ("/srv/x", "/srv/y/z", "/var/lib/knockgate/marks", "/run/knockgate/listener"):
        assert found.reaches(path)
    for path in ("/srv", "/srv/xy", "/run/knockgate/warden", "/etc/knockgate"):
        assert not found.reaches(path)
    assert units.read_confined({**said, "ProtectSystem": "no"}).reaches("/etc/knockgate")
    assert units.read_confined({}).uid == 0
    with pytest.raises(Unavailable, match="no user no-such"):
        units.read_confined({**said, "User": "no-such"})
    with pytest.raises(Unavailable, match="not its group"):
        units.read_confined({**said, "Group": "no-such"})


@ROOT
@pytest.mark.root
def test_a_configuration_that_the_halves_cannot_read(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o750)
    file = folder / "gate.toml"
    file.write_text(f'[gate]\nrun_directory = "{state}"\n{SSH}')
    file.chmod(0o640)
    monkeypatch.setattr(units, "DEFAULT_PATH", file)
    monkeypatch.setattr(units, "confined", lambda _: half(state))

    def lacks() -> list[str]:
        return [f"{each.message}: {each.hint}" for each in units.on_units(doors.load(file))]

    warden, listener = lacks()
    message = f"cannot read {file}: {folder} is closed: chgrp knockgate {folder}; chmod g+rx {folder}"
    assert (warden, listener) == (f"knockgate-warden {message}", f"knockgate-listener {message}")
    os.chown(folder, -1, NOBODY.pw_gid)
    warden, _ = lacks()
    assert warden.endswith(f": {file} is closed: chgrp knockgate {file}; chmod g+r {file}")
    os.chown(file, -1, NOBODY.pw_gid)
    assert lacks() == []
    file.chmod(0o600)
    assert len(lacks()) == 2
    monkeypatch.setattr(units, "DEFAULT_PATH", tmp_path / "other")  # the units read another
    assert lacks() == []


def test_sockets_where_no_unit_makes_any(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "confined", lambda _: half(state))
    (found,) = units.on_units(configuration(SSH))
    assert found.message == "knockgate-warden makes no sockets in /run/knockgate"
    assert list(units.on_units(configuration(SSH, f'run_directory = "{state}"'))) == []


def test_without_units_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(*words: str) -> str:
        asked.append(words[2])
        return "User=root\n"

    monkeypatch.setattr(units, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(units, "_PASSING", str(tmp_path))
    monkeypatch.setattr(units, "output_of", answer)
    assert units.confined(units.LISTENER) is None and asked == []
    unit(str(tmp_path), units.LISTENER)
    found = units.confined(units.LISTENER)
    assert found and found.user == "root" and asked == [units.LISTENER]
    monkeypatch.setattr(units, "_PASSING", str(tmp_path / "none"))  # as in a container
    assert units.confined(units.LISTENER) is None and len(asked) == 1
