"""What the tests of the client see on a wire: every opening that passes an interface, in order."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

from tests.netns import heard, packet_socket

from knockgate.errors import Refused
from knockgate.model import Port, Protocol, address_text
from knockgate.wire.frames import observe

_PACKET_OUTGOING = 4


class Opening(NamedTuple):
    """A SYN or a datagram."""

    step: Port
    source: str
    target: str
    payload: bytes


class Wire:
    """An interface of the present network, from now on."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def openings(self) -> list[Opening]:
        """All that left since the last call."""
        found = []
        for each in heard(self._socket):
            with contextlib.suppress(Refused):
                seen = observe(each.packet)
                if each.packet_type == _PACKET_OUTGOING and seen.opens_connection:
                    port = Port(Protocol(seen.protocol), seen.port)
                    payload = each.packet[seen.payload :] if seen.protocol == 17 else b""
                    found.append(
                        Opening(port, address_text(seen.source), address_text(seen.destination), payload)
                    )
        return found

    def steps(self) -> list[str]:
        """Their ports alone."""
        return [str(opening.step) for opening in self.openings()]


@contextlib.contextmanager
def wire(interface: str = "lo") -> Iterator[Wire]:
    with packet_socket(interface) as sock:
        yield Wire(sock)
