"""What is the openings' alone; what they promise with ``PacketRing`` is tested with both."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Collection

from tests.knockgate.capture.cable import EVERYTHING, Cable, cable
from tests.netns import DEADLINE, isolated, until
from tests.packets import CLIENT, CLIENT6, UDP, ipv4, ipv6, raw, tcp, udp

from knockgate.capture.openings import REST, Openings
from knockgate.wire.frames import observe

KNOCKS = {7000, 8000}
SENDERS = [raw(CLIENT), raw(CLIENT6)]
KNOCK, STRAY, STRAY6 = ipv4(tcp(7000)), ipv4(tcp(1)), ipv6(tcp(1))


def some(capture: Openings, sources: Collection[bytes] = ()) -> list[bytes]:
    """What there is by now, until nothing is given out any more."""
    packets: list[bytes] = []
    while more := capture.take_some(KNOCKS, sources):
        packets += more
    return packets


def arrived(wire: Cable, capture: Openings, packets: list[bytes]) -> None:
    """All of them are in the kernel's hands."""
    before = capture.drops()[0]
    for packet in packets:
        wire.wire.send(packet)
    until(lambda: capture.drops()[0] == before + len(packets), "they have come")


@isolated
def test_what_is_to_other_ports_is_left_out_unless_it_is_wanted() -> None:
    with cable() as wire:
        for interface in ("near", ""):
            with Openings(EVERYTHING, interface) as capture:
                arrived(wire, capture, [STRAY, STRAY6, STRAY])
                assert some(capture) == []
                arrived(wire, capture, [STRAY, STRAY6, STRAY])
                assert sorted(some(capture, SENDERS)) == sorted([STRAY, STRAY6, STRAY])
                arrived(wire, capture, [STRAY, STRAY6, STRAY])
                assert some(capture, [raw(CLIENT6)]) == [STRAY6]
                arrived(wire, capture, [STRAY, STRAY6, STRAY])
                assert some(capture, [raw("10.0.0.3")]) == []
                assert capture.drops() == (12, 0)


@isolated
def test_what_came_beside_a_knock_is_given_out_in_its_place() -> None:
    """A stray before, between or behind two knocks may be the one that resets them."""
    sources = [ipv4(tcp(port), identification=number) for number, port in enumerate((7000, 1, 8000, 2))]
    with cable() as wire, Openings(EVERYTHING, "near") as capture:
        for many in (1, 40, 600):
            packets = [*sources, *[STRAY] * many, *sources, *[STRAY] * many]
            arrived(wire, capture, packets)
            given = some(capture)
            assert [packet for packet in given if packet in sources] == sources * 2
            assert given[: len(sources)] == sources


@isolated
def test_packets_gather_after_strays_and_only_then() -> None:
    """Nobody is woken up for them until it is time; a knock that was all there was is followed at once."""
    with cable() as wire, Openings(EVERYTHING, "near") as capture:
        arrived(wire, capture, [STRAY, KNOCK])
        assert some(capture) == [STRAY, KNOCK]
        assert capture.next_wakeup() is None
        arrived(wire, capture, [KNOCK])
        assert select.select([capture], [], [], DEADLINE)[0]
        assert some(capture) == [KNOCK]

        arrived(wire, capture, [STRAY])
        assert some(capture) == []
        wakeup = capture.next_wakeup()
        assert wakeup is not None and 0 < wakeup - time.monotonic() <= REST
        arrived(wire, capture, [KNOCK])
        assert not select.select([capture], [], [], 0)[0]
        until(lambda: time.monotonic() >= wakeup, "it is time")
        capture.tick()
        assert capture.next_wakeup() is None
        assert select.select([capture], [], [], 0)[0]
        assert some(capture) == [KNOCK]


@isolated
def test_nobody_rests_while_there_is_more() -> None:
    """Of a flood that is wanted whole more may be there already, and the room for it is bounded."""
    with cable() as wire:
        for interface, packets in (("near", [STRAY]), ("", [STRAY, STRAY6])):
            with Openings(EVERYTHING, interface) as capture:
                arrived(wire, capture, packets * (1000 // len(packets)))
                taken = 0
                while taken < 1000:
                    assert capture.next_wakeup() is None
                    more = capture.take_some(KNOCKS, SENDERS)
                    assert more
                    taken += len(more)
                assert capture.next_wakeup() is not None


@isolated
def test_waits_by_itself() -> None:
    """For a knock amid strays, and no longer than it was asked to."""
    with cable() as wire, Openings(EVERYTHING, "near") as capture:
        for timeout in (0.0, 0.05):
            began = time.monotonic()
            arrived(wire, capture, [STRAY])
            assert capture.hear(timeout, KNOCKS, ()) == []
            assert timeout <= time.monotonic() - began < DEADLINE
        sender = threading.Timer(0.05, wire.wire.send, [KNOCK])
        sender.start()
        for _ in range(20):
            wire.wire.send(STRAY)
        given = capture.hear(None, KNOCKS, ())
        assert given[-1] == KNOCK
        sender.join()


@isolated
def test_of_a_long_packet_the_headers_are_kept() -> None:
    """It is neither lost nor taken for another: its end, which nobody reads, is zeros."""
    long = ipv4(udp(7000, payload=b"x" * 1000), UDP)
    longest = ipv4(tcp(7000, options=bytes(40), payload=b"x" * 500), options=bytes(40))
    other = ipv6(udp(7000, payload=b"x" * 900), UDP)
    with cable() as wire, Openings(EVERYTHING, "near") as capture:
        arrived(wire, capture, [long, KNOCK, longest, other])
        given = some(capture)
        assert [observe(packet) for packet in given] == [
            observe(packet) for packet in (long, KNOCK, longest, other)
        ]
        assert [len(packet) for packet in given] == [len(long), len(KNOCK), len(longest), len(other)]
        assert given[0].startswith(long[:176]) and given[0][176:] == bytes(len(long) - 176)
        assert capture.drops() == (4, 0)
