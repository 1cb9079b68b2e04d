from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.wire.headers import (
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    READ,
    REFUSED,
    ROUTING,
    WITH_LENGTH,
    stated_length,
    udp_length,
)
from tests.packets import TCP, UDP, extension, fragment_header, ipv4, ipv6, raw, tcp, udp

from knockgate.errors import Reason, Refused
from knockgate.model import Observation, address_text
from knockgate.wire import frames
from knockgate.wire.frames import MAX_EXTENSIONS, datagram, observe, payload

PORTS = st.integers(0, 65535)
WHOLE = [packet for packet, _ in READ.values() if len(packet) < 200] + [p for p, _ in REFUSED.values()]
ADDRESSES4 = st.binary(min_size=4, max_size=4).map(address_text)
ADDRESSES6 = st.binary(min_size=16, max_size=16).map(address_text)


def words(most: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, most).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))


@st.composite
def extension_chains(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    chain: list[tuple[int, bytes]] = []
    for number in range(draw(st.integers(0, MAX_EXTENSIONS))):
        kind = draw(st.sampled_from([*WITH_LENGTH, FRAGMENT][0 if number == 0 else 1 :]))
        if kind == FRAGMENT:
            chain.append((kind, fragment_header(reserved=draw(st.integers(0, 3)))))
        else:
            units = draw(st.integers(0, 3))
            chain.append((kind, extension(units, draw(st.integers(0, 255)), 0)))
    return chain


@st.composite
def transports(draw: st.DrawFn) -> tuple[bytes, tuple[int, int, int, int], int]:
    """The bytes; protocol, ports and flags; the length of the header."""
    payload, source_port, port = draw(st.binary(max_size=20)), draw(PORTS), draw(PORTS)
    if draw(st.booleans()):
        return udp(port, source_port=source_port, payload=payload), (UDP, source_port, port, 0), 8
    flags, options = draw(st.integers(0, 255)), draw(words(10))
    segment = tcp(port, source_port=source_port, flags=flags, options=options, payload=payload)
    return segment, (TCP, source_port, port, flags), 20 + len(options)


@given(transports(), ADDRESSES4, ADDRESSES4, words(10), st.binary(max_size=8), st.sampled_from([0, 2, 4, 6]))
def test_reads_back_what_was_built_over_ipv4(
    transport: tuple[bytes, tuple[int, int, int, int], int],
    source: str,
    destination: str,
    options: bytes,
    padding: bytes,
    flags: int,
) -> None:
    """Whatever a well-formed IPv4 packet says is seen, and neither options nor padding change it."""
    inner, (protocol, source_port, port, tcp_flags), header = transport
    packet = ipv4(
        inner, protocol, source=source, destination=destination, options=options, fragment=(flags & 4) << 12
    )
    assert observe(packet + padding) == Observation(
        raw(source), raw(destination), protocol, source_port, port, tcp_flags, 20 + len(options) + header
    )


@given(transports(), ADDRESSES6, ADDRESSES6, extension_chains(), st.binary(max_size=8))
def test_reads_back_what_was_built_over_ipv6(
    transport: tuple[bytes, tuple[int, int, int, int], int],
    source: str,
    destination: str,
    chain: list[tuple[int, bytes]],
    padding: bytes,
) -> None:
    """Whatever a well-formed IPv6 packet says is seen behind every chain of extension headers."""
    inner, (protocol, source_port, port, flags), header = transport
    packet = ipv6(inner, protocol, chain, source=source, destination=destination)
    begins = 40 + sum(len(extra) for _, extra in chain) + header
    assert observe(packet + padding) == Observation(
        raw(source), raw(destination), protocol, source_port, port, flags, begins
    )


def sound(packet: bytes) -> None:
    """The promise to everybody above: an Observation that lies within the packet, or Refused."""
    payload(packet)  # takes anything
    if (short := frames._plain(packet)) is not None:
        assert short == frames._walked(packet)
    try:
        seen = observe(packet)
    except Refused as refused:
        with pytest.raises(Refused) as found:
            datagram(packet)
        assert found.value.reason is refused.reason  # noqa: PT017 - the other one's
        return
    # And of what is taken, datagram() says the same if it is one.
    if seen.protocol == UDP:
        source, destination, carried = datagram(packet)
        assert (source, destination) == (seen.source, seen.destination)
        assert len(carried) == int.from_bytes(udp_length(packet, seen)) - 8
        assert packet[seen.payload :].startswith(carried)
        if packet[0] >> 4 == 4 or packet[6] == UDP:
            assert payload(packet) == carried
    else:
        with pytest.raises(Refused, match=Reason.NO_PORTS.value):
            datagram(packet)
    size = 4 if packet[0] >> 4 == 4 else 16
    assert len(seen.source) == len(seen.destination) == size
    assert seen.protocol in (TCP, UDP)
    assert 0 <= seen.port <= 65535
    assert 0 <= seen.source_port <= 65535
    assert 28 <= seen.payload <= stated_length(packet) <= len(packet)
    assert isinstance(seen.opens_connection, bool)


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45", b"\x4f", b"\x60"]))
def test_any_bytes_are_read_or_refused(noise: bytes, start: bytes) -> None:
    """No bytes whatever make observe() do anything but answer or refuse."""
    sound(start + noise)


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.integers(0, 200),
    st.binary(max_size=10),
)
def test_any_mutation_is_read_or_refused(
    packet: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    """A packet with bytes changed, cut off and added is read or refused, never anything else."""
    for place, value in changes:
        packet = packet[:place] + bytes([value]) + packet[place + 1 :]
    sound(packet[:cut] + tail)


EXTENDED = [
    ipv6(tcp(), TCP, [(HOP_BY_HOP, extension()), (ROUTING, extension()), (FRAGMENT, fragment_header())]),
    ipv6(udp(), UDP, [(DESTINATION, extension(1))]),
]


def test_every_single_byte_is_read_or_refused() -> None:
    """The same for each value of each byte of each header, one at a time."""
    for packet in (ipv4(tcp(options=bytes(4)), options=bytes(4)), ipv4(udp(), UDP), *EXTENDED):
        for place in range(len(packet)):
            for value in range(256):
                sound(packet[:place] + bytes([value]) + packet[place + 1 :])


def test_the_short_way_is_taken_by_the_plain_sort() -> None:
    """Or the daemon would save nothing: by TCP in a header without options, or without extensions."""
    for packet in (ipv4(tcp()), ipv4(tcp(options=bytes(8)) + b"data"), ipv6(tcp()), ipv6(tcp()) + b"padding"):
        assert frames._plain(packet) == observe(packet)
    for packet in (ipv4(udp(), UDP), ipv4(tcp(), options=bytes(4)), EXTENDED[0], ipv6(udp(), UDP)):
        assert frames._plain(packet) is None
        observe(packet)
