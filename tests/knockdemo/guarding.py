"""The demo's daemon as a process, the host that it guards, and a client with three addresses."""

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

from tests.netns import DEADLINE, Network, run, stay_on_one_core, until, up, veth

SRC = Path(__file__).resolve().parents[2] / "src"
HOST, HOST6 = "10.0.0.1", "fd00::1"
CLIENT, BYSTANDER, CLIENT6 = "10.0.0.2", "10.0.0.3", "fd00::2"
PORT, KNOCK = 6500, (7000, 8000, 9000)
WINDOW = 2
SHORT = f"open_window_seconds = {WINDOW}\n"


class Daemon:
    """The daemon as a process of its own, ready; what it says goes to a file."""

    def __init__(self, folder: Path, text: str = SHORT) -> None:
        self._config = folder / "knockdemo.toml"
        self._config.write_text(text, encoding="utf-8")
        self._log = folder / "log"
        self._log.write_text("", encoding="utf-8")
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command(self._config), stderr=log, env=environment())
        starts = self.log().count("is shut; listening for") + 1
        until(lambda: self.log().count("is shut; listening for") == starts or self.exited(), "ready")
        assert self._process.returncode is None, self.log()

    def exited(self) -> bool:
        return self._process.poll() is not None

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(DEADLINE)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def opened_to(self, source: str) -> int:
        """How often it said that it let this source in."""
        return len(re.findall(rf"open to {re.escape(source)} for", self.log()))

    def knocked_by_another(self) -> None:
        """Wait until it has dealt with all knocks so far: a sound one of the bystander's comes last."""
        times = self.opened_to(BYSTANDER)
        knock(*KNOCK, source=BYSTANDER)
        until(lambda: self.opened_to(BYSTANDER) == times + 1, "the last knock is seen")


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "knockdemo.daemon", "--config", str(config)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SRC)}


client: Network


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A host with a service; what is yielded is the client, at the other end of a cable."""
    global client  # noqa: PLW0603 - each test has a process of its own
    stay_on_one_core()
    client = Network()
    veth("near", "far", client)
    up("near", f"{HOST}/24", f"{HOST6}/64")
    with client:
        up("far", f"{CLIENT}/24", f"{BYSTANDER}/24", f"{CLIENT6}/64")
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True):
        # The kernel gets a cable going, and its ends acquainted, a while after both are up.
        until(lambda: is_open(CLIENT, HOST) and is_open(CLIENT6, HOST6), "the service answers")
        yield client


def knock(*ports: int, source: str = CLIENT, host: str = HOST) -> None:
    """One SYN to each port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with client if host in (HOST, HOST6) else contextlib.nullcontext():
        for port in ports:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.bind((source, 0))
                sock.connect_ex((host, port))


def is_open(source: str = CLIENT, host: str = HOST) -> bool:
    """Does the service take a connection? A door that is shut does not answer, so this asks for a moment."""
    with client if host in (HOST, HOST6) else contextlib.nullcontext():
        try:
            socket.create_connection((host, PORT), timeout=0.3, source_address=(source, 0)).close()
        except TimeoutError:
            return False
        return True


def members() -> set[str]:
    """Who is in the sets."""
    return set(re.findall(r"([0-9a-f.:]+) timeout", run("nft", "list", "table", "inet", "knockdemo")))


def milliseconds_left(source: str) -> int:
    (left,) = re.findall(
        rf"{source} timeout \w+ expires (\w+)", run("nft", "list", "table", "inet", "knockdemo")
    )
    parts = re.fullmatch(r"(?:(\d+)s)?(?:(\d+)ms)?", left)
    assert parts
    return int(parts[1] or 0) * 1000 + int(parts[2] or 0)
