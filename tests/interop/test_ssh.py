"""docs/ssh.md as it stands: the real ssh, with its lines, to the real sshd behind a gate of ours."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import REPO
from tests.knockgate.cli.process import knockgate
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, HOST, Gate, connects, leases, network
from tests.knockgate.daemon.sealed_stage import make_gate
from tests.knockgate.spa import sealed_messages
from tests.knockgate.spa.sshkeys.signers import made
from tests.netns import DEADLINE, isolated, own_mounts, run, until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to let somebody in"),
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="there is no sshd, or no ssh"),
]

_BLOCK = re.compile(r"^```ssh-config\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLAIN, NAMED, PERSISTENT, MATCH = _BLOCK.findall((REPO / "docs" / "ssh.md").read_text())

SHORT, LONG = "3s", "1h"
DOOR = """
[doors.ssh]
ports = ["tcp/22"]
lease = "{lease}"
longest = "1h"
[doors.ssh.sequence]
steps = ["tcp/7000", "udp/7001"]
[keys.alice]
fwknop = "{folder}/alice.secrets"
doors = ["ssh"]
[keys.people]
ssh = "{folder}/home/.ssh/authorized_keys"
shared = true
doors = ["ssh"]
"""
KINDS = {
    "sequence": 'steps = ["tcp/7000", "udp/7001"]',
    "fwknop": 'fwknop = "{folder}/alice.secrets"\naccess = ["tcp/22"]',
    "sealed": 'card = "{folder}/card"\ndoors = ["ssh"]',
}
STILL_SHUT = f"knockgate: tcp/22 of home.example ({HOST}) is still filtered"


class Scene:
    """A gate, an sshd behind it, and who logs in there: the same user, whose home is a folder of the test."""

    def __init__(self, folder: Path, kind: str, lease: str) -> None:
        self._folder, self._home = folder, folder / "home"
        self.gate = Gate(folder)
        make_gate(folder)
        knockgate("key", "new", "--fwknop", "alice", "-o", str(folder / "alice.secrets"))
        self.gate.write(DOOR.format(lease=lease, folder=folder), gate='clock = "trusted"\n')
        self._write_home(KINDS[kind].format(folder=folder))
        run("mount", "--bind", str(self._home), pwd.getpwuid(0).pw_dir)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{HOST} home.example\n")
        run("mount", "--bind", str(folder / "hosts"), "/etc/hosts")

    def _write_home(self, knock: str) -> None:
        ssh = self._home / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        made(self._folder, "-t", "ed25519")  # sshd's
        made(ssh, "-t", "ed25519")
        for name in ("key", "key.pub"):
            (ssh / name).rename(ssh / name.replace("key", "id_ed25519"))
        shutil.copy(ssh / "id_ed25519.pub", ssh / "authorized_keys")
        (ssh / "known_hosts").write_text(f"home.example {(self._folder / 'key.pub').read_text()}")
        (self._folder / "card").write_text(sealed_messages.CARD.text() + "\n")
        (self._folder / "card").chmod(0o600)
        profiles = self._home / ".config" / "knockgate"
        profiles.mkdir(parents=True)
        (profiles / "profiles.toml").write_text(
            f'[profiles.home]\nhost = "home.example"\nwait = "tcp/22"\n{knock}\n'
        )
        programs = self._folder / "programs"
        programs.mkdir()
        (programs / "knockgate").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m knockgate "$@"\n'
        )
        (programs / "knockgate").chmod(0o755)
        self._environment = {
            "HOME": pwd.getpwuid(0).pw_dir,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPO / "src"),
        }

    def configure(self, block: str) -> None:
        (self._home / ".ssh" / "config").write_text(block)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        with running.client:
            return subprocess.Popen(words, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe)

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        with running.client:
            return subprocess.run(
                words,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=2 * DEADLINE,
                check=False,
            )

    def succeeds(self, *words: str) -> bytes:
        """What it printed, and nothing on standard error."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, b""), f"{done.stderr.decode()}{self.gate.log()}"
        return done.stdout

    def opened(self) -> int:
        """How often the gate has opened the door. One opening that comes late is not counted yet."""
        return self.gate.log().count(f"open ssh for {CLIENT} ")

    def until_opened(self, times: int) -> None:
        until(lambda: self.opened() >= times, f"{times} openings")
        assert self.opened() == times

    def until_knocks(self, number: int) -> None:
        """Sealed ones that were good; the same lease may have been longer already."""
        until(lambda: self.gate.status()["sealed"]["opened"] >= number, f"{number} knocks")
        assert self.gate.status()["sealed"]["opened"] == number

    def close(self) -> None:
        """The door, as an admin does."""
        done = knockgate("close", "ssh", CLIENT, "--config", str(self.gate.file))
        assert done.returncode == 0, done.stderr
        assert not connects(22)


@contextlib.contextmanager
def scene(folder: Path, kind: str, *, lease: str = LONG) -> Iterator[Scene]:
    own_mounts()
    with network():
        found = Scene(folder, kind, lease)
        with _sshd(folder):
            assert connects(22)  # the control: what keeps people out from here on is the gate
            found.gate.start()
            assert not connects(22)
            yield found
            assert found.gate.end() == 0, found.gate.log()


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[None]:
    Path("/run/sshd").mkdir()
    words = [
        "Port=22",
        f"HostKey={folder / 'key'}",
        "PidFile=none",
        "StrictModes=no",
        "UsePAM=no",
        "PermitRootLogin=yes",
        "PasswordAuthentication=no",
        "Subsystem=sftp internal-sftp",
    ]
    options = [part for word in words for part in ("-o", word)]
    command = [str(SSHD), "-D", "-f", "/dev/null", "-E", str(folder / "sshd.log"), *options]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: ":22 " in run("ss", "-Hltn"), "sshd listens")
            yield
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_ssh_enters_and_stays_in_after_the_lease(kind: str, tmp_path: Path) -> None:
    with scene(tmp_path, kind, lease=SHORT) as here:
        here.configure(PLAIN)
        session = here.start("ssh", "home.example", "cat")
        assert session.stdin and session.stdout
        for word in (b"inside\n", b"and still\n"):
            session.stdin.write(word)
            session.stdin.flush()
            assert session.stdout.readline() == word
            until(lambda: not leases(), "the lease ends")
            assert not connects(22)  # the control: without it nobody comes in anew
        assert session.communicate(timeout=DEADLINE) == (b"", b"")
        assert session.returncode == 0
        assert here.succeeds("ssh", "home.example", "echo again") == b"again\n"
        here.until_opened(2)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_an_open_door_is_not_knocked_at(kind: str, tmp_path: Path) -> None:
    with scene(tmp_path, kind) as here:
        here.configure(NAMED)
        for _ in range(2):
            assert here.succeeds("ssh", "home", "echo in") == b"in\n"
        here.until_opened(1)
        here.close()  # the control
        assert here.succeeds("ssh", "home", "echo in") == b"in\n"
        here.until_opened(2)


@isolated
def test_several_at_once(tmp_path: Path) -> None:
    with scene(tmp_path, "sealed") as here:
        here.configure(PLAIN)
        several = [here.start("ssh", "home.example", f"echo {number}") for number in range(3)]
        for number, each in enumerate(several):
            assert each.communicate(timeout=2 * DEADLINE) == (f"{number}\n".encode(), b"")


@isolated
def test_what_runs_ssh_runs_this(tmp_path: Path) -> None:
    with scene(tmp_path, "sealed") as here:
        here.configure(PLAIN)
        big = tmp_path / "big"
        big.write_bytes(os.urandom(20_000_000))
        there, back = tmp_path / "there", tmp_path / "back"
        here.succeeds("scp", "-q", str(big), f"home.example:{there}")
        here.close()
        here.succeeds("scp", "-q", f"home.example:{there}", str(back))
        assert back.read_bytes() == big.read_bytes()
        here.until_opened(2)
        if shutil.which("git"):
            here.close()
            run("git", "init", "-q", "--bare", str(tmp_path / "here.git"))
            here.succeeds("git", "-c", "safe.directory=*", "ls-remote", f"home.example:{tmp_path}/here.git")
            here.until_opened(3)
        if shutil.which("rsync"):
            here.close()
            here.succeeds("rsync", str(big), f"home.example:{tmp_path}/synchronised")
            assert (tmp_path / "synchronised").read_bytes() == big.read_bytes()


@isolated
def test_sessions_over_one_connection_need_no_lease(tmp_path: Path) -> None:
    with scene(tmp_path, "sealed") as here:
        here.configure(PERSISTENT)
        assert here.succeeds("ssh", "home.example", "echo one") == b"one\n"
        here.close()
        assert here.succeeds("ssh", "home.example", "echo two") == b"two\n"
        assert here.opened() == 1
        assert here.succeeds("ssh", "-o", "ControlPath=none", "home.example", "echo three") == b"three\n"
        here.until_opened(2)  # the control
        here.run("ssh", "-O", "exit", "home.example")


@isolated
def test_what_it_says_when_the_door_stays_shut(tmp_path: Path) -> None:
    with scene(tmp_path, "sealed") as here:
        config = PERSISTENT.replace("connect", "connect --timeout 0.2")
        here.configure(config)
        authorized = tmp_path / "home" / ".ssh" / "authorized_keys"
        authorized.write_text("# nobody\n")
        said = here.run("ssh", "-o", "ControlPersist=no", "home.example", "true")
        assert said.returncode == 255
        lines = said.stderr.decode().splitlines()
        assert lines[0].startswith(STILL_SHUT)
        assert any("knockgate explain" in line for line in lines)
        assert lines[-1].endswith("closed by UNKNOWN port 65535")
        hidden = here.run("ssh", "home.example", "true")
        assert (hidden.returncode, b"knockgate" in hidden.stderr) == (255, False)
        in_time = config.replace("0.2", "10s") + "    ConnectTimeout 1\n"
        here.configure(in_time)
        late = here.run("ssh", "-o", "ControlPersist=no", "home.example", "true")
        assert (late.returncode, b"timed out during banner exchange" in late.stderr) == (255, True)


@isolated
def test_by_itself_it_shows_what_is_done(tmp_path: Path) -> None:
    with scene(tmp_path, "sealed") as here:
        done = here.run("knockgate", "connect", "-v", "home.example", "22")
        assert (done.returncode, done.stdout.startswith(b"SSH-2.0-")) == (0, True)
        tried, knocked, signed, opened = done.stderr.decode().splitlines()
    assert tried == f"knockgate: tcp/22 of home.example ({HOST}) is filtered"
    assert knocked.startswith(f"knockgate: sent a sealed knock to home.example ({HOST}), udp/62202")
    assert signed.startswith("knockgate: signed with SHA256:")
    assert opened.startswith("knockgate: tcp/22 is open, ")


@isolated
def test_a_knock_before_every_connection(tmp_path: Path) -> None:
    """Its own question of `ssh -G` does not make it knock again and again."""
    with scene(tmp_path, "sealed") as here:
        here.configure(MATCH)
        for number in (1, 2):
            assert here.succeeds("ssh", "home.example", "echo in") == b"in\n"
            here.until_knocks(number)
        assert b"serveraliveinterval 30" in here.succeeds("ssh", "-T", "-G", "home.example")
        here.until_knocks(3)
        here.close()
        (tmp_path / "home" / ".ssh" / "authorized_keys").write_text("# nobody\n")
        without = here.run("ssh", "-T", "-G", "home.example")
        assert (without.returncode, b"serveraliveinterval 0" in without.stdout) == (0, True)
        assert b"knockgate explain" in without.stderr
