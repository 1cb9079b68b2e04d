"""A packet builder for tests, written from the RFCs' diagrams and knowing nothing of the code under test.

Every field that a test may want to falsify is an argument. TCP and UDP checksums are left zero: nobody
here reads them, and what must be answered by a real kernel is sent with real sockets. IPv4 headers have
theirs, since a bridge may look at it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
TCP, UDP = 6, 17

CLIENT, SERVER = "10.0.0.2", "10.0.0.1"
CLIENT6, SERVER6 = "fd00::2", "fd00::1"


def raw(address: str) -> bytes:
    """An address as it stands in a packet."""
    return ipaddress.ip_address(address).packed


def octets(number: int, length: int) -> bytes:
    """A number in network order."""
    return number.to_bytes(length, "big")


def tcp(
    port: int = 7000,
    *,
    source_port: int = 40000,
    flags: int = SYN,
    options: bytes = b"",
    payload: bytes = b"",
    data_offset: int | None = None,
) -> bytes:
    """RFC 9293, 3.1. ``data_offset`` is in words of four bytes; ``options`` fill whole words."""
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    sequence, acknowledgement = octets(0x01020304, 4), octets(0, 4)
    window, checksum, urgent = octets(64240, 2), octets(0, 2), octets(0, 2)
    ports = octets(source_port, 2) + octets(port, 2)
    control = bytes([words << 4, flags])
    return ports + sequence + acknowledgement + control + window + checksum + urgent + options + payload


def udp(
    port: int = 7000, *, source_port: int = 40000, payload: bytes = b"", length: int | None = None
) -> bytes:
    """RFC 768."""
    stated = 8 + len(payload) if length is None else length
    return octets(source_port, 2) + octets(port, 2) + octets(stated, 2) + octets(0, 2) + payload


def ipv4(
    inner: bytes,
    protocol: int = TCP,
    *,
    source: str = CLIENT,
    destination: str = SERVER,
    options: bytes = b"",
    header_words: int | None = None,
    total: int | None = None,
    identification: int = 0,
    fragment: int = 0,
) -> bytes:
    """RFC 791, 3.1. ``fragment`` is the word of three flags and thirteen bits of offset."""
    words = 5 + len(options) // 4 if header_words is None else header_words
    length = 20 + len(options) + len(inner) if total is None else total
    start = bytes([0x40 | words, 0]) + octets(length, 2) + octets(identification, 2) + octets(fragment, 2)
    lifetime, addresses = bytes([64, protocol]), raw(source) + raw(destination)
    checksum = ones_complement(start + lifetime + addresses + options)
    return start + lifetime + checksum + addresses + options + inner


def ones_complement(header: bytes) -> bytes:
    """RFC 1071: the complement of the sum of all 16-bit words, carries added in again."""
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return octets(total ^ 0xFFFF, 2)


def ipv6(
    inner: bytes,
    protocol: int = TCP,
    extensions: Sequence[tuple[int, bytes]] = (),
    *,
    source: str = CLIENT6,
    destination: str = SERVER6,
    payload: int | None = None,
) -> bytes:
    """RFC 8200, 3: ``extensions`` are kinds with headers whose first octet (next header) is filled in."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(
        bytes([following]) + header[1:] for (_, header), following in zip(extensions, kinds[1:], strict=True)
    )
    length = len(chain) + len(inner) if payload is None else payload
    return (
        octets(0x60000000, 4)
        + octets(length, 2)
        + bytes([kinds[0], 64])
        + raw(source)
        + raw(destination)
        + chain
        + inner
    )


def extension(units: int = 0, third: int = 0, fourth: int = 0, *, stated: int | None = None) -> bytes:
    """A header with a length octet: 8 octets and ``units`` times 8 more (RFC 8200, 4.3)."""
    return bytes([0, units if stated is None else stated, third, fourth]) + bytes(4 + 8 * units)


def fragment_header(offset: int = 0, *, more: bool = False, reserved: int = 0) -> bytes:
    """RFC 8200, 4.5; ``offset`` in units of 8 octets, ``reserved`` are the two bits beside the flag."""
    return bytes([0, 0]) + octets(offset << 3 | reserved << 1 | more, 2) + octets(0x01020304, 4)
