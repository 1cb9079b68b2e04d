"""What the kernel reports through ``log group``: netlink messages -> ``Report``. Pure; for the listener.

The messages are the kernel's, but the packets inside were written by strangers and may be cut short. A
report must not get lost because its packet is odd: the kernel counted it as a knock, so there is an
opening to be told of. So this reads leniently, as the kernel's rules do, where ``wire.frames`` refuses.

Sources: linux/netlink.h, linux/netfilter/nfnetlink_log.h; attributes are in network order, headers are not.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from knockgate.errors import Reason, Refused
from knockgate.model import Source

__all__ = ["Report", "ends", "reports"]

_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_GENERIC = 4  # nfgenmsg: family, version, group
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_PACKET = 4 << 8  # NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET
_PAYLOAD, _PREFIX = 9, 10
_TYPE_MASK = 0x3FFF  # without the bits for nesting and byte order

_WALKED = 8  # IPv6 extension headers, as in wire.frames
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION, _MOBILITY, _HIP, _SHIM6 = 0, 43, 44, 60, 135, 139, 140


class Report(NamedTuple):
    """One packet that met a rule with ``log group``."""

    prefix: str  #: what the rule says
    packet: bytes  #: from the network header on, as changed by the rules; its first bytes


def reports(datagram: bytes) -> list[Report]:
    """The reports in what one read of the socket gave. What is something else is passed over."""
    found = []
    at = 0
    while at + _MESSAGE.size <= len(datagram):
        length, kind, *_ = _MESSAGE.unpack_from(datagram, at)
        if length < _MESSAGE.size or at + length > len(datagram):
            break
        if kind == _PACKET:
            found.append(_report(datagram[at + _MESSAGE.size + _GENERIC : at + length]))
        at += (length + 3) & ~3
    return found


def _report(attributes: bytes) -> Report:
    values: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if length < _ATTRIBUTE.size or at + length > len(attributes):
            break
        values[kind & _TYPE_MASK] = attributes[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    prefix = values.get(_PREFIX, b"").split(b"\0", 1)[0].decode("ascii", errors="replace")
    return Report(prefix, values.get(_PAYLOAD, b""))


def ends(packet: bytes) -> tuple[Source, int | None]:
    """Source and destination port of a packet that the kernel took for TCP or UDP.

    The port is None where it lies beyond what was copied. Raises Refused where there is no address.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        if len(packet) < 20:
            raise Refused(Reason.TRUNCATED)
        return packet[12:16], _port(packet, (packet[0] & 0x0F) * 4)
    if version == 6:
        if len(packet) < 40:
            raise Refused(Reason.TRUNCATED)
        return packet[8:24], _port(packet, _transport6(packet))
    raise Refused(Reason.NOT_IP if packet else Reason.TRUNCATED)


def _transport6(packet: bytes) -> int:
    """Where the transport header begins; beyond the end of the packet where that cannot be seen."""
    following, at = packet[6], 40
    for _ in range(_WALKED):
        if following not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION, _MOBILITY, _HIP, _SHIM6):
            return at
        if at + 8 > len(packet):
            break
        length = 8 if following == _FRAGMENT else 8 + packet[at + 1] * 8
        following, at = packet[at], at + length
    return len(packet)


def _port(packet: bytes, transport: int) -> int | None:
    port = packet[transport + 2 : transport + 4]
    return int.from_bytes(port, "big") if len(port) == 2 else None
