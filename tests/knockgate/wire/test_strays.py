"""What is told of many packets at once, beside what is read of each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tests.knockgate.wire.headers import HOP_BY_HOP
from tests.packets import TCP, UDP, extension, ipv4, ipv6, raw, tcp, udp

from knockgate.errors import Refused
from knockgate.wire.frames import observe
from knockgate.wire.strays import are_strays, from_sources

FRAME = 128
KNOCK = 7000


def told(packets: Sequence[bytes], *ports: int) -> bool:
    """Of packets in the kernel's frames, in which the rest is what was there before."""
    memory = b"".join(packet.ljust(FRAME, b"\x5a") for packet in packets)
    return are_strays(memoryview(memory), FRAME, set(ports))


def is_knock(packet: bytes, ports: set[int]) -> bool:
    try:
        return observe(packet).port in ports
    except Refused:
        return False


PORTS = st.sampled_from([KNOCK, 7001, 0x1B58, 0x581B, 443])
PLAIN = st.builds(
    lambda ip, inner, port: ip(inner(port), TCP if inner is tcp else UDP),
    st.sampled_from([ipv4, ipv6]),
    st.sampled_from([tcp, udp]),
    PORTS,
)
ODD = st.one_of(
    st.builds(lambda port: ipv4(tcp(port), options=bytes(4)), PORTS),
    st.builds(lambda port: ipv6(tcp(port), TCP, [(HOP_BY_HOP, extension())]), PORTS),
    st.builds(lambda port, address: ipv6(tcp(port), source=f"fd00::{address:x}"), PORTS, PORTS),
    st.builds(lambda port, address: ipv6(tcp(port), source=f"fd00:0:0:{address:x}::"), PORTS, PORTS),
)
CHANGED = st.builds(
    lambda packet, place, value, cut: (packet[:place] + bytes([value]) + packet[place + 1 :])[:cut],
    PLAIN | ODD,
    st.integers(0, 60),
    st.integers(0, 255),
    st.sampled_from([200, 200, 60, 41, 21, 1]),
)


@given(st.lists(PLAIN | ODD | CHANGED | st.binary(min_size=1, max_size=FRAME), min_size=1, max_size=8), PORTS)
def test_nothing_that_is_read_as_a_knock_is_called_a_stray(packets: list[bytes], port: int) -> None:
    """Whatever lies there, of whatever sort, beside whatever else."""
    packets = [packet[:FRAME] for packet in packets]
    strays = told(packets, port, 22)
    event(f"strays: {strays}")
    if strays:
        assert not any(is_knock(packet, {port, 22}) for packet in packets)


@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_the_plain_sort_is_told_exactly(packets: list[bytes]) -> None:
    """Or a flood would be read after all."""
    assert told(packets, 1) is True
    assert told(packets, KNOCK) is not any(is_knock(packet, {KNOCK}) for packet in packets)


@given(st.lists(PLAIN | ODD, max_size=8), st.sets(st.sampled_from(["10.0.0.2", "fd00::2", "fd00::1b58"])))
def test_of_strays_those_of_somebody_are_told_exactly(packets: list[bytes], sources: set[str]) -> None:
    """By their sources, whatever family; of packets that are not plain nobody asks."""
    known = {raw(source) for source in sources}
    plain = [packet for packet in packets if told([packet], 1)]
    assert from_sources(plain, known) == [packet for packet in plain if observe(packet).source in known]


@pytest.mark.parametrize(
    "odd", [ipv4(tcp(), options=bytes(4)), ipv6(tcp(), TCP, [(HOP_BY_HOP, extension())]), b"\x20", b"\x00"]
)
def test_what_is_not_plain_is_looked_at(odd: bytes) -> None:
    """With all that came with it; without it they are strays (control)."""
    plain = [ipv4(tcp(1)), ipv6(tcp(1)), ipv4(udp(1), UDP)]
    assert told(plain, KNOCK)
    for place in range(4):
        assert not told([*plain[:place], odd, *plain[place:]], KNOCK)
