"""A whole gate, run by its own supervisor, in a network with a client at the other end of a cable."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.netns import DEADLINE, Network, until, up, veth

from knockgate.config.doors import Configuration, load
from knockgate.daemon.control import WardenClient, ask
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.model import Lease, address_text

HOST, HOST6 = "10.0.0.1", "fd00::1"
CLIENT, OTHER, CLIENT6 = "10.0.0.2", "10.0.0.3", "fd00::2"

KERNEL = """
[doors.ssh]
ports = ["tcp/22"]
lease = "1h"
[doors.ssh.sequence]
steps = ["tcp/7000", "udp/7001"]
"""
DAEMON = """
[doors.web]
ports = ["tcp/80", "udp/80"]
lease = "1h"
[doors.web.sequence]
steps = ["tcp/8000", "udp/8001"]
runs_in = "daemon"
"""
SSH_KNOCKS, WEB_KNOCKS = ("tcp/7000", "udp/7001"), ("tcp/8000", "udp/8001")

_START = """
import signal, sys
from knockgate.daemon.origin import Origin
from knockgate.daemon.run import supervise
from knockgate.errors import KnockgateError
own, path, knockd = sys.argv[1:]
try:
    sys.exit(supervise(Origin(path, knockd=bool(knockd)), own=bool(own)))
except KnockgateError as error:
    sys.exit(f"refused: {error}")
"""


class Gate:
    """``knockgate run`` as a process, ready. What it says goes to a file."""

    def __init__(self, folder: Path, doors: str = KERNEL + DAEMON, *, own: bool = True) -> None:
        self.run_directory = str(folder / "run")
        self.file = folder / "gate.toml"
        self._knockd, self._own = False, own
        self._log = folder / "log"
        self._log.touch()
        self._folder = folder
        self.write(doors)

    def write(self, doors: str, *, gate: str = "") -> None:
        """Another configuration into the file."""
        text = f'[gate]\nrun_directory = "{self.run_directory}"\n'
        text += f'state_directory = "{self._folder / "state"}"\n{gate}{doors}'
        self.file.write_text(text, encoding="utf-8")

    def write_knockd(self, text: str) -> None:
        """A knockd.conf instead. Needs ``own_mounts``: it cannot name the folders."""
        self.file = self._folder / "knockd.conf"
        self.file.write_text(text, encoding="utf-8")
        self._knockd, self.run_directory = True, "/run/knockgate"

    def start(self) -> None:
        """Returns when it says that it is ready, as systemd would wait."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            path = self._folder / "notify"
            path.unlink(missing_ok=True)
            ready.bind(str(path))
            ready.setblocking(False)
            self._process = self._popen({"NOTIFY_SOCKET": str(path)})
            until(lambda: _waits(ready) or self._process.poll() is not None, "ready")
            assert self._process.poll() is None, self.log()
            assert ready.recv(100).startswith(b"READY=1\n")

    def cannot_start(self) -> tuple[int, str]:
        """Its exit status, and what it said at last."""
        status = self._popen({}).wait(DEADLINE)
        return status, self.log().splitlines()[-1]

    def _popen(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _START,
                    "own" if self._own else "",
                    str(self.file),
                    "yes" * self._knockd,
                ],
                stderr=log,
                env={**os.environ, **environment},
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(DEADLINE)

    def wait(self) -> int:
        return self._process.wait(DEADLINE)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def until_said(self, text: str, times: int = 1) -> None:
        until(lambda: self.log().count(text) >= times, f"{text!r} in the log")

    def halves(self) -> dict[str, int]:
        """Name -> process. Needs ``own_mounts``."""
        found = {}
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                name = re.search(r"knockgate\.daemon\.(\w+)", Path(f"/proc/{child}/cmdline").read_text())
                if name:
                    found[name[1]] = int(child)
        return found

    def until_replaced(self, before: dict[str, int], *names: str) -> None:
        """Wait until these halves are other processes than before, and the listener answers."""

        def replaced() -> bool:
            now = self.halves()
            return now.keys() == before.keys() and all(now[name] != before[name] for name in names)

        until(replaced, f"{names} are replaced")
        until(self.answers, "the listener answers")

    def answers(self) -> bool:
        try:
            return bool(ask(self.run_directory))
        except Unavailable:
            return False

    def status(self) -> dict[str, Any]:
        return ask(self.run_directory)

    def configuration(self) -> Configuration:
        return load(self.file)

    def warden(self) -> WardenClient:
        return WardenClient(self.run_directory)


class Counted:
    """A stage with a gate in it: what became of the packets of one kind."""

    gate: Gate
    kind = "packets"  #: as ``knockgate status --json`` calls them

    def refused(self) -> dict[str, int]:
        found: dict[str, int] = self.gate.status()[self.kind]["refused"]
        return found

    def until_refused(self, reason: str, times: int = 1) -> None:
        until(lambda: self.refused().get(reason, 0) >= times, f"{reason} is counted {times} times")


def send(*payloads: bytes, port: int, source: str = CLIENT) -> None:
    """From one socket with that address of the client's to the host."""
    host, family = (HOST6, socket.AF_INET6) if ":" in source else (HOST, socket.AF_INET)
    with client, socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        for payload in payloads:
            sock.sendto(payload, (host, port))


def _waits(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(100, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def leases() -> set[tuple[str, str, str]]:
    """(port, source, by) of all live leases."""
    return {(str(lease.port), address_text(lease.source), lease.by) for lease in all_leases()}


def all_leases() -> list[Lease]:
    with Nftables(own=False) as firewall:
        return firewall.leases()


client: Network


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A cable between us, who are the host, and a client with several addresses."""
    global client  # noqa: PLW0603 - each test has a process of its own
    client = Network()
    veth("near", "far", client)
    up("near", f"{HOST}/24", f"{HOST6}/64")
    with client:
        up("far", f"{CLIENT}/24", f"{OTHER}/24", f"{CLIENT6}/64")
    with socket.create_server(("::", 6000), family=socket.AF_INET6, dualstack_ipv6=True):
        # The kernel gets a cable going, and its ends acquainted, a while after both are up.
        until(lambda: connects(6000) and connects(6000, CLIENT6, HOST6), "the cable carries")
        yield


def knock(*steps: str, source: str = CLIENT, host: str = HOST) -> None:
    """One packet to each of ``tcp/7000`` and the like."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with client:
        for step in steps:
            protocol, _, port = step.partition("/")
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            with socket.socket(family, kind) as sock:
                sock.setblocking(False)
                sock.bind((source, 0))
                if protocol == "tcp":
                    sock.connect_ex((host, int(port)))
                else:
                    sock.sendto(b"knock", (host, int(port)))


def connects(port: int, source: str = CLIENT, host: str = HOST) -> bool:
    """Whether the client gets a connection, within a moment."""
    with client:
        try:
            socket.create_connection((host, port), timeout=0.3, source_address=(source, 0)).close()
        except (TimeoutError, ConnectionRefusedError):
            return False
        return True
