#!/usr/bin/env python3
"""What each step of the daemon's way from the kernel's ring to the tracker costs.

One number a step, in nanoseconds a packet, the least of several rounds: on a shared machine that is the one
that nobody disturbed. The ring is memory of this process: what the kernel does to fill one is not in it.
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import random
import sys
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
from knockgate.wire.strays import are_strays

OTHER_PORT = 12345
FRAME = 256  # octets of the ring's


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
    event = PacketSeen(seen)
    ports, busy = tracker().ports, tracker()
    for host in range(1, 101):  # a hundred others in the midst of knocking
        busy.begin(seen._replace(source=host.to_bytes(4), port=Config().sequence[0]), 0.0)

    def stray(*packets: bytes) -> float:
        lying = memoryview(b"".join(packet.ljust(FRAME, b"\0") for packet in packets))
        return cost(lambda: are_strays(lying, FRAME, ports), 200) / len(packets)

    sources = itertools.count(1 << 24)
    first = seen._replace(port=Config().sequence[0])

    def begin() -> None:
        busy.begin(first._replace(source=next(sources).to_bytes(4)), 1.0)

    steps: dict[str, float] = {
        "strays in a batch of 256, IPv4": stray(*[packet4] * 256),
        "strays in a batch of 256, both families": stray(*[packet4, packet6] * 128),
        "frames.observe, IPv4": cost(lambda: frames.observe(packet4)) - nothing,
        "frames.observe, IPv6": cost(lambda: frames.observe(packet6)) - nothing,
        "tracker.concerns, others knocking": cost(lambda: busy.concerns(6, seen.source, OTHER_PORT))
        - nothing,
        "tracker.begin, a new source each": cost(begin)
        - cost(lambda: first._replace(source=next(sources).to_bytes(4))),
        "PacketSeen(...)": cost(lambda: PacketSeen(seen)) - nothing,
        "tracker.feed, others knocking": cost(lambda: busy.feed(event, 1.0)) - nothing,
    }
    for name, cost_ns in steps.items():
        print(f"{name:40}{cost_ns:>8.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
