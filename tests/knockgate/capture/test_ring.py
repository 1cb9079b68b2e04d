"""What is the ring's alone; what it promises with ``Openings`` is tested with both."""

from __future__ import annotations

import errno
import os
import select
import socket
from itertools import chain
from pathlib import Path

import pytest
from tests.knockgate.capture.cable import (
    EVERYTHING,
    SYN,
    SYN6,
    cable,
    descriptors,
    gives_until_empty,
)
from tests.netns import DEADLINE, isolated, run, until
from tests.packets import UDP, ipv4, tcp, udp

from knockgate.capture import ring
from knockgate.capture.ring import FRAME, PacketRing
from knockgate.errors import Unavailable


def numbered(number: int) -> bytes:
    return ipv4(tcp(), identification=number)


def taken(capture: PacketRing, count: int, most: int) -> list[list[bytes]]:
    """Batches, until there are so many packets in all."""
    batches: list[list[bytes]] = []

    def enough() -> bool:
        if batch := capture.take(most):
            batches.append(list(batch))
        return sum(map(len, batches)) >= count

    until(enough, f"{count} packets")
    return batches


@isolated
def test_gives_all_in_order_round_after_round() -> None:
    """In batches of any size, alone or between packets one by one, over the end of the ring."""
    with cable() as wire, PacketRing(EVERYTHING, "near", frames=32) as capture:
        sent = 0
        for most in (1, 5, 16, 32, 100):
            for many in (3, 7, 30):
                packets = [numbered(sent + each) for each in range(many)]
                sent += many
                for packet in packets:
                    wire.wire.send(packet)
                assert capture.receive(DEADLINE) == packets[0]
                batches = taken(capture, many - 1, most)
                assert list(chain(*batches)) == packets[1:]
                assert all(len(batch) <= most for batch in batches)
                assert capture.take(most) == [] and capture.receive(0) is None
        assert sent > 5 * 32
        assert capture.drops() == (sent, 0)


@isolated
def test_a_batch_is_of_one_family_and_the_next_of_the_other() -> None:
    with cable() as wire, PacketRing(EVERYTHING) as capture:
        for _ in range(60):
            wire.wire.send(SYN)
        for _ in range(10):
            wire.wire.send(SYN6)
        batches = taken(capture, 70, 16)
        assert [set(batch) for batch in batches[:3]] in (
            [{SYN}, {SYN6}, {SYN}],
            [{SYN6}, {SYN}, {SYN}],
        )
        assert [len(batch) for batch in batches if SYN in batch] == [16, 16, 16, 12]


@isolated
def test_counts_what_it_had_no_room_for() -> None:
    """A full ring loses what comes, keeps what it has, and hears again when it was read."""
    with cable() as wire:
        for interface in ("near", ""):
            with (
                PacketRing(EVERYTHING, interface, frames=1) as small,
                PacketRing(EVERYTHING, interface) as large,
            ):
                for number in range(100):
                    wire.wire.send(numbered(number))
                assert gives_until_empty(large) == 100
                assert large.drops() == (100, 0)
                assert small.drops() == (100, 68)  # it was rounded up to a block
                assert list(chain(*taken(small, 32, 50))) == [numbered(each) for each in range(32)]
                wire.wire.send(SYN)
                assert small.receive(DEADLINE) == SYN
                assert small.drops() == (101, 68)


@isolated
def test_what_is_longer_than_a_frame_is_lost_and_counted() -> None:
    """Neither a part of it is given out, nor does it disturb what comes before and after."""
    with cable() as wire:
        run("ip", "link", "set", "near", "mtu", "4000")
        with wire.there:
            run("ip", "link", "set", "far", "mtu", "4000")
        longest = FRAME - 80 - 28
        fits, too_long = (ipv4(udp(payload=b"x" * size), UDP) for size in (longest, longest + 1))
        with PacketRing(EVERYTHING, "near") as capture:
            for packet in (SYN, fits, too_long, too_long, SYN):
                wire.wire.send(packet)
            assert [capture.receive(DEADLINE) for _ in range(3)] == [SYN, fits, SYN]
            assert capture.drops() == (5, 2)
            for packet in (too_long, SYN):
                wire.wire.send(packet)
            assert list(chain(*taken(capture, 1, 16))) == [SYN]
            wire.wire.send(too_long)
            until(lambda: capture.receive(0) is None and capture.drops() == (8, 4), "it is counted")
            assert not select.select([capture], [], [], 0)[0]


@isolated
def test_leaves_nothing_open() -> None:
    """Neither where the kernel has no memory, nor where it refuses the second socket, nor when closed."""
    real, calls = ring.Ring, [0]

    def second_fails(sock: socket.socket, blocks: int, frame: int, *, whole: bool) -> ring.Ring:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return real(sock, blocks, frame, whole=whole)

    before = descriptors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "Ring", second_fails)
        with pytest.raises(Unavailable, match="no memory to receive packets into") as caught:
            PacketRing(EVERYTHING)
    assert caught.value.hint and descriptors() == before
    with PacketRing(EVERYTHING) as capture:
        assert descriptors() == before + 5  # control: two sockets, once more for their memory, and the poll
    assert descriptors() == before
    assert not _packet_sockets()
    capture.close()
    assert descriptors() == before


def _packet_sockets() -> list[str]:
    """The kernel's own list: a socket lives on as long as its memory is mapped."""
    return Path("/proc/net/packet").read_text().splitlines()[1:]
