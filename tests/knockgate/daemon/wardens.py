"""A warden as a process of its own, and what it is asked."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.knockgate.daemon.running import DAEMON, KERNEL
from tests.netns import DEADLINE

from knockgate.config import doors
from knockgate.config.doors import Configuration
from knockgate.daemon.link import Reply, Request, Verb

SRC = Path(__file__).resolve().parents[3] / "src"
SOURCE, ANOTHER = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])
SSH, WEB = 0, 1


class Warden:
    """A warden as a process of its own, ready; with a configuration of a kernel's door and a daemon's."""

    def __init__(self, folder: Path, *arguments: str, code: str = "") -> None:
        self.directory = folder / "run"
        self.directory.mkdir(mode=0o700)
        self.file = folder / "gate.toml"
        self.file.write_text(f'[gate]\nrun_directory = "{self.directory}"\n{KERNEL}{DAEMON}')
        self._log = folder / "log"
        start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from knockgate.daemon import warden; "
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self._log.open("w") as log:
            ready.bind(str(folder / "notify"))
            ready.settimeout(DEADLINE)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-c", f"{start}{code}warden.main()"),
                    *("--config", str(self.file), *arguments),
                ],
                stderr=log,
                env={"NOTIFY_SOCKET": str(folder / "notify")},
            )
            assert ready.recv(100).startswith(b"READY=1\n")

    def configuration(self) -> Configuration:
        return doors.load(self.file)

    def connect(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(DEADLINE)
        sock.connect(str(self.directory / name))
        return sock

    def log(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        return self._process.wait(DEADLINE)


def ask(sock: socket.socket, request: Request) -> Reply:
    sock.send(request.encode())
    return Reply.decode(sock.recv(1000))


def request(
    configuration: Configuration,
    verb: Verb = Verb.OPEN,
    door: int = WEB,
    *,
    source: bytes = SOURCE,
    milliseconds: int = 0,
    number: int = 7,
) -> Request:
    return Request(verb, number, door, source, milliseconds, configuration.checksum)
