"""Whether an address is one of this host's own: where the kernel would route a packet for it.

By netlink, for which the listener needs no sockets that could send anything to anybody (rtnetlink(7)).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time

__all__ = ["OwnAddresses"]

#: An address that is added or taken away is known as such this many seconds later.
_FRESH = 2.0
_REMEMBERED = 1024

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, length of the destination, ..., type, flags
_ATTRIBUTE = struct.Struct("=HH")
_GET_ROUTE, _NEW_ROUTE, _REQUEST, _RTA_DST, _LOCAL = 26, 24, 1, 1, 2


class OwnAddresses:
    """``address in OwnAddresses()``, for packed addresses of 4 or 16 bytes.

    It asks over one socket, which is open from the start: knocks are taken also while this process, or the
    whole machine, has no room for one more open file.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bool, float]] = {}
        self._socket: socket.socket | None = None
        self._number = 0
        with contextlib.suppress(OSError):  # it is tried again with the first question
            self._socket = _opened()

    def __contains__(self, address: bytes) -> bool:
        now = time.monotonic()
        known = self._known.get(address)
        if known is None or now >= known[1]:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[address] = (self._is_own(address), now + _FRESH)
        return known[0]

    def close(self) -> None:
        """Ask no more."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _is_own(self, address: bytes) -> bool:
        text = ipaddress.ip_address(address)
        if text.is_multicast:
            return False  # a packet for it is for many
        if text.version == 6 and text.is_link_local:
            return True  # never routed, so it came to us; asking would have to name the interface
        family, prefix = (socket.AF_INET, 32) if text.version == 4 else (socket.AF_INET6, 128)
        question = _ROUTE.pack(family, prefix, 0, 0, 0, 0, 0, 0, 0)
        question += _ATTRIBUTE.pack(4 + len(address), _RTA_DST) + address
        try:
            kind, answer = self._ask(question)
            # An error is that of a host that would not know where to send a packet for it.
            return bool(kind == _NEW_ROUTE and _ROUTE.unpack_from(answer)[7] == _LOCAL)
        except (OSError, struct.error):
            self.close()
            return False

    def _ask(self, question: bytes) -> tuple[int, bytes]:
        """The kind of the answer, and what comes after its header."""
        self._socket = self._socket or _opened()
        self._number = (self._number + 1) & 0xFFFFFFFF
        length = _HEADER.size + len(question)
        self._socket.send(_HEADER.pack(length, _GET_ROUTE, _REQUEST, self._number, 0) + question)
        while True:
            answer = self._socket.recv(1 << 14)
            _, kind, _, number, _ = _HEADER.unpack_from(answer)
            if number == self._number:  # else it is one that was not waited for
                return kind, answer[_HEADER.size :]


def _opened() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
