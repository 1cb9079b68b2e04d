"""``knockgate init``: who may knock, in its own words or as it asks for them on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.process import command, environment, knockgate
from tests.knockgate.cli.sealed_gates import LINE
from tests.netns import isolated, own_mounts, run

from knockgate.cli import firstgate
from knockgate.config import doors, keys
from knockgate.config.toml import Wrong
from knockgate.model import Port, Protocol

RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDRPDHd9Yq+pRFVdz8= old"


@isolated
def test_a_user_is_whoever_may_log_in_as_them() -> None:
    own_mounts()
    home = Path("/var/lib/jo")
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    file = home / ".ssh" / "authorized_keys"
    Path("/run/passwd").write_text(
        Path("/etc/passwd").read_text()
        + f"jo:x:4711:4711::{home}:/bin/sh\nann:x:4712:4712::/nonexistent:/bin/sh\n"
    )
    run("mount", "--bind", "/run/passwd", "/etc/passwd")
    with pytest.raises(Wrong, match=r"no key could knock: .*there is no such file"):
        firstgate.of_users(["jo"])
    file.write_text(f"{RSA}\n{LINE}\n")
    for each in (home, home / ".ssh", file):
        os.chown(each, 4711, 4711)
    found = firstgate.who("jo")
    assert found.lines == ('ssh = "%h/.ssh/authorized_keys"', 'users = ["jo"]')
    assert found.number == 1 and len(found.flaws) == 1
    assert firstgate.who(str(file)).lines == (f'ssh = "{file}"', 'users = ["jo"]')
    os.environ["SUDO_USER"] = "jo"
    assert firstgate.likely_user() == "jo"
    os.environ["SUDO_USER"] = "ann"
    assert firstgate.likely_user() == ""
    file.write_text(RSA)
    with pytest.raises(Wrong, match=r"no key could knock: .*:1: an RSA key cannot knock") as wrong:
        firstgate.who("jo")
    assert "ssh-keygen -t ed25519" in (wrong.value.hint or "")


def test_a_file_of_roots_that_sshd_reads_is_shared(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    file = tmp_path / ".ssh" / "authorized_keys"
    file.write_text(LINE)
    assert firstgate.who(str(file)).lines == (f'ssh = "{file}"', "shared = true")
    odd = tmp_path / "50%u"
    odd.write_text(LINE)
    assert firstgate.who(str(odd)).lines == (f'ssh = "{tmp_path}/50%%u"',)
    for word, message in (
        (str(tmp_path / "none"), "No such file"),
        ("~nobody-of-that-name/keys", "No such file"),
        ("nobody-of-that-name", "there is no user 'nobody-of-that-name'"),
        ("", "nobody could knock"),
        (RSA, "RSA"),
        ("ssh-ed25519 AAAA", "this is no key of the kind"),
    ):
        with pytest.raises(Wrong, match=message):
            firstgate.who(word)
    assert firstgate.who(LINE).pasted == LINE


def test_what_a_door_is_called() -> None:
    assert firstgate.door_of(Port(Protocol.TCP, 22)) == "ssh"
    assert firstgate.door_of(Port(Protocol.TCP, 7)) in ("echo", "door")
    assert firstgate.door_of(Port(Protocol.TCP, 6543)) == "door"


# --- on a terminal ------------------------------------------------------------------------------------


class Terminal:
    """Somebody who types."""

    def __init__(self, *argv: str, **variables: str) -> None:
        self._near, self._far = pty.openpty()
        env = environment(PYTHONPATH=str(Path(__file__).parents[3] / "src"), **variables)
        self.process = subprocess.Popen(
            command(*argv), env=env, stdin=self._far, stdout=self._far, stderr=self._far
        )
        os.close(self._far)
        self.shown = ""

    def reads(self, text: str) -> None:
        """Wait until it has been shown, since the last time."""
        while text not in self.shown:
            self.shown += os.read(self._near, 4096).decode()
        self.shown = self.shown.partition(text)[2]

    def types(self, line: str) -> None:
        os.write(self._near, line.encode() + b"\n")

    def ends(self) -> tuple[int, str]:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(self._near, 4096):
                self.shown += chunk.decode()
        os.close(self._near)
        return self.process.wait(30), self.shown.replace("\r", "")


def test_three_questions(tmp_path: Path) -> None:
    places = ["--config", str(tmp_path / "etc" / "gate.toml"), "--state", str(tmp_path / "state")]
    terminal = Terminal("init", *places, "-o", str(tmp_path / "first.card"), SUDO_USER="")
    terminal.reads("which port is to be guarded [tcp/22]: ")
    terminal.types("ssh")
    terminal.reads("'ssh' is no port")
    terminal.reads("which port is to be guarded [tcp/22]: ")
    terminal.types("")
    terminal.reads("who may knock")
    terminal.types("nobody-of-that-name")
    terminal.reads("there is no user")
    terminal.reads("who may knock")
    terminal.types(LINE)
    terminal.reads("for how long does it open [15s]: ")
    terminal.types("never")
    terminal.reads("'never' is no time")
    terminal.reads("for how long does it open [15s]: ")
    terminal.types("30s")
    status, shown = terminal.ends()
    assert status == 0, shown
    assert "tcp/22 opens to 1 SSH key, for 30s" in shown
    assert (tmp_path / "etc" / "authorized_keys").read_text() == LINE + "\n"
    config = tmp_path / "etc" / "gate.toml"
    (group,) = keys.load_ssh(config, doors.load(config))
    assert [each.path for each in group.files] == [str(tmp_path / "etc" / "authorized_keys")]
    checked = knockgate("check", "--strict", str(config))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("mode", "wanted"), [(0o777, 2), (0o755, 0)])
def test_a_key_that_nobody_would_believe_makes_no_gate(mode: int, wanted: int, tmp_path: Path) -> None:
    """It was pasted, so its file is looked at when it is there; all that was made goes again."""
    folder = tmp_path / "etc"
    folder.mkdir()
    folder.chmod(mode)
    places = ["--config", str(folder / "gate.toml"), "--state", str(tmp_path / "state")]
    terminal = Terminal("init", *places, "-o", str(tmp_path / "first.card"), SUDO_USER="")
    for question, answer in (("which port", ""), ("who may knock", LINE), ("for how long", "")):
        terminal.reads(question)
        terminal.types(answer)
    status, shown = terminal.ends()
    assert status == wanted, shown
    if not wanted:
        assert knockgate("check", "--strict", str(folder / "gate.toml")).returncode == 0
        return
    assert f"knockgate: no key could knock: {folder}/authorized_keys: " in shown
    assert "  hint: chmod go-w " in shown and "1 SSH key" not in shown
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_who_leaves_has_made_nothing(tmp_path: Path) -> None:
    places = ["--config", str(tmp_path / "gate.toml"), "--state", str(tmp_path / "state")]
    terminal = Terminal("init", *places, SUDO_USER="")
    terminal.reads("which port is to be guarded")
    terminal.types("")
    terminal.reads("who may knock")
    terminal.types("\4")  # the end of what is typed
    assert terminal.ends()[0] == 130
    assert list(tmp_path.iterdir()) == []
