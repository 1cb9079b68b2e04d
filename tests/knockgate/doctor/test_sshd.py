"""What a real sshd says that it reads, and where it listens."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest
from tests.knockgate.cli.sealed_gates import LINE, initialised
from tests.knockgate.doctor.looking import SSH, host, kinds, of
from tests.netns import isolated, own_mounts, run

from knockgate.config import doors
from knockgate.doctor import sshd
from knockgate.doctor.finding import Finding, Kind
from knockgate.doctor.host import Host
from knockgate.doctor.sshd import Account, files_of
from knockgate.model import Port, Protocol

needs_sshd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sshd", path="/usr/sbin:/usr/bin") is None,
    reason="there is no sshd, or no root to ask it",
)
NAME = pwd.getpwuid(65534).pw_name


def configured(folder: Path, *lines: str) -> None:
    """The machine's sshd has these lines; what it would be without is its own business."""
    if not (folder / "ssh").exists():
        own_mounts()
        Path("/run/sshd").mkdir(mode=0o755)
        (folder / "ssh").mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "ssh/ssh_host_ed25519_key"))
        run("mount", "--bind", str(folder / "ssh"), "/etc/ssh")
    (folder / "ssh/sshd_config").write_text("".join(f"{line}\n" for line in lines))


def there(known: Host | None = None) -> list[Finding]:
    return list(sshd.examine(known or host()))


@needs_sshd
@pytest.mark.root
@isolated
def test_an_option_of_ours_locks_out(tmp_path: Path) -> None:
    keys = tmp_path / "keys-root"
    configured(tmp_path, f"AuthorizedKeysFile {tmp_path}/keys-%u {tmp_path}/more/%%/%U")
    assert kinds(there()) == set()
    keys.write_text(f"# mine\nno-pty {LINE}\n")
    assert kinds(there()) == set()
    keys.write_text(f'# mine\ndoors="ssh" {LINE}\n')
    assert kinds(there()) == {Kind.LOCKED_OUT}
    assert of(there(), Kind.LOCKED_OUT).seen == f"{keys}:2 has doors="
    keys.unlink()
    assert kinds(there()) == set()
    other = tmp_path / "more" / "%" / "65534"
    other.parent.mkdir(parents=True)
    other.write_text(f'no-pty,max-lease="1h" {LINE}\n')
    assert of(there(), Kind.LOCKED_OUT).seen == f"{other}:1 has max-lease="


@needs_sshd
@pytest.mark.root
@isolated
def test_a_file_that_is_read_of_one_user_alone(tmp_path: Path) -> None:
    keys = tmp_path / "special"
    keys.write_text(f'doors="ssh" {LINE}\n')
    file = f"AuthorizedKeysFile {tmp_path}/keys-%u"
    configured(tmp_path, file)
    assert kinds(there()) == set()
    configured(tmp_path, file, f"Match User {NAME}", f"AuthorizedKeysFile {keys}")
    assert kinds(there()) == {Kind.LOCKED_OUT}


@needs_sshd
@pytest.mark.root
@isolated
def test_what_is_included_counts_too(tmp_path: Path) -> None:
    keys, file = tmp_path / "special", f"AuthorizedKeysFile {tmp_path}/keys-%u"
    keys.write_text(f'doors="ssh" {LINE}\n')
    configured(tmp_path, file, "Include more/*.conf", f"Include {tmp_path}/ssh/other")
    assert kinds(there()) == set()
    (tmp_path / "ssh" / "more").mkdir()
    (tmp_path / "ssh" / "more" / "x.conf").write_text(
        f'Match Address 10.0.0.0/8\nAuthorizedKeysFile="{keys}"\n'
    )
    assert kinds(there()) == {Kind.LOCKED_OUT}
    (tmp_path / "ssh" / "more" / "x.conf").write_text(
        f"Match Address 10.0.0.0/8\n#AuthorizedKeysFile {keys}\n"
    )
    assert kinds(there()) == set()
    (tmp_path / "ssh" / "other").write_text(
        "Include /etc/ssh/other\n"
    )  # sshd refuses that; we come to an end
    assert Kind.NOT_LOOKED_AT in kinds(there())


def test_too_many_users_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[Finding]:
        return sshd._all_files(sshd.settings_of("authorizedkeysfile /nonexistent/%u"))[1]

    assert said() == []
    monkeypatch.setattr(sshd, "_MOST_USERS", 2)
    assert kinds(said()) == {Kind.NOT_LOOKED_AT}


def test_homes_of_users_whom_nobody_lists(tmp_path: Path) -> None:
    (tmp_path / "jo").mkdir()
    assert Account("jo", os.getuid(), str(tmp_path / "jo")) in sshd._accounts(tmp_path)
    listed = list(sshd._accounts(tmp_path / "nowhere"))
    assert [each.name for each in listed] == [each.pw_name for each in pwd.getpwall()]


@needs_sshd
@pytest.mark.root
@isolated
def test_a_file_that_the_gate_takes_for_its_own(tmp_path: Path) -> None:
    configured(tmp_path, f"AuthorizedKeysFile {tmp_path}/people")
    gate = initialised(tmp_path)
    known = Host(doors.load(gate.config), gate.config)
    assert kinds(there(known)) == {Kind.WOULD_LOCK_OUT}
    text = Path(gate.config).read_text()
    Path(gate.config).write_text(text.replace("[keys.people]\n", "[keys.people]\nshared = true\n"))
    assert "shared = true" in Path(gate.config).read_text()
    assert kinds(there(Host(doors.load(gate.config), gate.config))) == set()


@needs_sshd
@pytest.mark.root
@isolated
def test_ports_that_no_door_guards(tmp_path: Path) -> None:
    configured(tmp_path, "Port 22")
    assert kinds(there()) == set()
    configured(tmp_path, "Port 22", "Port 2222")
    assert kinds(there()) == {Kind.SSHD_ELSEWHERE}
    assert "tcp/2222" in of(there(), Kind.SSHD_ELSEWHERE).seen
    assert kinds(there(host(SSH.replace('"tcp/22"', '"tcp/22", "tcp/2222"')))) == set()
    configured(
        tmp_path, "ListenAddress 0.0.0.0:22", "ListenAddress 127.0.0.1:2222", "ListenAddress [::1]:2223"
    )
    assert kinds(there()) == set()
    configured(tmp_path, "Port 2222")
    assert kinds(there()) == set()  # it is not what the door hides


@needs_sshd
@pytest.mark.root
@isolated
def test_keys_that_a_program_prints(tmp_path: Path) -> None:
    configured(tmp_path, "AuthorizedKeysCommand none")
    assert kinds(there()) == set()
    configured(tmp_path, "AuthorizedKeysCommand /bin/true", f"AuthorizedKeysCommandUser {NAME}")
    assert kinds(there()) == {Kind.KEYS_BY_COMMAND}


@needs_sshd
@pytest.mark.root
@isolated
def test_where_sshd_does_not_tell_its_usual_files_are_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text(f'doors="ssh" {LINE}\n')
    configured(tmp_path)
    assert kinds(there()) == set()
    run("mount", "--bind", str(home), pwd.getpwuid(0).pw_dir)
    assert kinds(there()) == {Kind.LOCKED_OUT}
    Path("/run/sshd").rmdir()
    found = there()
    assert kinds(found) == {Kind.LOCKED_OUT, Kind.NOT_LOOKED_AT}
    assert "mkdir -m 755 /run/sshd" in of(found, Kind.NOT_LOOKED_AT).fix
    Path("/run/sshd").mkdir(mode=0o755)
    configured(tmp_path, "NoSuchWord yes")
    assert "sshd -t" in of(there(), Kind.NOT_LOOKED_AT).fix


def test_no_sshd_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("knockgate.doctor.host._FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kinds(there()) == set()


def test_what_cannot_be_read_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(sshd, "_read", forbidden)
    (found,) = sshd._on_files(["/a", "/b", "/c"])
    assert found.kind is Kind.NOT_LOOKED_AT
    assert found.seen == "could not look at the keys in /a (Permission denied) and 2 more"


def test_what_is_no_file_of_keys_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text(f'doors="ssh" {LINE}\n')
    assert (
        list(sshd._on_files([str(tmp_path / "pipe"), str(tmp_path), "/dev/zero", str(tmp_path / "file/x")]))
        == []
    )
    assert kinds(sshd._on_files([str(tmp_path / "link")])) == {Kind.LOCKED_OUT}
    (tmp_path / "file").write_text("#" * (300 * 1024))
    assert kinds(sshd._on_files([str(tmp_path / "file")])) == {Kind.NOT_LOOKED_AT}


def test_patterns_of_files() -> None:
    jo = Account("jo", 1000, "/home/jo/")
    patterns = [".ssh/a", "/etc/k/%u", "%h/b", "/x/%U/%%u"]
    assert list(files_of(jo, patterns)) == ["/home/jo/.ssh/a", "/etc/k/jo", "/home/jo//b", "/x/1000/%u"]


def test_ports_are_read_as_sshd_prints_them() -> None:
    text = "port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:2222\nlistenaddress [fe80::1%eth0]:23\n"
    found = sshd.settings_of(text + "listenaddress 127.0.0.1:24\nauthorizedkeysfile none\n")
    assert found.ports == {Port(Protocol.TCP, number) for number in (22, 2222, 23)}
    assert found.files == ()
    assert not found.command
