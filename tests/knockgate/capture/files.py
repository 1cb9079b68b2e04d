"""Writes capture files, from the drafts' diagrams and knowing nothing of the reader."""

from __future__ import annotations

import struct
from collections.abc import Iterable

ETHERNET, NULL, RAW, RAW_OLD, COOKED, IPV4, IPV6, COOKED2 = 1, 0, 101, 12, 113, 228, 229, 276
IP, IP6 = 0x0800, 0x86DD

Packet = tuple[int, bytes]  # nanoseconds, frame


def pcap(
    packets: Iterable[Packet],
    link: int = ETHERNET,
    *,
    order: str = "<",
    nano: bool = False,
    version: int = 2,
    cut: int = 262144,
) -> bytes:
    """draft-ietf-opsawg-pcap; ``cut`` is the snap length."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    text = struct.pack(f"{order}IHHIIII", magic, version, 4, 0, 0, cut, link)
    for time, frame in packets:
        fraction = time % 10**9 // (1 if nano else 1000)
        text += struct.pack(f"{order}4I", time // 10**9, fraction, len(frame[:cut]), len(frame)) + frame[:cut]
    return text


def block(kind: int, body: bytes, *, order: str = "<") -> bytes:
    """draft-ietf-opsawg-pcapng, 3.1."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def option(code: int, value: bytes, *, order: str = "<") -> bytes:
    """3.5."""
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(*, order: str = "<") -> bytes:
    """4.1, of unknown length."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order=order)


def interface(link: int = ETHERNET, *, order: str = "<", longest: int = 0, options: bytes = b"") -> bytes:
    """4.2."""
    return block(1, struct.pack(f"{order}HHI", link, 0, longest) + options, order=order)


def enhanced(
    ticks: int,
    frame: bytes,
    *,
    order: str = "<",
    number: int = 0,
    length: int | None = None,
    options: bytes = b"",
) -> bytes:
    """4.3."""
    stated = len(frame) if length is None else length
    head = struct.pack(f"{order}5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), stated)
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order=order)


def simple(frame: bytes, *, order: str = "<", length: int | None = None) -> bytes:
    """4.4."""
    return block(3, struct.pack(f"{order}I", len(frame) if length is None else length) + frame, order=order)


def ethernet(packet: bytes, kind: int = IP, *, tags: bytes = b"", to: bytes = b"\x02\0\0\0\0\1") -> bytes:
    """Addresses, tags, EtherType."""
    return to + b"\x02\0\0\0\0\2" + tags + kind.to_bytes(2, "big") + packet


def cooked(packet: bytes, kind: int = IP, *, way: int = 0, hardware: int = 1) -> bytes:
    """LINKTYPE_LINUX_SLL."""
    return struct.pack("!HHH8sH", way, hardware, 6, b"\x02\0\0\0\0\2", kind) + packet


def cooked2(packet: bytes, kind: int = IP, *, way: int = 0, hardware: int = 1) -> bytes:
    """LINKTYPE_LINUX_SLL2."""
    return struct.pack("!HHIHBB8s", kind, 0, 7, hardware, way, 6, b"\x02\0\0\0\0\2") + packet
