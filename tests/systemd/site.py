"""A machine with the gate on it, and a client who has all that it takes to knock there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.systemd import gate
from tests.systemd.gate import PORTS, answers
from tests.systemd.machine import ADDRESS, CLIENT, Host, Machine

__all__ = ["Site", "key_pair", "open_ends", "secrets_of"]


_TRY = """
import selectors, socket, sys, time
selector, found = selectors.DefaultSelector(), []
for word in sys.argv[1:]:
    source, host, port = word.split(",")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((source, 0))
    sock.setblocking(False)
    sock.connect_ex((host, int(port)))
    selector.register(sock, selectors.EVENT_READ, word)
until = time.monotonic() + 0.5
while (left := until - time.monotonic()) > 0 and selector.get_map():
    for key, _ in selector.select(left):
        try:
            if key.fileobj.recv(5) == b"hello":
                print(key.data)
        except OSError:
            pass
        selector.unregister(key.fileobj)
"""


#: `knockgate close` for each, without a start of Python for each.
_CLOSE = """
import sys
sys.path.insert(0, sys.argv[1])
from knockgate.cli.leases import close
for door in sys.argv[2:]:
    close.main([door, "--all"], "close", standalone_mode=False)
"""


@dataclass
class Site:
    """The machine, and the folder with what its client has."""

    machine: Machine
    bag: Path
    packages: Path = gate.REPOSITORY / "src"  # which the client uses

    def knock(self, door: str, host: str = ADDRESS, source: str = CLIENT) -> bool:
        """Whether the door is open after that."""
        ends = ["--source", source, host]
        sealed = ["--card", str(self.bag / "card"), "--door", "sealed", "-i", str(self.bag / "id")]
        words = {
            "kernel": [*ends, "7000", "udp/7001"],
            "daemon": [*ends, "8000", "udp/8001"],
            "packet": ["--fwknop", "--secrets", str(self.bag / "secrets"), "--access", "tcp/81", *ends],
            "sealed": [*sealed, *ends],
        }[door]
        done = self._program("knock", *words, "--wait", f"tcp/{PORTS[door]}", "--timeout", "3s")
        return done.returncode == 0 and bool(open_ends(self.machine.client, {(source, host, PORTS[door])}))

    def take_card(self, path: str = "/root/gate.card") -> None:
        """As an admin gives it to who is to knock."""
        (self.bag / "card").write_text(self.machine.tell("cat", path))
        (self.bag / "card").chmod(0o600)

    def knock_all(self, ends: Sequence[tuple[str, str, str]]) -> str:
        """At all of (door, source, host), one after the other; nothing where all open, or what is said."""
        bag = self.bag
        how = {
            "kernel": 'steps = ["7000", "udp/7001"]',
            "daemon": 'steps = ["8000", "udp/8001"]',
            "packet": f'fwknop = "{bag}/secrets"\naccess = ["tcp/81"]',
            "sealed": f'card = "{bag}/card"\ndoors = ["sealed"]\nidentity = "{bag}/id"',
        }
        profiles = bag / ".config/knockgate/profiles.toml"
        profiles.parent.mkdir(parents=True, exist_ok=True)
        profiles.write_text(
            "".join(
                f'[profiles.end{number}]\nhost = "{host}"\nsource = "{source}"\nwait = "tcp/{PORTS[door]}"\n'
                f'timeout = "5s"\n{how[door]}\n'
                for number, (door, source, host) in enumerate(ends)
            )
        )
        names = [f"end{number}" for number in range(len(ends))]
        done = self._program("knock", *names)
        return "" if done.returncode == 0 else f"{ends}: {done.stdout}{done.stderr}"

    def _program(self, *words: str) -> subprocess.CompletedProcess[str]:
        variables = {"PYTHONPATH": str(self.packages), "HOME": str(self.bag)}
        return self.machine.client.run([sys.executable, "-m", "knockgate", *words], **variables)

    def close(self) -> None:
        """All doors, with the leases of everybody."""
        self.machine.tell("python3", "-c", _CLOSE, gate.PACKAGES, *PORTS)

    def open_doors(self) -> set[str]:
        return {door for door, port in PORTS.items() if answers(self.machine.client, port)}


def open_ends(client: Host, tried: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """Of (source, host, port) those that answer the client at once; they are tried side by side."""
    words = {",".join(map(str, each)): each for each in tried}
    return {words[line] for line in client.tell(sys.executable, "-I", "-c", _TRY, *words).splitlines()}


def key_pair(bag: Path) -> str:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jo", "-f", str(bag / "id")], check=True
    )
    return (bag / "id.pub").read_text().strip()


def secrets_of(bag: Path) -> str:
    words = ["key", "new", "--fwknop", "alice", "-o", str(bag / "secrets")]
    subprocess.run(
        [sys.executable, "-m", "knockgate", *words],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(gate.REPOSITORY / "src")},
    )
    return (bag / "secrets").read_text()
