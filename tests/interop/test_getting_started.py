"""docs/getting-started.md, block by block, typed at a host with the real sshd and at a machine elsewhere.

What is not run is the set-up of a folder for Python, which fetches packages.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import REPO
from tests.interop.sealed import environment, line, machine, root
from tests.interop.test_sealed_ssh import SSHD, Host, _sshd
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, OTHER, connects, leases
from tests.netns import DEADLINE, isolated, until

pytestmark = [*root, pytest.mark.skipif(SSHD is None, reason="there is no sshd")]

PAGE = (REPO / "docs" / "getting-started.md").read_text()
_SECTION = re.compile(r"(?ms)^## (.*?)$\n(.*?)(?=^## |\Z)")
_BLOCK = re.compile(r"(?ms)^```([\w-]+)\n(.*?)^```$")
#: How a command ends that is to fail.
FAILS = {"ssh -o ConnectTimeout=2": 255}


def blocks(section: str) -> list[tuple[str, str]]:
    (text,) = (body for title, body in _SECTION.findall(PAGE) if title == section)
    return _BLOCK.findall(text)


def commands(block: str) -> list[tuple[str, str, str]]:
    """(# or $, what is typed, what the page shows of the answer, which may be nothing)."""
    found: list[tuple[str, str, str]] = re.findall(r"(?m)^([#$]) (.*)\n((?:(?![#$] ).*\n)*)", block)
    return found


def shape(text: str) -> str:
    """What is the same for each host, key and day."""
    found = re.sub(r"SHA256:\S+ \(\S+\)", "KEY", text.replace("\r", ""))
    return " ".join(re.sub(r"\d+", "N", found).split())


class Reader:
    """Root at the host and jo elsewhere, who do what the page says."""

    def __init__(self, there: Host, folder: Path) -> None:
        self._there, self._log = there, folder / "run.log"
        self._admins = folder / "admin"
        self._admins.mkdir()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._notify = folder / "notify"
        (there.ssh / "config").unlink()

    def does(self, section: str) -> None:
        for kind, block in blocks(section):
            self._read(kind, block)

    def _read(self, kind: str, block: str) -> None:
        if kind == "toml":
            Path("/etc/knockgate").mkdir(exist_ok=True)
            Path("/etc/knockgate/gate.toml").write_text(block)
        elif kind == "ssh-config":
            (self._there.ssh / "config").write_text(block)
            self._type("#", "knockgate close ssh --all", "")  # as if the lease had ended meanwhile
            assert not connects(22)
        else:
            assert kind == "console"
            for side, words, shown in commands(block):
                self._type(side, words, shown)

    def _type(self, side: str, words: str, shown: str) -> None:
        if words == "knockgate run":
            self._run_daemon()
            return
        if words == "knockgate down" and self._daemon:
            self._end_daemon()
        with running.client if side == "$" else contextlib.nullcontext():
            done = subprocess.run(
                ["sh", "-euc", words],
                env=self._there.jo.environment if side == "$" else self._roots(),
                cwd=self._there.jo.home if side == "$" else self._admins,
                input="yes\n" if "--confirm" in words else "",
                capture_output=True,
                text=True,
                timeout=2 * DEADLINE,
                check=False,
                start_new_session=True,
            )
        said = done.stdout + done.stderr
        expected = next((status for begin, status in FAILS.items() if words.startswith(begin)), 0)
        assert done.returncode == expected, f"{words}\n{said}{self.log()}"
        assert not shown or shape(said) == shape(shown)
        if words.startswith(("knockgate knock", "ssh home.example")):
            assert {source for _, source, _ in leases()} == {CLIENT}
            assert connects(22) and not connects(22, OTHER)

    def _roots(self) -> dict[str, str]:
        return environment(HOME="/root", PATH=self._there.jo.environment["PATH"])

    def _run_daemon(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self._log.open("wb") as log:
            ready.bind(str(self._notify))
            ready.setblocking(False)
            own = self._roots() | {"NOTIFY_SOCKET": str(self._notify)}
            self._daemon = subprocess.Popen(["knockgate", "run"], stderr=log, env=own)
            until(lambda: running._waits(ready) or self._daemon.poll() is not None, "ready")  # type: ignore[union-attr]
            assert self._daemon.poll() is None, self.log()

    def _end_daemon(self) -> None:
        assert self._daemon
        self._daemon.send_signal(signal.SIGINT)
        assert self._daemon.wait(DEADLINE) == 0, self.log()
        assert not connects(22, OTHER)  # it ends, and the port stays shut

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


@contextlib.contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """A host with sshd and jo, whose key may log in; no gate yet."""
    with machine(folder, answers=False):
        there = Host(folder)
        there.authorize(line(there.jo.key()))
        with _sshd(folder):
            assert connects(22)
            yield Reader(there, folder)
            assert connects(22)  # the last command has opened it again


@isolated
def test_a_sealed_knock(tmp_path: Path) -> None:
    with reader(tmp_path) as someone:
        someone.does("A sealed knock")


@isolated
def test_without_a_daemon(tmp_path: Path) -> None:
    with reader(tmp_path) as someone:
        someone.does("Without a daemon")
