from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator

from tests.knockgate.capture.cable import Cable, cable, descriptors
from tests.netns import isolated, until
from tests.packets import UDP, ipv4, ipv6, udp

from knockgate.capture.known import KnownFirst
from knockgate.capture.ring import PacketRing
from knockgate.wire.bpf import datagrams

KNOWN, OTHER = "10.1.0.1", "10.2.0.1"


def knock(number: int, source: str = OTHER) -> bytes:
    return ipv4(udp(62201, payload=b"8" * 140), UDP, source=source, identification=number)


def rings(*networks: str) -> tuple[PacketRing, PacketRing]:
    found = [ipaddress.ip_network(each) for each in networks]
    shapes = [(140, ())]
    return (
        PacketRing(datagrams(62201, shapes, loopback=False, only_from=found), "near", frames=512),
        PacketRing(datagrams(62201, shapes, loopback=False, not_from=found), "near", frames=512),
    )


@contextlib.contextmanager
def hearing(*networks: str) -> Iterator[tuple[Cable, KnownFirst]]:
    with cable() as wire, contextlib.closing(KnownFirst(*rings(*networks), turn=16)) as ears:
        yield wire, ears


def send(wire: Cable, packets: Iterable[bytes]) -> None:
    for packet in packets:
        wire.wire.send(packet)


def all_of(ears: KnownFirst, count: int) -> list[bytes]:
    found: list[bytes] = []

    def came() -> bool:
        found.extend(ears.take())
        return len(found) >= count

    until(came, f"{count} packets")
    assert not ears.take()
    return found


@isolated
def test_a_known_network_does_not_wait_for_the_others() -> None:
    with hearing("10.1.0.0/16") as (wire, ears):
        send(wire, [knock(number) for number in range(300)])
        send(wire, [knock(1, KNOWN)])
        until(lambda: ears.drops()[0] == 301, "all have come")
        found = all_of(ears, 301)
        assert found.index(knock(1, KNOWN)) <= 16
        assert [packet for packet in found if packet != knock(1, KNOWN)] == list(map(knock, range(300)))


@isolated
def test_who_is_not_known_waits() -> None:
    """The control of the one above."""
    with hearing() as (wire, ears):
        send(wire, [knock(number) for number in range(300)])
        send(wire, [knock(1, KNOWN)])
        assert all_of(ears, 301).index(knock(1, KNOWN)) == 300


@isolated
def test_the_others_do_not_wait_for_a_known_network() -> None:
    with hearing("10.1.0.0/16") as (wire, ears):
        send(wire, [knock(number, KNOWN) for number in range(300)])
        send(wire, [knock(1)])
        until(lambda: ears.drops()[0] == 301, "all have come")
        assert all_of(ears, 301).index(knock(1)) <= 16


@isolated
def test_takes_up_both_families() -> None:
    with cable() as wire, contextlib.closing(KnownFirst(*rings("2001:db8::/32"), turn=16)) as ears:
        six = [
            ipv6(udp(62201, payload=b"8" * 140), UDP, source=source)
            for source in ("2001:db8::1", "2001:db9::1")
        ]
        send(wire, [*six, knock(1)])
        assert sorted(all_of(ears, 3)) == sorted([*six, knock(1)])


@isolated
def test_is_replaced_without_losing_a_packet_or_giving_one_twice() -> None:
    """What came before, what both pairs heard, and what came afterwards; also for who becomes known."""
    with hearing("10.3.0.0/16") as (wire, ears):
        for turn in range(3):
            sent = [knock(100 * turn + number, KNOWN if number % 2 else OTHER) for number in range(90)]
            send(wire, sent[:30])
            new = rings("10.1.0.0/16", f"10.{20 + turn}.0.0/16")
            send(wire, sent[30:60])
            known, others = new
            until(lambda: known.drops()[0] == others.drops()[0] == 15, "both pairs hear")  # noqa: B023
            found = list(ears.replace(known, others))
            assert sorted(found) == sorted(sent[:60])
            send(wire, sent[60:])
            assert sorted(all_of(ears, 30)) == sorted(sent[60:])
        # 30 of each turn were heard by both pairs.
        assert ears.drops() == (3 * 90 + 3 * 30, 0)


@isolated
def test_leaves_nothing_open() -> None:
    with cable():
        before = descriptors()
        ears = KnownFirst(*rings(), turn=16)
        during = descriptors()
        ears.replace(*rings())
        assert descriptors() == during > before
        ears.close()
        assert descriptors() == before


@isolated
def test_tells_of_its_interface() -> None:
    with hearing("10.1.0.0/16") as (wire, ears):
        send(wire, [knock(1), knock(2, KNOWN)])
        assert len(all_of(ears, 2)) == 2
        wire.down()
        until(lambda: not ears.take() and not ears.listening, "it is down")
        wire.up()
        until(lambda: not ears.take() and ears.listening, "it is up")
        send(wire, [knock(3), knock(4, KNOWN)])
        assert sorted(all_of(ears, 2)) == sorted([knock(3), knock(4, KNOWN)])
