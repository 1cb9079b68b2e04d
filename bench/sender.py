"""Sends one kind of flood at an even rate until it is ended or its time is up.

A process of its own, on a core of its own, so that its work is not the daemon's. All frames are made
before the first one leaves; sendmmsg(2) then takes them in batches, because a call for each frame costs
Python more than the frame costs the kernel. Says ``flowing`` on standard output when it has begun.
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator

from bench.packets import ACK, PSH, SYN, Path, tcp, udp

__all__ = ["KINDS", "Header", "Message", "Piece", "main"]

BATCH = 32
#: Frames made beforehand; they are sent round and round.
FRAMES = 32768
#: Ports of no service and no sequence.
OTHER_PORTS = range(10000, 60000)
FIRST_KNOCK = 7000
PAYLOAD = bytes(64)
#: After a pause no more than this is made up for at once, in seconds: a flood, not a burst.
CATCH_UP = 0.1


class Piece(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.POINTER(Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", Header), ("sent", ctypes.c_uint))


def _no_opening(path: Path, turn: int, chance: random.Random) -> bytes:
    port = chance.randrange(1, 65536)
    if turn % 3 == 0:
        return udp(path, port, chance, PAYLOAD)
    if turn % 3 == 1:
        return tcp(path, port, ACK, chance)
    return tcp(path, port, PSH | ACK, chance, PAYLOAD)


def _other_port(path: Path, turn: int, chance: random.Random) -> bytes:  # noqa: ARG001 - as its siblings
    return tcp(path, chance.choice(OTHER_PORTS), SYN, chance)


def _first_knock(path: Path, turn: int, chance: random.Random) -> bytes:  # noqa: ARG001 - as its siblings
    return tcp(path, FIRST_KNOCK, SYN, chance)


KINDS: dict[str, Callable[[Path, int, random.Random], bytes]] = {
    "no-opening": _no_opening,
    "other-port": _other_port,
    "first-knock": _first_knock,
}


def _made_up(chance: random.Random) -> Iterator[bytes]:
    """Addresses of both families in turn that nobody has (RFC 2544's and RFC 3849's), each a new one."""
    network4, network6 = int(ipaddress.ip_address("198.18.0.0")), int(ipaddress.ip_address("2001:db8:1::"))
    while True:
        yield (network4 + chance.getrandbits(17)).to_bytes(4)
        yield (network6 + chance.getrandbits(80)).to_bytes(16)


def _given(addresses: list[str]) -> Iterator[bytes]:
    while True:
        for address in addresses:
            yield ipaddress.ip_address(address).packed


def _frames(args: argparse.Namespace) -> list[bytes]:
    chance = random.Random(args.seed)  # noqa: S311 - the same flood again for the same seed
    hosts = {len(packed): packed for packed in (ipaddress.ip_address(each).packed for each in args.hosts)}
    macs = bytes.fromhex(args.source_mac), bytes.fromhex(args.host_mac)
    sources = _given(args.sources) if args.sources else _made_up(chance)
    make = KINDS[args.kind]
    frames = []
    for number in range(FRAMES):
        source = next(sources)
        # Kinds change after each pair, so that every kind is sent over both families.
        frames.append(make(Path(*macs, source, hosts[len(source)]), number // 2, chance))
    return frames


def _flood(sock: socket.socket, frames: list[bytes], rate: int, until: float) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
    pieces = (Piece * FRAMES)(*(Piece(ctypes.addressof(b), len(b)) for b in buffers))
    messages = (Message * FRAMES)()
    for number, message in enumerate(messages):
        message.header.pieces, message.header.piece_count = ctypes.pointer(pieces[number]), 1
    first, size, file = ctypes.addressof(messages), ctypes.sizeof(Message), sock.fileno()
    batches = [ctypes.c_void_p(first + at * size) for at in range(0, FRAMES, BATCH)]
    next_at, gap = time.monotonic(), BATCH / rate
    turn = 0
    print("flowing", flush=True)
    while (now := time.monotonic()) < until:
        if now < next_at:
            time.sleep(next_at - now)
            continue
        next_at = max(next_at + gap, now - CATCH_UP)
        # Frames that a full queue turns away are not sent again: what counts is counted at the host.
        if libc.sendmmsg(file, batches[turn], BATCH, 0) < 0 and ctypes.get_errno() != 105:  # ENOBUFS
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        turn = (turn + 1) % len(batches)


def main() -> int:
    """Send; exits 0 when the time is up."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.sender")
    parser.add_argument("--device", required=True, help="put the frames on this interface")
    parser.add_argument("--source-mac", required=True)
    parser.add_argument("--host-mac", required=True)
    parser.add_argument("--hosts", nargs="+", required=True, help="the host's address in each family")
    parser.add_argument("--sources", nargs="*", help="source addresses in turn; none: made-up ones")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--rate", type=int, required=True, help="frames a second")
    parser.add_argument("--seconds", type=float, required=True, help="end by itself after this time")
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    frames = _frames(args)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((args.device, 0))
        _flood(sock, frames, args.rate, time.monotonic() + args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
