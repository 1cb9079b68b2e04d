"""Whether an address is one of this host's own: where the kernel would route a packet for it.

By netlink, for which the listener needs no sockets that could send anything to anybody (rtnetlink(7)).
"""

from __future__ import annotations

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
    """``address in OwnAddresses()``, for packed addresses of 4 or 16 bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bool, float]] = {}

    def __contains__(self, address: bytes) -> bool:
        now = time.monotonic()
        known = self._known.get(address)
        if known is None or now >= known[1]:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[address] = (_is_own(address), now + _FRESH)
        return known[0]


def _is_own(address: bytes) -> bool:
    text = ipaddress.ip_address(address)
    if text.is_multicast:
        return False  # a packet for it is for many
    if text.version == 6 and text.is_link_local:
        return True  # never routed, so it came to us; asking would have to name the interface
    family, prefix = (socket.AF_INET, 32) if text.version == 4 else (socket.AF_INET6, 128)
    route = (
        _ROUTE.pack(family, prefix, 0, 0, 0, 0, 0, 0, 0)
        + _ATTRIBUTE.pack(4 + len(address), _RTA_DST)
        + address
    )
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        ) as sock:
            sock.send(_HEADER.pack(_HEADER.size + len(route), _GET_ROUTE, _REQUEST, 1, 0) + route)
            answer = sock.recv(1 << 14)
        _, kind, _, _, _ = _HEADER.unpack_from(answer)
        # An error is that of a host that would not know where to send a packet for it.
        return bool(kind == _NEW_ROUTE and _ROUTE.unpack_from(answer, _HEADER.size)[7] == _LOCAL)
    except (OSError, struct.error):
        return False
