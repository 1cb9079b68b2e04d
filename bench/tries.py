"""Connections to a door that may be opening: each is one SYN, given up before the system would repeat it."""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from typing import Self

from bench.wire import ONE_SYN, PORT

__all__ = ["Tries"]


class Tries:
    """Begun one after the other, until one is accepted; in the network of the thread that calls."""

    def __init__(self, host: str, source: str) -> None:
        self._ends = (source, 0), (host, PORT)
        self._sockets: deque[tuple[float, socket.socket]] = deque()
        self._poll = select.epoll()

    def begin(self, now: float) -> None:
        """One more; ``now`` is monotonic."""
        while self._sockets and self._sockets[0][0] < now - ONE_SYN:
            self._sockets.popleft()[1].close()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append((now, sock))
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave nothing waiting
        sock.bind(self._ends[0])
        sock.connect_ex(self._ends[1])
        self._poll.register(sock, select.EPOLLOUT)

    def accepted(self, timeout: float = 0.0) -> bool:
        """Whether one has been, or is within that time; a shut door is silent, so that any answer is one."""
        # epoll_wait(2) counts milliseconds. Not by turning round and round: what writes to the disk for the
        # gate would wait until this core is free.
        return bool(select.select([self._poll], [], [], timeout)[0] if timeout else self._poll.poll(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, sock in self._sockets:
            sock.close()
        self._poll.close()
