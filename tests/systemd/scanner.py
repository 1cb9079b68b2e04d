"""A SYN to one port every 10 ms, as a program of its own: ``scanner.py INTERFACE MAC SOURCE HOST PORT FILE``.

It writes a line into FILE for each answer: when it came, in seconds by the monotonic clock, and what it was
(``open`` for a SYN with ACK, ``closed`` for a RST). Each SYN has a source port of its own. Ends with SIGTERM,
and writes how many it has sent.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from pathlib import Path

from tests.packets import ipv4, tcp

EVERY = 0.01


def main(interface: str, mac: str, source: str, host: str, port: str, file: str) -> None:
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire,
        Path(file).open("w") as told,
    ):
        wire.bind((interface, 0x0800))
        wire.settimeout(0)
        ours = wire.getsockname()[4]
        head = bytes.fromhex(mac.replace(":", "")) + ours + b"\x08\x00"
        sent, due = 0, time.monotonic()
        print(f"began {due:.4f}", file=told, flush=True)
        while not ending:
            while (left := due - time.monotonic()) > 0:
                for kind in answers(wire, left, socket.inet_aton(host), int(port)):
                    print(f"{time.monotonic():.4f} {kind}", file=told, flush=True)
            due += EVERY
            try:
                segment = checked(tcp(int(port), source_port=20000 + sent % 40000), source, host)
                wire.send(head + ipv4(segment, source=source, destination=host))
                sent += 1
            except OSError:
                pass  # the cable is not plugged in yet
        print(f"ended {time.monotonic():.4f} {sent}", file=told, flush=True)


def checked(segment: bytes, source: str, host: str) -> bytes:
    """With the checksum of RFC 9293, without which no kernel answers."""
    pseudo = socket.inet_aton(source) + socket.inet_aton(host) + struct.pack("!HH", 6, len(segment))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(segment)) // 2}H", pseudo + segment))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]


def answers(wire: socket.socket, seconds: float, host: bytes, port: int) -> list[str]:
    """What came within that time, at most one."""
    wire.settimeout(max(seconds, 0.0001))
    try:
        frame = wire.recv(2048)
    except OSError:
        return []
    packet = frame[14:]
    if packet[9:10] != b"\x06" or packet[12:16] != host:
        return []
    segment = packet[(packet[0] & 15) * 4 :]
    if segment[:2] != struct.pack("!H", port):
        return []
    return ["closed" if segment[13] & 4 else "open"]


if __name__ == "__main__":
    main(*sys.argv[1:])
