"""Packets, and what is seen in them or why they are turned away."""

from __future__ import annotations

from tests.packets import (
    CLIENT,
    CLIENT6,
    SERVER,
    SERVER6,
    SYN,
    TCP,
    UDP,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    raw,
    tcp,
    udp,
)

from knockgate.errors import Reason, Refused
from knockgate.model import Observation
from knockgate.wire.frames import MAX_EXTENSIONS, observe

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 60, 135, 139, 140
WITH_LENGTH = [HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY, HIP, SHIM6]
NO_NEXT_HEADER = 59


def seen4(protocol: int, flags: int, payload: int) -> Observation:
    return Observation(raw(CLIENT), raw(SERVER), protocol, 40000, 7000, flags, payload)


def seen6(protocol: int, flags: int, payload: int) -> Observation:
    return Observation(raw(CLIENT6), raw(SERVER6), protocol, 40000, 7000, flags, payload)


def reason(packet: bytes) -> Reason | None:
    """Why the packet is turned away; None if it is not."""
    try:
        observe(packet)
    except Refused as refused:
        return refused.reason
    return None


# name -> packet and what is seen in it.
READ: dict[str, tuple[bytes, Observation]] = {
    "tcp": (ipv4(tcp()), seen4(TCP, SYN, 40)),
    "tcp with every flag": (ipv4(tcp(flags=0xFF)), seen4(TCP, 0xFF, 40)),
    "tcp with a payload": (ipv4(tcp(payload=b"hello")), seen4(TCP, SYN, 40)),
    "tcp with options": (ipv4(tcp(options=b"\x02\x04\x05\xb4")), seen4(TCP, SYN, 44)),
    "tcp with all options that fit": (ipv4(tcp(options=bytes(40))), seen4(TCP, SYN, 80)),
    "tcp whose header ends the packet": (ipv4(tcp(data_offset=6) + bytes(4)), seen4(TCP, SYN, 44)),
    "udp": (ipv4(udp(), UDP), seen4(UDP, 0, 28)),
    "udp with a payload": (ipv4(udp(payload=b"hello"), UDP), seen4(UDP, 0, 28)),
    "udp shorter than its packet": (ipv4(udp(length=8) + b"spare", UDP), seen4(UDP, 0, 28)),
    "ipv4 with an option": (ipv4(tcp(), options=bytes(4)), seen4(TCP, SYN, 44)),
    "ipv4 with all options that fit": (ipv4(udp(), UDP, options=bytes(40)), seen4(UDP, 0, 68)),
    "ipv4, don't fragment": (ipv4(tcp(), fragment=0x4000), seen4(TCP, SYN, 40)),
    "ipv4, reserved flag": (ipv4(tcp(), fragment=0x8000), seen4(TCP, SYN, 40)),
    "ipv4 with Ethernet padding": (ipv4(tcp()) + bytes(6), seen4(TCP, SYN, 40)),
    "ipv4 with padding that looks like a packet": (ipv4(tcp()) + ipv4(tcp(9)), seen4(TCP, SYN, 40)),
    "tcp over ipv6": (ipv6(tcp()), seen6(TCP, SYN, 60)),
    "udp over ipv6": (ipv6(udp(), UDP), seen6(UDP, 0, 48)),
    "ipv6 with padding": (ipv6(udp(), UDP) + bytes(6), seen6(UDP, 0, 48)),
    "hop-by-hop": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension())]), seen6(TCP, SYN, 68)),
    "hop-by-hop of 24 octets": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension(2))]), seen6(TCP, SYN, 84)),
    "routing, arrived": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 0, 0))]), seen6(TCP, SYN, 84)),
    "destination options": (ipv6(udp(), UDP, [(DESTINATION, extension(1))]), seen6(UDP, 0, 64)),
    "mobility": (ipv6(tcp(), TCP, [(MOBILITY, extension())]), seen6(TCP, SYN, 68)),
    "host identity": (ipv6(tcp(), TCP, [(HIP, extension())]), seen6(TCP, SYN, 68)),
    "shim6": (ipv6(tcp(), TCP, [(SHIM6, extension())]), seen6(TCP, SYN, 68)),
    "longest header": (ipv6(tcp(), TCP, [(DESTINATION, extension(255))]), seen6(TCP, SYN, 60 + 2048)),
    "atomic fragment": (ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())]), seen6(TCP, SYN, 68)),
    "atomic fragment, reserved bits": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(reserved=3))]),
        seen6(TCP, SYN, 68),
    ),
    "all in the order of RFC 8200": (
        ipv6(
            udp(),
            UDP,
            [
                (HOP_BY_HOP, extension()),
                (DESTINATION, extension()),
                (ROUTING, extension()),
                (FRAGMENT, fragment_header()),
                (DESTINATION, extension()),
            ],
        ),
        seen6(UDP, 0, 88),
    ),
    "as many as are walked": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())] * MAX_EXTENSIONS),
        seen6(TCP, SYN, 60 + 8 * MAX_EXTENSIONS),
    ),
}

# name -> packet and why it is turned away. A name that says "one less" or the like has its control in READ.
REFUSED: dict[str, tuple[bytes, Reason]] = {
    "nothing": (b"", Reason.TRUNCATED),
    "ipv4 header says 0 words": (ipv4(tcp(), header_words=0), Reason.BAD_HEADER),
    # Its source address, 80.x, would pass for the offset of a TCP header read in its place.
    "ipv4 header says 0 words and hides it": (
        ipv4(tcp(), header_words=0, source="80.2.0.1"),
        Reason.BAD_HEADER,
    ),
    "ipv4 header says 4 words": (ipv4(tcp(), header_words=4), Reason.BAD_HEADER),
    "ipv4 length shorter than the header": (ipv4(tcp(), total=19), Reason.BAD_HEADER),
    "ipv4 length shorter than header with options": (
        ipv4(tcp(), options=bytes(8), total=27),
        Reason.BAD_HEADER,
    ),
    "ipv4 length shorter than the header of no matter what": (ipv4(b"", 1, total=19), Reason.BAD_HEADER),
    "ipv4 length of zero": (ipv4(tcp(), total=0), Reason.BAD_HEADER),
    "ipv4 length beyond the packet": (ipv4(tcp(), total=41), Reason.TRUNCATED),
    "ipv4 options take the tcp header": (ipv4(tcp(), header_words=6), Reason.BAD_HEADER),
    "ipv4 options take the whole packet": (ipv4(bytes(20), header_words=10), Reason.BAD_HEADER),
    "first fragment": (ipv4(tcp(), fragment=0x2000), Reason.FRAGMENT),
    "middle fragment": (ipv4(tcp(), fragment=0x2001), Reason.FRAGMENT),
    "last fragment": (ipv4(tcp(), fragment=0x0001), Reason.FRAGMENT),
    "last fragment, far away": (ipv4(tcp(), fragment=0x1000), Reason.FRAGMENT),
    "first fragment that may not be one": (ipv4(tcp(), fragment=0x6000), Reason.FRAGMENT),
    "first fragment of udp": (ipv4(udp(), UDP, fragment=0x2000), Reason.FRAGMENT),
    "icmp": (ipv4(bytes(20), 1), Reason.NO_PORTS),
    "ipv6 in ipv4": (ipv4(ipv6(tcp()), 41), Reason.NO_PORTS),
    "sctp, which has ports elsewhere": (ipv4(bytes(20), 132), Reason.NO_PORTS),
    "udp-lite": (ipv4(udp(), 136), Reason.NO_PORTS),
    "tcp header says 4 words": (ipv4(tcp(data_offset=4)), Reason.BAD_HEADER),
    "tcp header says 0 words": (ipv4(tcp(data_offset=0)), Reason.BAD_HEADER),
    "tcp header longer than the packet": (ipv4(tcp(data_offset=6)), Reason.BAD_HEADER),
    "tcp header reaches into the padding": (
        ipv4(tcp(data_offset=6) + bytes(4), total=40),
        Reason.BAD_HEADER,
    ),
    "tcp header in the padding": (ipv4(tcp(), total=39), Reason.BAD_HEADER),
    "udp says nothing": (ipv4(udp(length=0), UDP), Reason.BAD_HEADER),
    "udp shorter than its header": (ipv4(udp(length=7), UDP), Reason.BAD_HEADER),
    "udp longer than the packet": (ipv4(udp(length=9), UDP), Reason.BAD_HEADER),
    "udp reaches into the padding": (ipv4(udp(length=9) + b"x", UDP, total=28), Reason.BAD_HEADER),
    "udp header in the padding": (ipv4(udp(), UDP, total=27), Reason.BAD_HEADER),
    "ipv6 length beyond the packet": (ipv6(tcp(), payload=21), Reason.TRUNCATED),
    "ipv6 length of zero": (ipv6(tcp(), payload=0), Reason.BAD_HEADER),
    "tcp over ipv6 in the padding": (ipv6(tcp(), payload=19), Reason.BAD_HEADER),
    "udp over ipv6 in the padding": (ipv6(udp(), UDP, payload=7), Reason.BAD_HEADER),
    "icmpv6": (ipv6(bytes(20), 58), Reason.NO_PORTS),
    "no next header": (ipv6(tcp(), NO_NEXT_HEADER), Reason.NO_PORTS),
    "no next header after an extension": (
        ipv6(tcp(), NO_NEXT_HEADER, [(DESTINATION, extension())]),
        Reason.NO_PORTS,
    ),
    "encrypted": (ipv6(tcp(), 50), Reason.NO_PORTS),
    "authenticated": (ipv6(tcp(), 51), Reason.NO_PORTS),
    "hop-by-hop in second place": (
        ipv6(tcp(), TCP, [(DESTINATION, extension()), (HOP_BY_HOP, extension())]),
        Reason.BAD_HEADER,
    ),
    "hop-by-hop twice": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension())] * 2), Reason.BAD_HEADER),
    "routing, one to go": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 0, 1))]), Reason.BAD_HEADER),
    "segment routing, one to go": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 4, 1))]), Reason.BAD_HEADER),
    "first ipv6 fragment": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(more=True))]),
        Reason.FRAGMENT,
    ),
    "last ipv6 fragment": (ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(1))]), Reason.FRAGMENT),
    "last ipv6 fragment, far away": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(0x1000))]),
        Reason.FRAGMENT,
    ),
    "ipv6 fragment behind an extension": (
        ipv6(tcp(), TCP, [(DESTINATION, extension()), (FRAGMENT, fragment_header(more=True))]),
        Reason.FRAGMENT,
    ),
    "extension reaches over the end": (
        ipv6(tcp(), TCP, [(DESTINATION, extension(stated=3))]),
        Reason.BAD_HEADER,
    ),
    "extension reaches over the end, and then it is no matter what follows": (
        ipv6(tcp(), NO_NEXT_HEADER, [(DESTINATION, extension(stated=3))]),
        Reason.BAD_HEADER,
    ),
    "extension in the padding": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())], payload=7),
        Reason.BAD_HEADER,
    ),
    "fragment header in the padding": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())], payload=7),
        Reason.BAD_HEADER,
    ),
    "one more than are walked": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())] * (MAX_EXTENSIONS + 1)),
        Reason.BAD_HEADER,
    ),
}


def stated_length(packet: bytes) -> int:
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


def udp_length(packet: bytes, seen: Observation) -> bytes:
    return packet[seen.payload - 4 : seen.payload - 2]
