"""What stands before the network header in a capture file, by the file's link type.

Pure: a frame comes in, the packet in it goes out, with what the link layer says of its way. Only files
need this; of a live capture the kernel takes the link layer's header off.

Sources: the list of link types at tcpdump.org (LINKTYPE_ETHERNET, _NULL, _RAW, _IPV4, _IPV6,
_LINUX_SLL, _LINUX_SLL2); IEEE 802.1Q for tags; packet(7) for the packet types of a cooked header.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

from knockgate.wire.frames import ETH_P_IP, ETH_P_IPV6

__all__ = ["LINKS", "Way"]


class Way(enum.Enum):
    """Where a packet goes, as far as its link layer tells."""

    IN = "to this host"
    ALL = "to everybody on the wire"
    ELSEWHERE = "to another machine on the wire"
    OUT = "from this host"
    LOOPBACK = "from this host to itself"
    UNKNOWN = "unknown"


_COOKED_WAYS = {0: Way.IN, 1: Way.ALL, 2: Way.ALL, 3: Way.ELSEWHERE, 4: Way.OUT}
_ARPHRD_LOOPBACK = 772
_TAGS = (0x8100, 0x88A8, 0x9100)  # 802.1Q, 802.1ad, and what 802.1ad was before it had a number

_COOKED = struct.Struct("!HH10xH")  # packet type, ARPHRD_ type, EtherType
_COOKED2 = struct.Struct("!H6xHB9x")  # EtherType, ARPHRD_ type, packet type


def _ethernet(frame: bytes) -> tuple[Way, bytes]:
    if len(frame) < 14:
        return Way.UNKNOWN, b""
    way = Way.ALL if frame[0] & 1 else Way.UNKNOWN  # the group bit of the destination
    if not any(frame[:12]):  # Linux's lo: both addresses are zero
        way = Way.LOOPBACK
    return way, _inside(int.from_bytes(frame[12:14], "big"), frame[14:])


def _cooked(frame: bytes) -> tuple[Way, bytes]:
    if len(frame) < _COOKED.size:
        return Way.UNKNOWN, b""
    kind, hardware, ether_type = _COOKED.unpack_from(frame)
    return _cooked_way(kind, hardware), _inside(ether_type, frame[_COOKED.size :])


def _cooked2(frame: bytes) -> tuple[Way, bytes]:
    if len(frame) < _COOKED2.size:
        return Way.UNKNOWN, b""
    ether_type, hardware, kind = _COOKED2.unpack_from(frame)
    return _cooked_way(kind, hardware), _inside(ether_type, frame[_COOKED2.size :])


def _cooked_way(kind: int, hardware: int) -> Way:
    if hardware == _ARPHRD_LOOPBACK:
        return Way.LOOPBACK
    return _COOKED_WAYS.get(kind, Way.UNKNOWN)


def _null(frame: bytes) -> tuple[Way, bytes]:
    # The family's number is another one on each system; IP itself says which it is.
    return Way.UNKNOWN, _versioned(frame[4:])


def _raw(frame: bytes) -> tuple[Way, bytes]:
    return Way.UNKNOWN, _versioned(frame)


def _versioned(packet: bytes) -> bytes:
    return packet if packet and packet[0] >> 4 in (4, 6) else b""


def _inside(ether_type: int, rest: bytes) -> bytes:
    while ether_type in _TAGS and len(rest) >= 4:
        ether_type, rest = int.from_bytes(rest[2:4], "big"), rest[4:]
    return rest if ether_type in (ETH_P_IP, ETH_P_IPV6) else b""


#: Link type -> from a frame its way, and the packet from the network header on: empty where that is no
#: IP, or where the capture cut it off before.
LINKS: dict[int, Callable[[bytes], tuple[Way, bytes]]] = {
    0: _null,
    1: _ethernet,
    12: _raw,
    101: _raw,
    113: _cooked,
    228: _raw,
    229: _raw,
    276: _cooked2,
}
