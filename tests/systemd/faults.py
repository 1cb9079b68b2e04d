"""What tests ask of a gate in whose machine something is broken."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import CONTROL, HALVES, LISTENER, PORTS, WARDEN, until_active
from tests.systemd.machine import ADDRESS, CLIENT, Machine, boot
from tests.systemd.scan import Scan
from tests.systemd.site import Site, key_pair, open_ends, secrets_of

__all__ = [
    "BOTH",
    "STATE",
    "Broken",
    "begin",
    "guarded_site",
    "limited",
    "log_of",
    "packet_of",
    "scanned",
    "send",
    "shell",
    "status",
    "status_text",
    "until_status",
]

STATE = "/var/lib/knockgate"
BOTH = f"{WARDEN} {LISTENER}"
#: Who is scanned all the while: doors that two kinds of packets open, and what is no door.
_TARGETS = tuple(f"{ADDRESS},{port}" for port in (PORTS["packet"], PORTS["sealed"], CONTROL))

_RECORD = """
import socket, subprocess, sys
source, port, file, *command = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((source, int(port)))
    sock.settimeout(20)
    subprocess.run(command, check=True, capture_output=True)
    open(file, "wb").write(sock.recv(4096))
"""
_SEND = """
import socket, sys
source, host, port, file = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((source, 0))
    sock.sendto(open(file, "rb").read(), (host, int(port)))
"""


class Broken(Site):
    """``until_open`` and the like are for who waits for a gate that begins anew."""

    def is_open(self, door: str) -> bool:
        return bool(open_ends(self.machine.client, {(CLIENT, ADDRESS, PORTS[door])}))

    def knocks_in(self, *doors: str) -> None:
        """Knocks until each opens, which must not take long."""
        for door in doors or PORTS:
            until(lambda each=door: self.knock(each), f"{door} opens")  # type: ignore[misc]


@contextlib.contextmanager
def guarded_site(folder: Path) -> Iterator[tuple[Broken, Scan]]:
    """A machine that has booted with the units installed, and somebody who scans it all the while."""
    packages = gate.bundle(folder / "knockgate")
    script = gate.prepare(packages, secrets_of(folder), key_pair(folder), rest=gate.offline())
    scan = Scan(folder, _TARGETS)
    with boot(prepare=script, lend=[packages], before=scan.begin) as machine:
        try:
            gate.begin_service(machine)
            site = Broken(machine, folder)
            site.take_card()
            until_active(machine, *HALVES)
            yield site, scan
        finally:
            scan.end()


@contextlib.contextmanager
def scanned(scan: Scan) -> Iterator[None]:
    """Nobody who has no lease is answered meanwhile, while what is no door answers."""
    before = len(scan.of_doors())
    yield
    scan.until_heard((ADDRESS,), 10)
    assert scan.of_doors()[before:] == []


def shell(machine: Machine, script: str) -> str:
    return machine.tell("sh", "-euc", script)


def begin(machine: Machine, *units: str) -> None:
    """Start them, and wait for nothing."""
    machine.tell("systemctl", "start", "--no-block", *units)


def status(machine: Machine) -> dict[str, Any]:
    """What the listener tells of itself."""
    found: dict[str, Any] = json.loads(machine.run(["knockgate", "status", "--json"]).stdout)["daemon"] or {}
    return found


def status_text(machine: Machine, unit: str) -> str:
    return machine.property_of(unit, "StatusText")


def until_status(machine: Machine, unit: str, text: str) -> str:
    """Until `systemctl status` has it in the unit's line; the line."""
    until(lambda: text in status_text(machine, unit), f"{text!r} is the status of {unit}")
    return status_text(machine, unit)


def log_of(machine: Machine, unit: str, *, lines: int = 30) -> str:
    return machine.tell("journalctl", "--no-pager", "-o", "cat", "-u", unit, "-n", str(lines))


@contextlib.contextmanager
def limited(machine: Machine, unit: str, what: str, soft: int) -> Iterator[None]:
    """``what``: a limit of prlimit(1) of the unit's main process, who alone may lower it."""
    for value in (str(soft), "1000000" if what == "fsize" else "1024"):
        process = machine.property_of(unit, "MainPID")
        machine.tell(
            *("setpriv", f"--reuid={unit}", "--regid=knockgate", "--clear-groups"),
            *("prlimit", "--pid", process, f"--{what}={value}:"),
        )
        if value == str(soft):
            yield


def packet_of(site: Site, door: str, file: Path) -> Path:
    """A packet as the client would send it, caught at the client itself; nobody has seen it."""
    port, words = {
        "packet": (62201, ["--fwknop", "--secrets", str(site.bag / "secrets"), "--access", "tcp/81"]),
        "sealed": (62202, ["--card", str(site.bag / "card"), "--door", "sealed", "-i", str(site.bag / "id")]),
    }[door]
    variables = {"PYTHONPATH": str(gate.REPOSITORY / "src"), "HOME": str(site.bag)}
    knock = [sys.executable, "-m", "knockgate", "knock", *words, "--source", CLIENT, CLIENT]
    site.machine.client.tell(
        sys.executable, "-I", "-c", _RECORD, CLIENT, str(port), str(file), *knock, **variables
    )
    return file


def send(site: Site, door: str, file: Path) -> None:
    port = {"packet": 62201, "sealed": 62202}[door]
    site.machine.client.tell(sys.executable, "-I", "-c", _SEND, CLIENT, ADDRESS, str(port), str(file))


def refused(machine: Machine, door: str, reasons: Sequence[str] = ()) -> int:
    """Knocks of that kind that were refused, for any reason or for these."""
    counts = status(machine).get({"packet": "packets"}.get(door, door), {}).get("refused", {})
    return sum(count for reason, count in counts.items() if not reasons or reason in reasons)
