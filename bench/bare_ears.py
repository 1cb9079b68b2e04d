"""Hear packets and do nothing with them: what any program in Python pays for a packet before its own work.

``recv``: a system call for each. ``ring``: out of memory shared with the kernel, by the batch. ``gathered``:
the same, but no packet is made an object of Python, and they have 5 ms to gather. At SIGTERM it says how many
were heard.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from knockgate.capture.ring import Ring

__all__ = ["main"]

_ETH_P_ALL = 0x0003
#: Pieces of 64 KB, of frames of 256 octets: 4096 packets.
_BLOCKS, _FRAME = 16, 256


class _Over(Exception):
    """SIGTERM came."""


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal(2) asks for
    raise _Over


def _recv(sock: socket.socket) -> Iterator[int]:
    buffer = memoryview(bytearray(65536))
    while True:
        sock.recv_into(buffer)
        yield 1


def _ring(sock: socket.socket, ring: Ring, *, gathered: bool) -> Iterator[int]:
    while True:
        select.select([sock], [], [])
        if gathered:
            time.sleep(0.005)
        while count := ring.there(256):
            if gathered:
                ring.leave(count)
            else:
                ring.take(count)
            yield count


def main() -> None:
    """How, on eth0."""
    how = sys.argv[1]
    signal.signal(signal.SIGTERM, _end)
    heard = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
        ring = Ring(sock, _BLOCKS, _FRAME, whole=False) if how != "recv" else None
        sock.bind(("eth0", _ETH_P_ALL))
        batches = _ring(sock, ring, gathered=how == "gathered") if ring else _recv(sock)
        try:
            print("listening", flush=True)
            for count in batches:
                heard += count
        except _Over:
            print(heard, flush=True)


if __name__ == "__main__":
    main()
