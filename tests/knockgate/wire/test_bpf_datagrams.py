"""Which datagrams the filter lets through: the evaluator's word for it, and the kernel's."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns import (
    Network,
    Sender,
    heard,
    isolated,
    mac,
    packet_socket,
    until,
    until_carries,
    up,
    veth,
)
from tests.packets import UDP, extension, ipv4, ipv6, tcp, udp

from knockgate.errors import Refused
from knockgate.wire.bpf import ACCEPT, Ancillary, Instruction, datagrams, evaluate
from knockgate.wire.frames import datagram

IP, IPV6 = 0x0800, 0x86DD
PORT, LENGTHS, FIRST = 62201, (140, 161, 204), b"89+/"
PROGRAM = datagrams(PORT, [(length, ((0, FIRST),)) for length in LENGTHS], loopback=False)


def knock(length: int = 204, first: bytes = b"8", port: int = PORT, *, stated: int | None = None) -> bytes:
    return udp(port, payload=first + b"A" * (length - len(first)), length=stated)


# name -> is it heard, packet
PACKETS: dict[str, tuple[bool, bytes]] = {
    **{f"{length} bytes": (True, ipv4(knock(length), UDP)) for length in LENGTHS},
    **{f"{length} bytes over IPv6": (True, ipv6(knock(length), UDP)) for length in LENGTHS},
    **{f"begins with {octet:c}": (True, ipv4(knock(first=bytes([octet])), UDP)) for octet in FIRST},
    "with options of IPv4": (True, ipv4(knock(), UDP, options=b"\1" * 40)),
    "with padding behind": (True, ipv4(knock(), UDP) + b"\0" * 10),
    "one byte less": (False, ipv4(knock(203), UDP)),
    "one byte more": (False, ipv4(knock(205), UDP)),
    "one byte more over IPv6": (False, ipv6(knock(205), UDP)),
    "nothing in it": (False, ipv4(udp(PORT), UDP)),
    "another beginning": (False, ipv4(knock(first=b"A"), UDP)),
    "another beginning over IPv6": (False, ipv6(knock(first=b"\x00"), UDP)),
    "another port": (False, ipv4(knock(port=PORT - 1), UDP)),
    "another port over IPv6": (False, ipv6(knock(port=PORT + 1), UDP)),
    "from that port": (False, ipv4(udp(7000, source_port=PORT, payload=b"8" * 204), UDP)),
    "a first fragment": (False, ipv4(knock(), UDP, fragment=0x2000)),
    "a later fragment": (False, ipv4(knock(), UDP, fragment=0x0010)),
    "not to be fragmented": (True, ipv4(knock(), UDP, fragment=0x4000)),
    "with an extension header": (False, ipv6(knock(), UDP, [(60, extension())])),
    "TCP": (False, ipv4(tcp(PORT, payload=b"8" * 204))),
    "TCP over IPv6": (False, ipv6(tcp(PORT, payload=b"8" * 204))),
    "another length than it says": (False, ipv4(knock(204, stated=8 + 203), UDP)),
}  # fmt: skip


def ancillary(packet: bytes, **more: int) -> Ancillary:
    return Ancillary(IP if packet[0] >> 4 == 4 else IPV6, **more)


@pytest.mark.parametrize("name", PACKETS)
def test_hears_what_is_shaped_like_a_knock(name: str) -> None:
    is_heard, packet = PACKETS[name]
    assert evaluate(PROGRAM, packet, ancillary(packet)) == (ACCEPT if is_heard else 0)


@pytest.mark.parametrize("name", ["204 bytes", "204 bytes over IPv6"])
def test_hears_what_is_for_this_host(name: str) -> None:
    _, packet = PACKETS[name]
    for more in ({"packet_type": 3}, {"packet_type": 1}, {"vlan_tag": 10}, {"interface": 1}):
        assert not evaluate(PROGRAM, packet, ancillary(packet, **more))
    on_loopback = datagrams(PORT, [(204, ((0, FIRST),))], loopback=True)
    assert evaluate(on_loopback, packet, ancillary(packet, interface=1)) == ACCEPT
    assert evaluate(PROGRAM, packet, ancillary(packet)) == ACCEPT
    assert not evaluate(PROGRAM, packet, Ancillary(0x0806))


def test_takes_two_hundred_and_fifty_lengths() -> None:
    program = datagrams(PORT, [(length, ()) for length in range(140, 390)], loopback=False)
    assert all(jump < 256 for _, jt, jf, _ in program for jump in (jt, jf)) and len(program) < 4096
    for length, is_heard in ((139, False), (140, True), (389, True), (390, False)):
        packet = ipv4(knock(length), UDP)
        assert bool(evaluate(program, packet, ancillary(packet))) is is_heard


@given(
    st.sampled_from([packet for _, packet in PACKETS.values()]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_what_is_heard_has_the_shape(packet: bytes, changes: list[tuple[int, int]]) -> None:
    """And of what the parser takes, nothing with that shape is withheld."""
    for place, value in changes:
        packet = packet[:place] + bytes([value]) + packet[place + 1 :]
    try:
        found = datagram(packet)
    except Refused:
        return
    port = int.from_bytes(packet[packet.index(found.payload) - 6 :][:2]) if found.payload else 0
    shaped = len(found.payload) in LENGTHS and found.payload[0] in FIRST and port == PORT
    if bool(evaluate(PROGRAM, packet, ancillary(packet))):
        assert shaped
    elif packet[0] >> 4 == 4 or packet[6] == UDP:
        assert not shaped


# --- the kernel ---------------------------------------------------------------------------------------


class Wire:
    """A wire to ``near``; what has come by it, and what of it the filter let through."""

    def __init__(self, stack: contextlib.ExitStack, program: tuple[Instruction, ...]) -> None:
        client = Network()
        veth("near", "far", client)
        up("near")
        near = mac("near")
        with client:
            self._sender = stack.enter_context(Sender("far", near))
        until_carries(self._sender, "near")
        self._everything = stack.enter_context(packet_socket(whole_frames=True))
        self._filtered = stack.enter_context(packet_socket(program=program))
        self._marks = 0
        self.came: list[bytes] = []
        self.kept: list[bytes] = []

    def send(self, packets: Iterable[bytes]) -> None:
        """Send them, and wait until they have come."""
        self._marks += 1
        mark = ipv4(knock(), UDP, identification=self._marks, source="192.0.2.99")
        for packet in (*packets, mark):
            kind = IP if packet[0] >> 4 == 4 else IPV6
            self._sender.send_as(kind.to_bytes(2, "big"), packet)
        until(lambda: self._has_come(mark), "the mark at the end has come to both sockets")

    def _has_come(self, mark: bytes) -> bool:
        for sock, found in ((self._everything, self.came), (self._filtered, self.kept)):
            found += [each.packet for each in heard(sock) if each.protocol in (IP, IPV6)]
        return mark in self.came and mark in self.kept


@isolated
def test_the_kernel_agrees() -> None:
    """On every packet above, whole and damaged, the kernel lets through what the evaluator does."""
    chance = random.Random(4)
    packets = [packet for _, packet in PACKETS.values()]
    for _ in range(300):
        damaged = bytearray(chance.choice(packets))
        for _ in range(chance.randint(1, 2)):
            damaged[chance.randrange(60)] = chance.choice([0, 1, 17, 44, 56, 57, 96, 255])
        packets.append(bytes(damaged))
    with contextlib.ExitStack() as stack:
        wire = Wire(stack, PROGRAM)
        for start in range(0, len(packets), 40):
            wire.send(packets[start : start + 40])
        assert set(packets) <= set(wire.came)
        expected = {packet for packet in wire.came if evaluate(PROGRAM, packet, ancillary(packet))}
        assert set(wire.kept) == expected
        assert {packet for is_heard, packet in PACKETS.values() if is_heard} <= expected
