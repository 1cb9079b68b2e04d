"""Whether an address is one of this host's own: the kernel lets us bind to it, or not."""

from __future__ import annotations

import ipaddress
import socket
import time

__all__ = ["OwnAddresses"]

#: An address that is added or taken away is known as such this many seconds later.
_FRESH = 2.0
_REMEMBERED = 1024


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
        return False  # one may bind to it, but a packet for it is for many
    if text.version == 6 and text.is_link_local:
        return True  # never routed, so it came to us; binding would have to name the interface
    family = socket.AF_INET if text.version == 4 else socket.AF_INET6
    try:
        # A kernel without IPv6 has no such sockets, and still shows us the packets that are on the wire.
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(text), 0))
    except OSError:
        return False
    return True
