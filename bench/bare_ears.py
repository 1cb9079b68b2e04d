"""Hear packets and do nothing with them: what any program in Python pays for a packet before its own work.

``recv``: a system call for each. ``ring``: out of memory shared with the kernel, by the batch. The filter
is that of a sequence. At SIGTERM it says how many were heard.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from knockgate.capture.afpacket import ETH_P_ALL, RECEIVE_BUFFER, deaf_socket, hear
from knockgate.capture.ring import PacketRing
from knockgate.wire import bpf

__all__ = ["main"]


class _Over(Exception):
    """SIGTERM came."""


def _end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal(2) asks for
    raise _Over


def main() -> None:
    """``recv`` or ``ring``, on eth0."""
    signal.signal(signal.SIGTERM, _end)
    program = bpf.openings(udp=False, loopback=False)
    heard = 0
    try:
        if sys.argv[1] == "ring":
            with PacketRing(program, "eth0") as ring:
                print("listening", flush=True)
                while True:
                    select.select([ring], [], [])
                    while packets := ring.take(256):
                        heard += len(packets)
        with deaf_socket(program, RECEIVE_BUFFER) as sock:
            hear(sock, ETH_P_ALL, socket.if_nametoindex("eth0"))
            sock.settimeout(None)
            buffer = memoryview(bytearray(65536))
            print("listening", flush=True)
            while True:
                sock.recv_into(buffer)
                heard += 1
    except _Over:
        print(heard, flush=True)


if __name__ == "__main__":
    main()
