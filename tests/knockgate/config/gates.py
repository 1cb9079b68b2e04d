"""The real knockd and ours, side by side: both hear the same packets, each notes what it runs.

A configuration is written once, with ``HERE`` for a folder; each gate gets its own copy and its own folder,
in which commands append to ``notes``. So whatever is sent, the one is the control of the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from tests import packets
from tests.netns import DEADLINE, Network, Sender, mac, own_mounts, until, until_carries, up, veth

ADDRESS, ADDRESS6 = "10.9.0.1", "fd09::1"
CLIENT, CLIENT6 = "10.9.0.2", "fd09::2"


def door(name: str, sequence: str, *more: str, shuts: bool = False, flags: str = "syn") -> str:
    """A door of knockd.conf that notes ``open NAME`` and, if it ``shuts``, ``shut NAME`` too."""
    lines = [f"[{name}]", f"sequence = {sequence}", f"start_command = echo open {name} >> HERE/notes", *more]
    lines += [f"tcpflags = {flags}"] if flags else []
    lines += [f"stop_command = echo shut {name} >> HERE/notes"] if shuts else []
    return "\n".join(lines) + "\n"


class Wire:
    """``gate0`` here, with the addresses given, and a client at the other end that forges."""

    interface = "gate0"

    def __init__(self, *addresses: str) -> None:
        client = Network()
        veth(self.interface, "client0", client)
        up(self.interface, *addresses)
        destination = mac(self.interface)
        with client:
            self.sender = Sender("client0", destination)
        until_carries(self.sender, self.interface)

    def send(self, packet: bytes) -> None:
        self.sender.send(packet)

    def knock(self, words: str, source: str = CLIENT, destination: str = "") -> None:
        """Send a packet for each word: ``7000`` is a SYN, ``a7000`` an ACK, ``u7000`` a datagram.

        ``e7000`` is a SYN behind an extension header of IPv6 (RFC 8200, 4.6).
        """
        destination = destination or (ADDRESS6 if ":" in source else ADDRESS)
        for word in words.split():
            number = int(word.lstrip("uae"))
            inner = packets.tcp(number, flags=packets.ACK if word[0] == "a" else packets.SYN)
            protocol = packets.TCP
            if word[0] == "u":
                inner, protocol = packets.udp(number, payload=b"\0"), packets.UDP
            if ":" in source:
                headers = [(60, packets.extension())] if word[0] == "e" else []
                self.send(packets.ipv6(inner, protocol, headers, source=source, destination=destination))
            else:
                self.send(packets.ipv4(inner, protocol, source=source, destination=destination))


class Tunnel(Wire):
    """``tunnel0`` here, a link whose packets have no header of Ethernet; the client is a file."""

    interface = "tunnel0"

    def __init__(self, *addresses: str) -> None:
        try:
            self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"no tunnels here: {error}")
        request = struct.pack("16sH22x", self.interface.encode(), 0x1001)  # IFF_TUN, IFF_NO_PI
        fcntl.ioctl(self._file, 0x400454CA, request)  # TUNSETIFF
        up(self.interface, *addresses)

    def send(self, packet: bytes) -> None:
        os.write(self._file, packet)


# --- the gates ----------------------------------------------------------------------------------------


class Gate:
    """A daemon that runs a knockd.conf of its own; a context manager, it is running inside."""

    def __init__(self, text: str, name: str, interface: str = "gate0") -> None:
        """``name`` is for a folder of its own, which goes with the test's files."""
        self.folder = Path("/run/test", name)
        self.folder.mkdir(parents=True)
        self.file, self.said = self.folder / "knockd.conf", self.folder / "said"
        (self.folder / "notes").touch()
        self.interface = interface
        self.configure(text)

    def configure(self, text: str) -> None:
        self.file.write_text(text.replace("HERE", str(self.folder)))

    @property
    def notes(self) -> list[str]:
        """What was run so far, a line each."""
        return (self.folder / "notes").read_text().splitlines()

    def command(self) -> list[str]:
        raise NotImplementedError

    def until_it_listens(self) -> None:
        raise NotImplementedError

    def launch(self, **environment: str) -> None:
        """Start it; it is not waited for."""
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                self.command(), stdout=said, stderr=said, env=os.environ | environment, cwd=Path.cwd()
            )

    def start(self) -> None:
        self.launch()
        self.until_it_listens()

    def until_noted(self, *lines: str) -> None:
        """Wait until all that is to be run has been run, and nothing else was, in whatever order."""
        with contextlib.suppress(AssertionError):  # the comparison tells more
            until(lambda: len(self.notes) >= len(lines), "notes")
        assert sorted(self.notes) == sorted(lines), self

    def until_noted_among_others(self, line: str) -> None:
        with contextlib.suppress(AssertionError):
            until(lambda: line in self.notes, "a note")
        assert line in self.notes, self

    def family(self) -> list[int]:
        """The process and all that it started, children last."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(") ")[2].split()[1])
        family = [self.process.pid]
        for each in family:
            family += [child for child, parent in parents.items() if parent == each]
        return family

    def signal_all(self, number: int) -> None:
        """What systemd does to a service: a signal to all of it at once."""
        for each in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def status(self) -> int:
        """Wait for its end; returns the exit status, or the signal as a negative number."""
        return self.process.wait(DEADLINE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.signal_all(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def __str__(self) -> str:
        return f"{type(self).__name__}, which said:\n{self.said.read_text()}"


class RealKnockd(Gate):
    """knockd 0.8 as Debian has it."""

    def command(self) -> list[str]:
        return ["knockd", "--verbose", "-i", self.interface, "-c", str(self.file)]

    def until_it_listens(self) -> None:
        # It says so after its filter and its signal handlers are in place.
        until(lambda: "listening on" in self.said.read_text() or self.process.poll() is not None, str(self))
        assert self.process.poll() is None, self


class OurGate(Gate):
    """`knockgate run --knockd`."""

    def command(self) -> list[str]:
        program = [sys.executable, "-m", "knockgate", "run"]
        return [*program, "--knockd", str(self.file), "-i", self.interface]

    def launch(self, **environment: str) -> None:
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0{self.file}"
        with contextlib.suppress(OSError):  # a second start
            self._ready.bind(address)
        super().launch(PYTHONPATH="src", NOTIFY_SOCKET=f"@{self.file}", **environment)

    def until_it_listens(self) -> None:
        self._ready.settimeout(DEADLINE)
        assert self._ready.recv(4096).startswith(b"READY=1"), self


@contextlib.contextmanager
def both(text: str, *, interface: str = "gate0", once: str = "") -> Iterator[tuple[RealKnockd, OurGate]]:
    """knockd and ours with the same configuration; ``once`` is the text of their HERE/once."""
    own_mounts()
    knockd, ours = RealKnockd(text, "knockd", interface), OurGate(text, "ours", interface)
    for gate in (knockd, ours):
        (gate.folder / "once").write_text(once)
    ours.launch()
    with knockd:
        try:
            ours.until_it_listens()
            yield knockd, ours
        finally:
            ours.__exit__()
