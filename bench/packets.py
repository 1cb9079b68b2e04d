"""Ethernet frames for floods, with checksums as a network card would fill them in.

They are right because the kernel of the host under flood shall do all that it does for honest packets,
answering included.
"""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

__all__ = ["ACK", "PSH", "SYN", "Path", "tcp", "udp"]

SYN, PSH, ACK = 0x02, 0x08, 0x10
_TCP, _UDP = 6, 17


class Path(NamedTuple):
    """From where to where; the addresses of IP as packed bytes, both of one family."""

    source_mac: bytes
    destination_mac: bytes
    source: bytes
    destination: bytes


def tcp(path: Path, port: int, flags: int, chance: random.Random, payload: bytes = b"") -> bytes:
    """A frame with one TCP segment; its source port and sequence number are left to chance."""
    ports = chance.randrange(1024, 65536), port
    number = chance.getrandbits(32)
    start = struct.pack("!HHIIBBH", *ports, number, 1 if flags & ACK else 0, 0x50, flags, 64240)
    rest = struct.pack("!H", 0) + payload
    checksum = _checksum(_pseudo(path, _TCP, 20 + len(payload)) + start + rest)
    return _frame(path, _TCP, start + struct.pack("!H", checksum) + rest)


def udp(path: Path, port: int, chance: random.Random, payload: bytes = b"") -> bytes:
    """A frame with one UDP datagram; its source port is left to chance."""
    length = 8 + len(payload)
    start = struct.pack("!HHH", chance.randrange(1024, 65536), port, length)
    checksum = _checksum(_pseudo(path, _UDP, length) + start + payload) or 0xFFFF  # RFC 768: 0 says "none"
    return _frame(path, _UDP, start + struct.pack("!H", checksum) + payload)


def _frame(path: Path, protocol: int, inner: bytes) -> bytes:
    macs = path.destination_mac + path.source_mac
    if len(path.source) == 16:
        header = struct.pack("!IHBB", 6 << 28, len(inner), protocol, 64)
        return macs + b"\x86\xdd" + header + path.source + path.destination + inner
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(inner), 0, 0x4000, 64, protocol)
    checksum = _checksum(start + path.source + path.destination)
    return macs + b"\x08\x00" + start + struct.pack("!H", checksum) + path.source + path.destination + inner


def _pseudo(path: Path, protocol: int, length: int) -> bytes:
    """RFC 9293, 3.1 and RFC 8200, 8.1: for the sum alone, both families' orders come to the same."""
    return path.source + path.destination + struct.pack("!IHBB", length, 0, 0, protocol)


def _checksum(text: bytes) -> int:
    """RFC 1071."""
    text += b"\0" * (len(text) % 2)
    total: int = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
