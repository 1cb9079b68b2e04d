#!/usr/bin/env python3
"""What each step of the daemon's way from the kernel to the tracker costs, for a SYN to another port.

One number a step, in nanoseconds, the least of several rounds: on a shared machine the least is the one
that nobody disturbed. The socket's step is a datagram socket of this process: the way through the system
call is the same, a packet socket's own work is not in it (``flood.py`` has that, as "us each").
"""

from __future__ import annotations

import argparse
import ipaddress
import random
import socket
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench import packets
from knockdemo.config import Config
from knockgate.effects import PacketSeen
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Port, Protocol
from knockgate.wire import frames

OTHER_PORT = 12345
SENT = 100  # datagrams that a socket's buffer holds at once


def syn(source: str, destination: str, port: int) -> bytes:
    """A SYN from the network header on."""
    ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    path = packets.Path(bytes(6), bytes(6), *ends)
    return packets.tcp(path, port, packets.SYN, random.Random(0))[14:]  # noqa: S311 - for inputs


def tracker() -> KnockTracker:
    """Lane A's."""
    settings = Config()
    steps = tuple(Port(Protocol.TCP, number) for number in settings.sequence)
    return KnockTracker([KnockSequence("service", steps, settings.sequence_window_seconds)])


def receiving(packet: bytes, rounds: int) -> float:
    """Nanoseconds to take a packet of that size from a socket that has some."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    buffer = memoryview(bytearray(65536))
    best = float("inf")
    with near, far:
        near.settimeout(0)
        for _ in range(rounds):
            sent = 0
            try:
                while sent < SENT:
                    near.send(packet)
                    sent += 1
            except BlockingIOError:
                pass
            begin = time.perf_counter_ns()
            for _ in range(sent):
                far.recv_into(buffer)
            best = min(best, (time.perf_counter_ns() - begin) / sent)
    return best


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="syn_path", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=20)
    rounds: int = parser.parse_args().rounds

    def cost(call: Callable[[], object], number: int = 20_000) -> float:
        return min(timeit.repeat(call, number=number, repeat=rounds)) / number * 1e9

    nothing = cost(lambda: None)
    packet4, packet6 = (
        syn("192.0.2.4", "192.0.2.1", OTHER_PORT),
        syn("2001:db8::4", "2001:db8::1", OTHER_PORT),
    )
    seen = frames.observe(packet4)
    empty, busy = tracker(), tracker()
    for host in range(1, 101):  # a hundred others in the midst of knocking
        first = frames.observe(syn(f"198.51.100.{host}", "192.0.2.1", Config().sequence[0]))
        busy.feed(PacketSeen(first), 0.0)
    buffer = memoryview(bytearray(65536))
    event = PacketSeen(seen)
    steps: dict[str, float] = {
        "recv_into (system call)": receiving(packet4, rounds * 20),
        "bytes(buffer[:size])": cost(lambda: bytes(buffer[:40])) - nothing,
        "time.monotonic(), each": cost(time.monotonic) - nothing,
        "frames.observe, IPv4": cost(lambda: frames.observe(packet4)) - nothing,
        "frames.observe, IPv6": cost(lambda: frames.observe(packet6)) - nothing,
        "PacketSeen(...)": cost(lambda: PacketSeen(seen)) - nothing,
        "tracker.feed, nobody knocking": cost(lambda: empty.feed(event, 1.0)) - nothing,
        "tracker.feed, others knocking": cost(lambda: busy.feed(event, 1.0)) - nothing,
        "tracker.next_wakeup, others knocking": cost(busy.next_wakeup) - nothing,
    }
    for name, cost_ns in steps.items():
        print(f"{name:40}{cost_ns:>8.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
