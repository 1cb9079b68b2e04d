"""A cable to here, and what a capture at our end hears of what is put on it at the other."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.netns import DEADLINE, Network, Sender, mac, run, stay_on_one_core, until_carries, up
from tests.packets import UDP, ipv4, ipv6, tcp, udp

from knockgate.capture.afpacket import Capture
from knockgate.wire.bpf import openings

EVERYTHING = openings(udp=True, loopback=True)
SYN, SYN6, DATAGRAM = ipv4(tcp()), ipv6(tcp()), ipv4(udp(), UDP)


class Cable:
    """``near`` is here, ``far`` in another network from where ``wire`` sends to us."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.there = Network()
        self._marks = 0
        self.plug()

    def plug(self, index: int = 0) -> None:
        run(
            "ip",
            "link",
            "add",
            "near",
            *(["index", str(index)] if index else []),
            "type",
            "veth",
            "peer",
            "far",
        )
        self.there.adopt("far")
        up("near")
        near = mac("near")
        with self.there:
            up("far")
            self.wire = self._stack.enter_context(Sender("far", near))
        until_carries(self.wire, "near")

    def down(self) -> None:
        run("ip", "link", "set", "near", "down")

    def up(self) -> None:
        run("ip", "link", "set", "near", "up")
        until_carries(self.wire, "near")

    def unplug(self) -> None:
        run("ip", "link", "delete", "near")

    def gives(self, capture: Capture) -> list[bytes]:
        """What the capture has heard by now: all that comes before a mark that is sent last."""
        self._marks += 1
        mark = ipv4(tcp(), source="192.0.2.1", identification=self._marks)
        self.wire.send(mark)
        return before(capture, mark)


def gives_both(wire: Cable, capture: Capture) -> list[bytes]:
    """As ``gives``, but sure of IPv6 too, for which there may be a socket of its own."""
    mark = ipv6(tcp(), source="2001:db8::1")
    wire.wire.send(mark)
    packets = before(capture, mark)
    return [packet for packet in packets + wire.gives(capture) if packet != mark]


def before(capture: Capture, mark: bytes) -> list[bytes]:
    packets: list[bytes] = []
    end = time.monotonic() + DEADLINE
    while (packet := capture.receive(0.1)) != mark:
        assert time.monotonic() < end, f"the mark did not come, but {packets}"
        if packet is not None:
            packets.append(packet)
    return packets


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    stay_on_one_core()
    with contextlib.ExitStack() as stack:
        yield Cable(stack)


def knock_at(address: str, port: int, source: str | None = None) -> None:
    """A real SYN over TCP; nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        with contextlib.suppress(ConnectionRefusedError):  # over lo the answer is there at once
            sock.connect_ex((address, port))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def gives_until_empty(capture: Capture) -> int:
    count = 0
    while capture.receive(0.05) is not None:
        count += 1
    return count
