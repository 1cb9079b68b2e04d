"""What the kernel tells of its doors; that it does so on a real one is for test_listener and test_run."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.knockgate.daemon.test_nflog import attribute, message
from tests.packets import CLIENT, UDP, ipv4, raw, tcp, udp

from knockgate.config import doors
from knockgate.config.doors import Door
from knockgate.daemon.reports import Reports
from knockgate.model import Source

DOORS = doors.parse(
    """
    [doors.ssh]
    ports = ["tcp/22", "tcp/2222", "udp/22"]
    [doors.ssh.sequence]
    steps = ["tcp/7000", "tcp/8000"]
    """
).doors


class Kernel:
    """Writes into a socket, and notes what came of it."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.settimeout(0)
        self.heard: list[object] = []
        self.reports = Reports(
            ours, DOORS, self._opened, self.heard.append, lambda: self.heard.append("lost")
        )

    def _opened(self, door: Door | None, source: Source | None) -> None:
        self.heard.append((door.name if door else None, source))

    def tells(self, *reports: tuple[str, bytes]) -> list[object]:
        for prefix, packet in reports:
            self.theirs.send(message(attribute(9, packet) + attribute(10, prefix.encode() + b"\0")))
        self.reports.hear()
        found = list(self.heard)
        self.heard.clear()
        return found


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    with kernel.theirs, kernel.reports._socket:
        yield kernel


def test_a_door_that_opens_is_told_once_however_many_ports_it_has(kernel: Kernel) -> None:
    """In a packet that was dropped the last knock's port is the door's; there is one for each of them."""
    ports = [("knockgate open tcp", ipv4(tcp(port))) for port in (22, 2222)]
    told = kernel.tells(*ports, ("knockgate open udp", ipv4(udp(22), UDP)))
    assert told == [("ssh", raw(CLIENT))]


def test_what_the_kernel_does_not_tell_is_not_known(kernel: Kernel) -> None:
    assert kernel.tells(("knockgate open tcp", ipv4(tcp(23)))) == [(None, raw(CLIENT))]
    assert kernel.tells(("knockgate open tcp", ipv4(tcp(22))[:20])) == [(None, raw(CLIENT))]
    assert kernel.tells(("knockgate open tcp", b"")) == [(None, None)]


def test_a_bound_has_its_name_and_anything_else_is_passed_over(kernel: Kernel) -> None:
    packet = ipv4(tcp(22))
    assert kernel.tells(("knockgate leases full", packet)) == ["leases_full"]
    assert kernel.tells(("knockgate", packet), ("somebody else's", packet)) == []
    assert kernel.tells() == []


def test_that_some_were_lost_is_told_and_the_rest_is_heard(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(socket.socket):
        """As the kernel has it that there was no room: once, and then it goes on."""

        was_told = False

        def recv(self, size: int, flags: int = 0) -> bytes:
            if not self.was_told:
                self.was_told = True
                raise OSError(105, "No buffer space available")
            return super().recv(size, flags)

    ours = kernel.reports._socket
    full = Full(fileno=ours.detach())
    full.settimeout(0)
    monkeypatch.setattr(kernel.reports, "_socket", full)
    with full:
        assert kernel.tells(("knockgate paced", b"")) == ["lost", "paced"]
