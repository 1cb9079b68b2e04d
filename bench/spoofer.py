"""SYNs to one port, each from an address that nobody used before, at an even rate.

Unlike ``sender``, whose frames go round, it makes as many frames as it sends, so that each one begins a
sequence of its own at the gate. Frames differ in 12 bytes; another field takes up the difference, so that
the checksums of the first frame hold for all of them. They lie side by side in one buffer, and a batch is
sent by copying a piece of it below the message headers, which stay the same.

Says ``flowing`` on standard output when it begins, and how many were sent at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import itertools
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable

from bench.packets import SYN, Path, tcp
from bench.sender import Message, Piece

__all__ = ["flood", "frames", "main"]

BATCH = 32
_ENOBUFS = 105
#: A number that runs through all of 2^32 before it repeats; its bytes look random to a hash.
_STRIDE = 0x9E3779B1


def frames(count: int, source_mac: bytes, host_mac: bytes, host: str, port: int) -> tuple[bytearray, int]:
    """``count`` frames side by side, and the length of each.

    IPv4: the low 24 bits of 11.0.0.0/8 with the identification in return (RFC 1071: sums of 16-bit words).
    IPv6: 32 bits of 2001:db8:2::/96, with the sequence number of TCP in return.
    """
    chance = random.Random(7)  # noqa: S311 - a flood, not a key
    target = ipaddress.ip_address(host)
    first = ipaddress.ip_address("11.0.0.0" if target.version == 4 else "2001:db8:2::").packed
    template = tcp(Path(source_mac, host_mac, first, target.packed), port, SYN, chance)
    size = len(template)
    text = bytearray(template * count)
    if target.version == 4:
        low, balance, mask = 14 + 12, 14 + 4, 0xFFFFFF
        give = 14 + 20 + 4  # TCP's sum holds the address as well: its sequence number gives way
    else:
        low, balance, mask = 14 + 8 + 12, None, 0xFFFFFFFF
        give = 14 + 40 + 4
    start = struct.unpack_from("!I", template, low)[0]
    words = start >> 16, start & 0xFFFF
    number = struct.unpack_from("!H", template, give)[0]
    identification = struct.unpack_from("!H", template, balance)[0] if balance else 0
    for index in range(count):
        at = index * size
        address = start | (index * _STRIDE & mask)
        added = (address >> 16) - words[0] + (address & 0xFFFF) - words[1]
        struct.pack_into("!I", text, at + low, address)
        struct.pack_into("!H", text, at + give, (number - added) % 0xFFFF)
        if balance:
            struct.pack_into("!H", text, at + balance, (identification - added) % 0xFFFF)
    return text, size


def flood(
    sock: socket.socket,
    text: bytearray,
    size: int,
    rate: int,
    amid: Callable[[], bytes | None] | None = None,
    *,
    times: int = 1,
) -> int:
    """Send the frames that lie side by side in ``text``, so many ``times``; how many were sent.

    ``rate`` is a second.

    ``amid`` is asked before each batch: a frame of the same size that it has takes the place of one of the
    flood's, anywhere in the batch.
    """
    chance = random.Random(7)  # noqa: S311 - a place in a batch
    libc = ctypes.CDLL(None, use_errno=True)
    window = ctypes.create_string_buffer(BATCH * size)
    pieces = (Piece * BATCH)(*(Piece(ctypes.addressof(window) + n * size, size) for n in range(BATCH)))
    messages = (Message * BATCH)()
    for message, piece in zip(messages, pieces, strict=True):
        message.header.pieces, message.header.piece_count = ctypes.pointer(piece), 1
    source = (ctypes.c_char * len(text)).from_buffer(text)
    begins = ctypes.addressof(source)
    gap, next_at, sent = BATCH / rate, time.monotonic(), 0
    print("flowing", flush=True)
    once = range(0, len(text) - BATCH * size + 1, BATCH * size)
    for at in itertools.chain.from_iterable(itertools.repeat(once, times)):
        while (now := time.monotonic()) < next_at:
            time.sleep(next_at - now)
        next_at = max(next_at + gap, now - 0.1)  # a flood, not a burst, after a pause
        ctypes.memmove(window, begins + at, BATCH * size)
        if amid is not None and (frame := amid()) is not None:
            ctypes.memmove(ctypes.addressof(window) + chance.randrange(BATCH) * size, frame, size)
        done = libc.sendmmsg(sock.fileno(), messages, BATCH, 0)
        if done < 0 and ctypes.get_errno() != _ENOBUFS:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        sent += max(done, 0)
    return sent


def main() -> int:
    """Send; exits 0 when the time is up."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.spoofer")
    parser.add_argument("--device", required=True, help="put the frames on this interface")
    parser.add_argument("--source-mac", required=True)
    parser.add_argument("--host-mac", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True, help="frames a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--core", type=int, required=True)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    macs = bytes.fromhex(args.source_mac), bytes.fromhex(args.host_mac)
    text, size = frames(int(args.rate * args.seconds), *macs, args.host, args.port)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((args.device, 0))
        print(flood(sock, text, size, args.rate), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
