"""IPv4, IPv6, TCP and UDP headers -> ``Observation``.

The bytes begin at the network header (what a SOCK_DGRAM packet socket delivers). Owns nothing,
remembers nothing, and raises only ``Refused``. Checksums are the kernel's business: an offloading
network card leaves them unfilled on loopback and veth, so a check here would turn honest knocks away.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers), RFC 9293 (TCP), RFC 768 (UDP).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from knockgate.errors import Reason, Refused
from knockgate.model import Observation, Source

__all__ = [
    "ETH_P_IP",
    "ETH_P_IPV6",
    "MAX_EXTENSIONS",
    "Datagram",
    "datagram",
    "observe",
    "payload",
]

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD

#: IPv6 extension headers walked before giving up. RFC 8200 gives no limit; more than one of each kind
#: is nobody's honest packet, and a bound keeps the work per packet bounded.
MAX_EXTENSIONS = 8

# Extension headers with a length octet (RFC 8200 4.3, 4.4, 4.6; RFC 6275 6.1; RFC 7401; RFC 5533).
_HOP_BY_HOP, _ROUTING, _DESTINATION, _MOBILITY, _HIP, _SHIM6 = 0, 43, 60, 135, 139, 140
_WITH_LENGTH = frozenset((_HOP_BY_HOP, _ROUTING, _DESTINATION, _MOBILITY, _HIP, _SHIM6))
_FRAGMENT = 44
_TCP, _UDP = 6, 17

_IPV4 = struct.Struct("!BxHxxHxB")  # version and header length, total length, fragment word, protocol
_IPV6 = struct.Struct("!B3xHB")  # version, payload length, next header
_PORTS = struct.Struct("!HH")
_UDP_HEADER = struct.Struct("!HHH")  # source port, destination port, length
_FRAGMENT_WORD = struct.Struct("!H")
# All that is looked at of TCP right behind a header without options or extensions, as most packets are.
_PLAIN4 = struct.Struct("!BxHxxHxBxx4s4sHH8xBB")
_PLAIN6 = struct.Struct("!B3xHBx16s16sHH8xBB")


class Datagram(NamedTuple):
    """What a UDP datagram carries, from whom and to whom."""

    source: Source
    destination: bytes
    payload: bytes


def datagram(packet: bytes) -> Datagram:
    """A UDP datagram; raises Refused as ``observe`` does, and NO_PORTS for any other packet."""
    seen = observe(packet)
    if seen.protocol != _UDP:
        raise Refused(Reason.NO_PORTS)
    (length,) = _FRAGMENT_WORD.unpack_from(packet, seen.payload - 4)  # of the header and what it heads
    return Datagram(seen.source, seen.destination, packet[seen.payload : seen.payload - 8 + length])


def payload(packet: bytes) -> bytes:
    """What a UDP datagram carries, unchecked, where it has no extension headers.

    It is for turning most of a flood away at once, at a seventh of the price of ``datagram``: of a packet
    that ``datagram`` takes, both say the same.
    """
    if packet[:1] == b"\x45":
        start = 28
    elif packet[:1] < b"\x50":
        start = (packet[0] & 0x0F) * 4 + 8 if packet else 8
    else:
        start = 48
    return packet[start : start - 8 + int.from_bytes(packet[start - 4 : start - 2])]


def observe(packet: bytes) -> Observation:
    """Read the headers of one packet; raises Refused with the first thing that is wrong.

    Trailing bytes beyond the length that the IP header states (Ethernet padding) are ignored.
    Any fragment is refused, the first one too: its ports may be overwritten by the next.
    """
    return _plain(packet) or _walked(packet)


def _plain(packet: bytes) -> Observation | None:
    """What ``_walked`` sees of TCP without options of IPv4 or extensions of IPv6, at half its price.

    None for any other packet, and for one that has a mistake.
    """
    size, first = len(packet), packet[0] if packet else 0
    if first == 0x45 and size >= _PLAIN4.size:
        _, end, word, protocol, source, to, source_port, port, offset, flags = _PLAIN4.unpack_from(packet)
        header, begin = offset >> 2 & 0x3C, 20
        if word & 0x3FFF:
            return None
    elif first >> 4 == 6 and size >= _PLAIN6.size:
        _, length, protocol, source, to, source_port, port, offset, flags = _PLAIN6.unpack_from(packet)
        header, begin = offset >> 2 & 0x3C, 40
        end = begin + length
    else:
        return None
    if protocol != _TCP or header < 20 or not begin + header <= end <= size:
        return None
    return Observation(source, to, _TCP, source_port, port, flags, begin + header)


def _walked(packet: bytes) -> Observation:
    if not packet:
        raise Refused(Reason.TRUNCATED)
    version = packet[0] >> 4
    if version == 4:
        return _observe4(packet)
    if version == 6:
        return _observe6(packet)
    raise Refused(Reason.NOT_IP)


def _observe4(packet: bytes) -> Observation:
    if len(packet) < 20:
        raise Refused(Reason.TRUNCATED)
    first, total, fragment, protocol = _IPV4.unpack_from(packet)
    header = (first & 0x0F) * 4
    if header < 20 or total < header:
        raise Refused(Reason.BAD_HEADER)
    if total > len(packet):
        raise Refused(Reason.TRUNCATED)
    if fragment & 0x3FFF:  # more-fragments bit or an offset; the reserved and don't-fragment bits may be set
        raise Refused(Reason.FRAGMENT)
    return _transport(packet, packet[12:16], packet[16:20], protocol, header, total)


def _observe6(packet: bytes) -> Observation:
    if len(packet) < 40:
        raise Refused(Reason.TRUNCATED)
    _, payload, following = _IPV6.unpack_from(packet)
    end = 40 + payload
    if end > len(packet):
        raise Refused(Reason.TRUNCATED)
    offset = 40
    for _ in range(MAX_EXTENSIONS + 1):
        if following in _WITH_LENGTH:
            # Hop-by-hop options may only come first (RFC 8200 4.1): elsewhere the kernel drops the packet.
            if following == _HOP_BY_HOP and offset != 40:
                raise Refused(Reason.BAD_HEADER)
            if offset + 8 > end or offset + 8 + packet[offset + 1] * 8 > end:
                raise Refused(Reason.BAD_HEADER)
            # Segments left: the address we would compare is not where the packet is going (RFC 8200 4.4).
            if following == _ROUTING and packet[offset + 3]:
                raise Refused(Reason.BAD_HEADER)
            following, offset = packet[offset], offset + 8 + packet[offset + 1] * 8
        elif following == _FRAGMENT:
            if offset + 8 > end:
                raise Refused(Reason.BAD_HEADER)
            (word,) = _FRAGMENT_WORD.unpack_from(packet, offset + 2)
            if word & 0xFFF9:  # an offset or more fragments; a lone "atomic" fragment is whole (RFC 6946)
                raise Refused(Reason.FRAGMENT)
            following, offset = packet[offset], offset + 8
        else:
            return _transport(packet, packet[8:24], packet[24:40], following, offset, end)
    raise Refused(Reason.BAD_HEADER)


def _transport(
    packet: bytes, source: bytes, destination: bytes, protocol: int, offset: int, end: int
) -> Observation:
    if protocol == _TCP:
        if offset + 20 > end:
            raise Refused(Reason.BAD_HEADER)
        source_port, port = _PORTS.unpack_from(packet, offset)
        header = (packet[offset + 12] >> 4) * 4
        if header < 20 or offset + header > end:
            raise Refused(Reason.BAD_HEADER)
        return Observation(source, destination, _TCP, source_port, port, packet[offset + 13], offset + header)
    if protocol == _UDP:
        if offset + 8 > end:
            raise Refused(Reason.BAD_HEADER)
        source_port, port, length = _UDP_HEADER.unpack_from(packet, offset)
        if length < 8 or offset + length > end:
            raise Refused(Reason.BAD_HEADER)
        return Observation(source, destination, _UDP, source_port, port, 0, offset + 8)
    raise Refused(Reason.NO_PORTS)
