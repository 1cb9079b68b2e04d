"""Gates for the tests of the commands: configurations in files, and what a client sees of their doors."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.knockgate.cli.process import knockgate, started
from tests.netns import Network, run, until, up, veth

from knockgate.client.wait import State, probe
from knockgate.model import Port, Protocol

SSH = '[doors.ssh]\nports = ["tcp/22"]\n[doors.ssh.sequence]\nsteps = ["tcp/7000", "udp/8000", "tcp/9000"]\n'
WEB = '[doors.web]\nports = ["tcp/443", "udp/443"]\nlease = "1h"\n'


def gate(directory: Path, *doors: str) -> str:
    """A gate.toml in ``directory`` with its other directories beside it; its path."""
    file = directory / "gate.toml"
    beside = f'run_directory = "{directory}/run"\nstate_directory = "{directory}/state"\n'
    file.write_text(f"[gate]\n{beside}" + "".join(doors))
    return str(file)


def status(*words: str) -> dict[str, Any]:
    """What `knockgate status --json` says."""
    done = knockgate("status", "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["guarded"] is (done.returncode == 0)
    return found


@contextlib.contextmanager
def running(*words: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """`knockgate run`, for as long as the block lasts."""
    with (directory / "log").open("w") as log, started(["run", *words], stderr=log) as process:
        try:
            until(lambda: status(*words)["daemon"], "the daemon guards and listens")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


class Host:
    """We are the host, 10.9.9.1; ``client``, 10.9.9.2, is another network on the other end of a cable."""

    def __init__(self) -> None:
        self.client = Network()
        veth("near", "far", self.client)
        up("near", "10.9.9.1/24")
        with self.client:
            up("far", "10.9.9.2/24")
        self.services = [socket.create_server(("10.9.9.1", port)) for port in (22, 443)]

    def session(self) -> tuple[socket.socket, socket.socket]:
        """A connection of the client's to port 22: its end, and ours."""
        with self.client:
            session = socket.create_connection(("10.9.9.1", 22), timeout=5)
        while True:  # probes have left connections as well
            served, peer = self.services[0].accept()
            if peer == session.getsockname():
                served.settimeout(5)
                return session, served

    def seen(self, port: int = 22) -> State:
        """What the client makes of a port."""
        with self.client:
            return probe("10.9.9.1", Port(Protocol.TCP, port))


def table() -> str:
    """The text of our table without what counts and what lives; empty where there is none."""
    return run("nft", "-s", "list", "table", "inet", "knockgate", check=False)
