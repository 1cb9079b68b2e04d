"""What each of ``examples/`` must come to: a host behind a gate, and a stranger who is let in by a knock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.systemd.gate import CONFIG, HALVES, until_active
from tests.systemd.machine import ADDRESS, CLIENT
from tests.systemd.packaged import Packaged

__all__ = ["STRANGER", "Example"]

#: Somebody else at the cable.
STRANGER = "10.77.0.9"
_ANSWERS = (
    "import socket, sys\n"
    "s = socket.create_connection((sys.argv[2], 22), 0.5, (sys.argv[1], 0))\n"
    "s.settimeout(10); print(s.recv(4).decode())"
)


@dataclass
class Example:
    """``STRANGER`` has an address at the client's end of the cable, and the client's files."""

    host: Packaged

    def reaches(self, source: str) -> bool:
        """Whether sshd answers whoever has that address, at the client's end."""
        done = self.host.machine.client.run(["python3", "-I", "-c", _ANSWERS, source, ADDRESS])
        return done.stdout == "SSH-\n"

    def must_be_guarded(self) -> None:
        """From now on and from each boot on, by units that can read what nobody else can."""
        machine = self.host.machine
        until_active(machine, *HALVES)
        assert machine.run(["systemctl", "is-enabled", *HALVES]).stdout.split() == ["enabled"] * 2
        assert self.reaches(CLIENT) and not self.reaches(STRANGER)
        assert machine.tell("stat", "-c", "%a %U:%G", CONFIG) == "640 root:knockgate\n"

    def must_open_to(self, card: Path) -> None:
        """A knock with that card lets in who knocks."""
        host = self.host
        host.tell("trust", "home", ADDRESS, str(card), "--wait", "tcp/22", "-i", f"{host.bag}/id")
        knock = [f"{host.bag}/knockgate", "knock", "home", "--source", STRANGER]
        knock += ["-a", STRANGER, "--timeout", "5s"]
        done = host.machine.client.run(knock, HOME=str(host.bag))
        assert done.returncode == 0 and self.reaches(STRANGER), done.stderr
