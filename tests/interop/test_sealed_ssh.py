"""Whoever may log in may knock: the real ssh, by ProxyCommand, to the real sshd of a host with users.

What docs/ssh.md says is tested in ``test_ssh.py``, with a key in a file. Here are the other ways to have one:
agents, also those that ask, passphrases and tokens; and sshd is as strict with files as it is by default.
"""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.sealed import Gate, Person, environment, line, machine, root
from tests.knockgate.client import agents, software_token
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, connects, leases
from tests.knockgate.spa.sshkeys.signers import keygen, made
from tests.netns import DEADLINE, isolated, run, until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    *root,
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="there is no sshd, or no ssh"),
]

WORDS = "open sesame"
_CONFIG = """
Host home.example
    User jo
    PreferredAuthentications publickey
    ProxyCommand knockgate connect %h %p
"""


class Host:
    """A host with the user jo, sshd, and a gate before it; and jo at another machine, who is root there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/home")
        for file, entry in (("passwd", "jo:*:4000:4000::/home/jo:/bin/sh"), ("group", "jo:x:4000:")):
            with Path("/etc", file).open("a", encoding="utf-8") as stream:
                stream.write(f"{entry}\n")
        self.authorized = Path("/home/jo/.ssh/authorized_keys")
        self.authorized.parent.mkdir(parents=True, mode=0o700)
        self.jo = Person(folder / "jo")
        run("mount", "--bind", str(self.jo.home), pwd.getpwuid(0).pw_dir)
        self.jo.others |= {"HOME": pwd.getpwuid(0).pw_dir}
        made(folder, "-t", "ed25519")  # sshd's
        (self.ssh / "known_hosts").write_text(f"home.example {(folder / 'key.pub').read_text()}")
        (self.ssh / "config").write_text(_CONFIG)
        programs = folder / "programs"
        programs.mkdir()
        (programs / "knockgate").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m knockgate "$@"\n'
        )
        (programs / "knockgate").chmod(0o755)
        self.jo.others["PATH"] = f"{programs}:{os.environ['PATH']}"

    @property
    def ssh(self) -> Path:
        return self.jo.home / ".ssh"

    def authorize(self, *lines: str) -> None:
        """As jo would."""
        self.authorized.write_text("".join(f"{each}\n" for each in lines))
        self.authorized.chmod(0o600)
        for each in (self.authorized, *self.authorized.parents[:2]):
            os.chown(each, 4000, 4000)

    def log_in(self, *options: str, name: str = "home.example") -> subprocess.CompletedProcess[str]:
        with running.client:
            return subprocess.run(
                ["ssh", *options, name, "id -un"],
                env=self.jo.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=2 * DEADLINE,
                check=False,
                start_new_session=True,
            )

    def enters(self, gate: Gate) -> None:
        """Once, by a knock; then the door is shut again."""
        assert leases() == set()
        before = gate.sealed()["opened"]
        done = self.log_in()
        assert (done.returncode, done.stdout) == (0, "jo\n"), done.stderr + gate.log()
        gate.until_opened(before + 1)
        assert leases() == {("tcp/22", CLIENT, "packet")}
        gate.close()

    def may_log_in(self) -> bool:
        """Where there is no gate: what sshd says."""
        done = self.log_in("-p", "2222", "-o", "ProxyCommand=none", "-o", "HostKeyAlias=home.example")
        assert done.stdout == ("jo\n" if done.returncode == 0 else ""), done.stderr
        return done.returncode == 0

    def stays_out(self, gate: Gate, reason: str) -> None:
        before = gate.sealed()["refused"].get(reason, 0)
        done = self.log_in("-o", "ProxyCommand=knockgate connect --timeout 0.2 %h %p")
        assert done.returncode == 255 and "is still filtered" in done.stderr, done.stderr
        until(lambda: gate.sealed()["refused"].get(reason, 0) > before, reason)
        assert leases() == set()


@contextlib.contextmanager
def host(folder: Path, *kinds: str) -> Iterator[tuple[Host, Gate, list[Path]]]:
    """With a key of each of these kinds, all of which may log in."""
    with machine(folder, answers=False):
        found = Host(folder)
        keys = [found.jo.key(kind) for kind in kinds or ("ed25519",)]
        found.authorize(*map(line, keys))
        gate = Gate(folder, user="jo")
        with _sshd(folder):
            assert found.may_log_in()  # the control: what keeps jo out from here on is the gate
            gate.start()
            assert not connects(22)
            shown = gate.card.read_text()
            found.jo.does("trust", "home", "home.example", "-", "--wait", "tcp/22", text=shown)
            yield found, gate, keys
            gate.end()


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[None]:
    """As strict as it is by default."""
    Path("/run/sshd").mkdir()
    words = ["Port=22", "Port=2222", f"HostKey={folder / 'key'}", "PidFile=none", "UsePAM=no"]
    words.append("Subsystem=sftp internal-sftp")
    options = [part for word in words for part in ("-o", word)]
    command = [str(SSHD), "-D", "-f", "/dev/null", "-E", str(folder / "sshd.log"), *options]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: {":22 ", ":2222 "} <= set(re.findall(r":\d+ ", run("ss", "-Hltn"))), "sshd listens")
            yield
        finally:
            process.terminate()


@isolated
def test_who_may_log_in_may_knock_and_nobody_else(tmp_path: Path) -> None:
    """Keys that ssh finds by itself; then a file that sshd does not believe, and an option of ours in it."""
    with host(tmp_path, "ed25519", "ecdsa") as (there, gate, (key, other)):
        there.enters(gate)
        there.authorize(line(other))
        there.enters(gate)
        for file, wrong, right in ((there.authorized, 0o602, 0o600), (there.authorized.parent, 0o707, 0o700)):
            file.chmod(wrong)
            if file != there.authorized:
                there.authorize(line(other))  # folders are looked at when a file is read, which it is now
            assert not there.may_log_in()
            there.stays_out(gate, "unknown-key")
            file.chmod(right)
            there.enters(gate)
        there.authorize(f'doors="ssh" {line(key)}', line(other))
        warned = _checked(gate)
        assert f"{there.authorized}:1: " in warned and "doors" in warned
        there.enters(gate)  # it costs nobody but whoever has that line
        there.authorize(f'doors="ssh" {line(key)}')
        assert not there.may_log_in()
        there.stays_out(gate, "unknown-key")
        there.authorize(line(key))
        assert there.may_log_in() and str(there.authorized) not in _checked(gate)
        there.enters(gate)


_ALIAS = """
Host h
    HostName home.example
    User jo
    IdentityFile ~/.ssh/elsewhere
    IdentitiesOnly yes
    PreferredAuthentications publickey
    ProxyCommand knockgate connect --profile home {} --timeout 0.5 %h %p
"""


@isolated
def test_a_name_that_only_ssh_knows_has_its_keys(tmp_path: Path) -> None:
    """`--ssh-host %n`, or the profile's `ssh_host`; the control has neither, and so asks for other keys."""
    with host(tmp_path) as (there, gate, (key,)):
        key.rename(there.ssh / "elsewhere")
        key.with_name(f"{key.name}.pub").unlink()
        config = there.ssh / "config"
        config.write_text(_ALIAS.format(""))
        alone = there.log_in(name="h")
        assert alone.returncode == 255 and "there is no SSH key for home.example" in alone.stderr
        config.write_text(_ALIAS.format("--ssh-host %n"))
        done = there.log_in(name="h")
        assert (done.returncode, done.stdout) == (0, "jo\n"), done.stderr + gate.log()
        gate.until_opened(1)
        gate.close()
        config.write_text(_ALIAS.format(""))
        profile = there.jo.home / ".config" / "knockgate" / "profiles.toml"
        profile.write_text(f'{profile.read_text()}ssh_host = "h"\n')
        assert there.log_in(name="h").stdout == "jo\n"
        gate.until_opened(2)


def _checked(gate: Gate) -> str:
    """What `knockgate check` warns of."""
    words = [sys.executable, "-m", "knockgate", "check", str(gate.file)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@isolated
def test_an_agent_that_asks_before_it_signs(tmp_path: Path) -> None:
    """`ssh-add -c`: it is asked for the knock, and for the login, and a no keeps both out."""
    with host(tmp_path) as (there, gate, (key,)):
        answers = tmp_path / "answers"
        answers.write_text("")
        says = agents.askpass(tmp_path, f'echo "$1" >>{answers}; test -e {tmp_path}/yes')
        with agents.real(tmp_path / "agent", environment=says) as agent:
            agents.add(agent, "-c", key)
            key.unlink()
            there.jo.others["SSH_AUTH_SOCK"] = str(agent)
            done = there.log_in("-o", "ProxyCommand=knockgate connect --timeout 0.2 %h %p")
            assert done.returncode == 255 and "nobody confirmed" in done.stderr, done.stderr
            assert answers.read_text().count("Allow use of key") == 1
            assert gate.sealed() | {"clock": {}} == {
                "opened": 0,
                "refused": {},
                "keys": 1,
                "strangers": {},
                "clock": {},
            }
            (tmp_path / "yes").touch()
            there.enters(gate)
            assert answers.read_text().count("Allow use of key") == 3


@isolated
def test_a_passphrase_at_the_terminal_and_by_a_program(tmp_path: Path) -> None:
    """ssh's standard input is the session's, and that of `connect` the connection: the terminal is asked."""
    with host(tmp_path) as (there, gate, (key,)):
        keygen("-q", "-p", "-a", "1", "-P", "", "-N", WORDS, "-f", key)
        nobody = there.log_in("-o", "ProxyCommand=knockgate connect --timeout 0.2 %h %p")
        assert (nobody.returncode, leases()) == (255, set())
        assert gate.sealed()["opened"] == 0
        shown = _at_a_terminal(there)
        assert shown.count("passphrase") == 2 and "\njo\r" in shown and WORDS not in shown
        gate.until_opened(1)
        gate.close()
        asked = agents.askpass(tmp_path, f"echo {WORDS}")
        there.jo.others |= {each: asked[each] for each in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE")}
        there.enters(gate)


def _at_a_terminal(there: Host) -> str:
    """What somebody sees who types the passphrase whenever they are asked."""
    words = ["ssh", "home.example", "id -un"]
    with running.client:
        child, near = pty.fork()
        if child == 0:
            os.execvpe("ssh", words, there.jo.environment)  # noqa: S606 - what a terminal's parent does
    shown, answered = "", 0
    try:
        with contextlib.suppress(OSError):  # it has ended
            while True:
                shown += os.read(near, 4096).decode()
                if len(re.findall(r"passphrase[^:]*: ?", shown)) > answered:
                    os.write(near, f"{WORDS}\n".encode())
                    answered += 1
    finally:
        os.close(near)
        os.waitpid(child, 0)
    return shown


@isolated
def test_a_token(tmp_path: Path) -> None:
    """One in a library, for the real ssh, ssh-keygen and sshd: touched for the knock and for the login."""
    with host(tmp_path) as (there, gate, (key,)):
        library = software_token.built(tmp_path)
        asked = agents.askpass(tmp_path, "true")
        there.jo.others |= {each: asked[each] for each in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE")}
        (there.ssh / "config").write_text(f"{_CONFIG}    SecurityKeyProvider {library}\n")
        there.enters(gate)
        key.unlink()
        for number, kind in enumerate(("ed25519-sk", "ecdsa-sk"), 2):
            made_one = software_token.enrolled(there.ssh, library, kind)
            token = made_one.rename(there.ssh / f"id_{kind.replace('-', '_')}")
            pub = made_one.with_name(f"{kind}.pub").rename(there.ssh / f"{token.name}.pub")
            there.authorize("# nobody")
            there.stays_out(gate, "unknown-key")
            there.authorize(pub.read_text().strip())
            there.enters(gate)
            assert gate.newest()["result"] == "opened" and gate.sealed()["opened"] == number
            token.unlink()
