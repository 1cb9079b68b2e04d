"""Datagrams to one port that look like fwknop's packet and are none, each from an address of its own.

As ``spoofer``, whose way of sending it shares: as many frames as it sends lie side by side in one buffer, and
their payloads differ too. Two kinds, of the same length:

* ``random``: any bytes.
* ``mimic``: all that a stranger can know of a packet is right. The first character has the bits that every
  packet begins with, all are of base64's alphabet, and the last ones of text and HMAC set no spare bits.
  Only who has the key can tell it from a genuine one.

With ``--amid`` it takes frames from a socket and sends each in the middle of a batch of junk. A genuine knock
must come to the host like that: another process on this core would send while the flood pauses, which is just
when the queue at the host has room.

Says ``flowing`` on standard output when it begins, and how many were sent at the end.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import random
import socket
import struct
import sys

from bench.packets import Path, udp
from bench.spoofer import flood

__all__ = ["KINDS", "frames", "main", "payloads"]

KINDS = ("random", "mimic")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
#: "Salted__" ends in the middle of a character: it, and two bits of the salt.
_FIRST = b"89+/"
#: Characters of base64 that the sender cuts off in front.
_CUT = 10
#: HMAC-SHA256 without padding, and the characters that can be its last: two bits of it are spare.
_HMAC, _SPARE_2, _SPARE_4 = 43, _ALPHABET[::4], _ALPHABET[::16]
_STRIDE = 0x9E3779B1  # as in spoofer: it runs through all numbers, and its bytes look random
#: Octets made beforehand at most; longer floods begin again with the first.
_ROOM = 256 << 20


def payloads(kind: str, count: int, length: int) -> bytearray:
    """``count`` payloads side by side; ``length`` is that of a packet with HMAC-SHA256. ValueError."""
    text = os.urandom(count * length)
    if kind == "random":
        return bytearray(text)
    body = length - _HMAC
    spare = {2: _SPARE_4, 3: _SPARE_2, 0: _ALPHABET}.get((body + _CUT) % 4)
    if spare is None:
        raise ValueError(f"no packet has {length} characters")
    mimic = bytearray(_among(text, _ALPHABET))
    for at, possible in ((0, _FIRST), (body - 1, spare), (length - 1, _SPARE_2)):
        mimic[at::length] = _among(text[at::length], possible)
    return mimic


def _among(text: bytes, possible: bytes) -> bytes:
    """Each octet replaced by one of those; how many there are divides 256, so all are as likely."""
    return text.translate(possible * (256 // len(possible)))


def frames(
    kind: str, count: int, length: int, macs: tuple[bytes, bytes], host: str, port: int
) -> tuple[bytearray, int]:
    """``count`` frames side by side, and the length of each; IPv4, the low 24 bits of 11.0.0.0/8.

    Differences in the address are made up for in the identification (RFC 1071), and UDP has no checksum
    (RFC 768): so the template's hold for all.
    """
    first = ipaddress.ip_address("11.0.0.0").packed
    path = Path(*macs, first, ipaddress.ip_address(host).packed)
    template = bytearray(udp(path, port, random.Random(7), bytes(length)))  # noqa: S311 - a flood, not a key
    checksum, address, identification, payload = 14 + 20 + 6, 14 + 12, 14 + 4, 14 + 20 + 8
    template[checksum : checksum + 2] = bytes(2)
    size = len(template)
    text = template * count
    (start,) = struct.unpack_from("!I", first)
    junk = memoryview(payloads(kind, count, length))
    for index in range(count):
        at = index * size
        source = start | (index * _STRIDE & 0xFFFFFF)
        added = (source >> 16) - (start >> 16) + (source & 0xFFFF)
        struct.pack_into("!I", text, at + address, source)
        struct.pack_into("!H", text, at + identification, -added % 0xFFFF)
        text[at + payload : at + size] = junk[index * length : (index + 1) * length]
    return text, size


def _taken(knocks: socket.socket) -> bytes | None:
    try:
        return knocks.recv(65536)
    except BlockingIOError:
        return None


def main() -> int:
    """Send; exits 0 when the time is up."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.junk")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--length", type=int, required=True, help="of each payload")
    parser.add_argument("--device", required=True, help="put the frames on this interface")
    parser.add_argument("--source-mac", required=True)
    parser.add_argument("--host-mac", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True, help="frames a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--amid", help="path of a datagram socket to make, for frames of the same size")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    macs = bytes.fromhex(args.source_mac), bytes.fromhex(args.host_mac)
    # What is as long as a sealed packet would take gigabytes: it goes round after a second or two.
    count = int(args.rate * args.seconds)
    times = -(-count * args.length // _ROOM)
    text, size = frames(args.kind, -(-count // times), args.length, macs, args.host, args.port)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((args.device, 0))
        if not args.amid:
            print(flood(sock, text, size, args.rate, times=times), flush=True)
            return 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocks:
            knocks.bind(args.amid)
            knocks.settimeout(0)
            print(flood(sock, text, size, args.rate, lambda: _taken(knocks), times=times), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
