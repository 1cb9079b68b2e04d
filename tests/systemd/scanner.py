"""SYNs to several ports, one to each every 10 ms: ``scanner.py INTERFACE MAC SOURCES FILE TARGET...``.

SOURCES are an IPv4 address and an IPv6 one, as ``A,B``; a TARGET is ``HOST,PORT`` or, at another network
card, ``HOST,PORT,MAC``. It writes a line into FILE for each answer: when it came, in seconds by the monotonic
clock, from which host and port, and what it was (``open`` for a SYN with ACK, ``closed`` for a RST). Targets
have their turns one after the other, so all of them together are tried far more often. Each SYN has a source
port of its own. Where the scanner itself came too late, by a turn or more, it says so: ``late``, and for how
long. Ends with SIGTERM, and writes how many SYNs it has sent.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tests.packets import ipv4, ipv6, raw, tcp

EVERY = 0.01
_ETH_P_ALL = 3
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23


class Target:
    """A port of a host, and the frames for it."""

    def __init__(self, text: str, sources: str, ours: bytes, mac: str) -> None:
        host, port, *card = text.split(",")
        self.host, self.port = host, int(port)
        self.address, four = raw(host), "." in host
        self._source = sources.split(",")[0 if four else 1]
        self.source = raw(self._source)
        self._wrap = ipv4 if four else ipv6
        kind = b"\x08\x00" if four else b"\x86\xdd"
        self._head = bytes.fromhex((card[0] if card else mac).replace(":", "")) + ours + kind

    def frame(self, source_port: int) -> bytes:
        segment = checked(tcp(self.port, source_port=source_port), self.source, self.address)
        return self._head + self._wrap(segment, source=self._source, destination=self.host)


def main(interface: str, mac: str, sources: str, file: str, *texts: str) -> None:
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as wire,
        Path(file).open("w") as told,
    ):
        wire.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        wire.bind((interface, _ETH_P_ALL))
        targets = [Target(text, sources, wire.getsockname()[4], mac) for text in texts]
        known = {(target.address, target.port): target for target in targets}
        sent, late, due = 0, 0.0, time.monotonic()
        print(f"began {due:.4f}", file=told, flush=True)
        while not ending:
            for target in targets:
                late = max(late, -hear(wire, due, known, told))
                due += EVERY / len(targets)
                with contextlib.suppress(OSError):  # the interface is down
                    wire.send(target.frame(20000 + sent // len(targets) % 40000))
                    sent += 1
            if late > EVERY:
                print(f"late {late:.4f}", file=told, flush=True)
            late = 0.0
        print(f"ended {time.monotonic():.4f} {sent}", file=told, flush=True)


def hear(wire: socket.socket, due: float, known: dict[tuple[bytes, int], Target], told: TextIO) -> float:
    """Write down what comes until ``due``; returns how long there was until then, below zero: too late."""
    begun = due - time.monotonic()
    left = begun
    while left > 0:
        wire.settimeout(left)
        try:
            frame = wire.recv(2048)
        except OSError:
            break
        for source, address, port, kind in answer(frame):
            target = known.get((address, port))
            if target and target.source == source:  # others have answers, too
                print(f"{time.monotonic():.4f} {target.host} {port} {kind}", file=told, flush=True)
        left = due - time.monotonic()
    return begun


def answer(frame: bytes) -> Iterator[tuple[bytes, bytes, int, str]]:
    """In a frame of TCP's: to whom it is, from which host and port, and what it says."""
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and packet[9:10] == b"\x06":
        to, address, segment = packet[16:20], packet[12:16], packet[(packet[0] & 15) * 4 :]
    elif kind == b"\x86\xdd" and packet[6:7] == b"\x06":
        to, address, segment = packet[24:40], packet[8:24], packet[40:]
    else:
        return
    if len(segment) >= 20:
        yield to, address, int.from_bytes(segment[:2], "big"), "closed" if segment[13] & 4 else "open"


def checked(segment: bytes, source: bytes, host: bytes) -> bytes:
    """With the checksum of RFC 9293 and RFC 8200, without which no kernel answers."""
    pseudo = source + host + struct.pack("!II", len(segment), 6)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(segment)) // 2}H", pseudo + segment))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]


if __name__ == "__main__":
    main(*sys.argv[1:])
