"""Filters that hear some networks alone, or all others: the evaluator's word for it, and the kernel's."""

from __future__ import annotations

import contextlib
import ipaddress
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import netns
from tests.netns import Sender, heard, isolated, mac, packet_socket, run, until, until_carries, up, veth
from tests.packets import UDP, ipv4, ipv6, udp

from knockgate.wire.bpf import Ancillary, Instruction, datagrams, evaluate
from knockgate.wire.senders import Network

PORT, SHAPES = 62201, [(140, ())]


def programs(networks: Sequence[Network]) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Those from the networks, and those from elsewhere."""
    return (
        datagrams(PORT, SHAPES, loopback=False, only_from=networks),
        datagrams(PORT, SHAPES, loopback=False, not_from=networks),
    )


def packet_from(address: bytes) -> bytes:
    text = str(ipaddress.ip_address(address))
    payload = udp(PORT, payload=b"8" * 140)
    return ipv4(payload, UDP, source=text) if len(address) == 4 else ipv6(payload, UDP, source=text)


def ancillary(packet: bytes) -> Ancillary:
    return Ancillary(0x0800 if packet[0] >> 4 == 4 else 0x86DD)


def network(address: bytes, prefix: int) -> Network:
    return ipaddress.ip_network((address, prefix), strict=False)


def edges(networks: Sequence[Network]) -> set[bytes]:
    """The first and the last address of each, and what is beside them."""
    return {
        ((int(end) + by) % (1 << each.max_prefixlen)).to_bytes(each.max_prefixlen // 8)
        for each in networks
        for end in (each.network_address, each.broadcast_address)
        for by in (-1, 0, 1)
    }


#: Anywhere; and close together, so that they share words, touch and overlap.
NETWORKS = st.lists(
    st.one_of(
        st.builds(network, st.binary(min_size=4, max_size=4), st.integers(0, 32)),
        st.builds(network, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
        st.builds(network, st.binary(min_size=2, max_size=2).map(b"\x0a\xff".__add__), st.integers(14, 32)),
        st.builds(
            network,
            st.binary(min_size=2, max_size=2).map((b"\x20\x01\x0d\xb8" * 3 + b"\xff\xff").__add__),
            st.integers(90, 128),
        ),
    ),
    max_size=80,
)


@given(NETWORKS, st.lists(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))))
def test_hears_what_is_in_a_network(networks: list[Network], elsewhere: list[bytes]) -> None:
    """As ``ipaddress`` has it; and what is heard with the one is not heard with the other."""
    known, others = programs(networks)
    for address in edges(networks) | set(elsewhere):
        packet = packet_from(address)
        expected = any(ipaddress.ip_address(address) in each for each in networks)
        assert bool(evaluate(known, packet, ancillary(packet))) is expected
        assert bool(evaluate(others, packet, ancillary(packet))) is not expected


@pytest.mark.parametrize(("size", "prefix", "most"), [(4, 16, 800), (16, 32, 800), (16, 128, 4700)])
def test_takes_many(size: int, prefix: int, most: int) -> None:
    chance = random.Random(3)
    networks = [network(chance.randbytes(size), prefix) for _ in range(256)]
    known, _ = programs(networks)
    plain = datagrams(PORT, SHAPES, loopback=False)
    assert len(known) - len(plain) < most
    assert all(0 <= jump < 256 for _, jt, jf, _ in known for jump in (jt, jf))
    for each in networks[::16]:
        packet = packet_from(each.network_address.packed)
        assert evaluate(known, packet, ancillary(packet))
    packet = packet_from(chance.randbytes(size))
    assert not evaluate(known, packet, ancillary(packet))


@isolated
def test_the_kernel_agrees() -> None:
    """And it takes 256 networks in the memory that a socket has for filters in kernels before 6.9."""
    chance = random.Random(4)
    networks = [network(chance.randbytes(4), 16) for _ in range(200)]
    networks += [network(chance.randbytes(16), 32) for _ in range(50)]
    networks += [network(chance.randbytes(16), 33 + 16 * each) for each in range(6)]
    run("sysctl", "-qw", "net.core.optmem_max=20480")
    packets = [packet_from(address) for address in chance.sample(sorted(edges(networks)), 400)]
    with contextlib.ExitStack() as stack:
        there = netns.Network()
        veth("near", "far", there)
        up("near")
        near = mac("near")
        with there:
            wire = stack.enter_context(Sender("far", near))
        until_carries(wire, "near")
        sockets = [stack.enter_context(packet_socket(program=program)) for program in programs(networks)]
        kept: list[list[bytes]] = [[], []]
        for start in range(0, len(packets), 40):
            for packet in packets[start : start + 40]:
                wire.send(packet)

            def all_came(expected: int = min(start + 40, len(packets))) -> bool:
                for sock, found in zip(sockets, kept, strict=True):
                    found += [each.packet for each in heard(sock)]
                return sum(map(len, kept)) == expected

            until(all_came, "each has come to one of them")
        known, _ = programs(networks)
        inside = [packet for packet in packets if evaluate(known, packet, ancillary(packet))]
        assert kept[0] == inside
        assert kept[1] == [packet for packet in packets if packet not in inside]
        assert 100 < len(inside) < 300
