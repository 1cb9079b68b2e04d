"""What the way to a host carries, and a datagram that goes there whole or not at all.

The kernel knows the MTU of the first link, and of those behind it what routers have told it of (ICMP), once
something was too large for them, if the socket that has sent it is open still when they say so. So after a
knock that came to nothing, ``mtu`` may know more than before.
"""

from __future__ import annotations

import errno
import socket
import time

from knockgate.client.send import sockaddr, udp_socket, unsent
from knockgate.errors import Unavailable
from knockgate.model import Port

__all__ = ["mtu", "room", "send", "sent"]

# Linux, include/uapi/linux/in.h and in6.h; Python's socket has not all of them.
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_PMTUDISC_DO = 2
_IPV4_HEADERS, _IPV6_HEADERS = 28, 48  # with UDP's 8


def mtu(address: str, source: str | None = None) -> int | None:
    """Bytes that a packet to ``address`` may have, as far as this machine knows; None: there is no route.

    Sends nothing. Unavailable as in ``send.local_address``.
    """
    with udp_socket(address, source) as sock:
        try:
            sock.connect(sockaddr(address, 9))  # looks up the route only
            if sock.family == socket.AF_INET6:
                return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return None


def room(size: int, address: str) -> int:
    """Bytes of a datagram's payload in a packet of ``size`` bytes to ``address``."""
    return size - (_IPV6_HEADERS if ":" in address else _IPV4_HEADERS)


def send(address: str, port: Port, payload: bytes, *, source: str | None = None) -> float:
    """Send one datagram in one packet; returns the monotonic time at which it left. Raises Unavailable."""
    left_at, sock = sent(address, port, payload, source=source)
    sock.close()
    return left_at


def sent(
    address: str, port: Port, payload: bytes, *, source: str | None = None
) -> tuple[float, socket.socket]:
    """The same; also the socket, for the caller to close when no router will say anything more."""
    sock = udp_socket(address, source)
    left_at = time.monotonic()
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
        sock.connect(sockaddr(address, port.number))
        sock.send(payload)
    except OSError as error:
        sock.close()
        if error.errno == errno.EMSGSIZE:
            raise _too_large(address, len(payload), source) from None
        raise unsent("the packet", address, error) from None
    return left_at, sock


def _too_large(address: str, size: int, source: str | None) -> Unavailable:
    known = mtu(address, source)
    carries = f": the way there carries {room(known, address)} (MTU {known})" if known else ""
    return Unavailable(
        f"the packet of {size} bytes does not fit through to {address}{carries}; nothing was sent",
        hint="--small makes one of 245 bytes, which quantum computers may read one day; or raise the MTU",
    )
