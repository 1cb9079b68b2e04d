from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packets import (
    ACK,
    CLIENT,
    CLIENT6,
    FIN,
    PSH,
    RST,
    SERVER,
    SERVER6,
    SYN,
    TCP,
    UDP,
    URG,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    octets,
    raw,
    tcp,
    udp,
)

from knockgate.errors import Reason, Refused
from knockgate.model import Observation, address_text
from knockgate.wire.frames import MAX_EXTENSIONS, datagram, glance, observe, payload

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 60, 135, 139, 140
WITH_LENGTH = [HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY, HIP, SHIM6]
NO_NEXT_HEADER = 59


def seen4(protocol: int, flags: int, payload: int) -> Observation:
    return Observation(raw(CLIENT), raw(SERVER), protocol, 40000, 7000, flags, payload)


def seen6(protocol: int, flags: int, payload: int) -> Observation:
    return Observation(raw(CLIENT6), raw(SERVER6), protocol, 40000, 7000, flags, payload)


def reason(packet: bytes) -> Reason | None:
    """Why the packet is turned away; None if it is not."""
    try:
        observe(packet)
    except Refused as refused:
        return refused.reason
    return None


# name -> packet and what is seen in it.
READ: dict[str, tuple[bytes, Observation]] = {
    "tcp": (ipv4(tcp()), seen4(TCP, SYN, 40)),
    "tcp with every flag": (ipv4(tcp(flags=0xFF)), seen4(TCP, 0xFF, 40)),
    "tcp with a payload": (ipv4(tcp(payload=b"hello")), seen4(TCP, SYN, 40)),
    "tcp with options": (ipv4(tcp(options=b"\x02\x04\x05\xb4")), seen4(TCP, SYN, 44)),
    "tcp with all options that fit": (ipv4(tcp(options=bytes(40))), seen4(TCP, SYN, 80)),
    "tcp whose header ends the packet": (ipv4(tcp(data_offset=6) + bytes(4)), seen4(TCP, SYN, 44)),
    "udp": (ipv4(udp(), UDP), seen4(UDP, 0, 28)),
    "udp with a payload": (ipv4(udp(payload=b"hello"), UDP), seen4(UDP, 0, 28)),
    "udp shorter than its packet": (ipv4(udp(length=8) + b"spare", UDP), seen4(UDP, 0, 28)),
    "ipv4 with an option": (ipv4(tcp(), options=bytes(4)), seen4(TCP, SYN, 44)),
    "ipv4 with all options that fit": (ipv4(udp(), UDP, options=bytes(40)), seen4(UDP, 0, 68)),
    "ipv4, don't fragment": (ipv4(tcp(), fragment=0x4000), seen4(TCP, SYN, 40)),
    "ipv4, reserved flag": (ipv4(tcp(), fragment=0x8000), seen4(TCP, SYN, 40)),
    "ipv4 with Ethernet padding": (ipv4(tcp()) + bytes(6), seen4(TCP, SYN, 40)),
    "ipv4 with padding that looks like a packet": (ipv4(tcp()) + ipv4(tcp(9)), seen4(TCP, SYN, 40)),
    "tcp over ipv6": (ipv6(tcp()), seen6(TCP, SYN, 60)),
    "udp over ipv6": (ipv6(udp(), UDP), seen6(UDP, 0, 48)),
    "ipv6 with padding": (ipv6(udp(), UDP) + bytes(6), seen6(UDP, 0, 48)),
    "hop-by-hop": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension())]), seen6(TCP, SYN, 68)),
    "hop-by-hop of 24 octets": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension(2))]), seen6(TCP, SYN, 84)),
    "routing, arrived": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 0, 0))]), seen6(TCP, SYN, 84)),
    "destination options": (ipv6(udp(), UDP, [(DESTINATION, extension(1))]), seen6(UDP, 0, 64)),
    "mobility": (ipv6(tcp(), TCP, [(MOBILITY, extension())]), seen6(TCP, SYN, 68)),
    "host identity": (ipv6(tcp(), TCP, [(HIP, extension())]), seen6(TCP, SYN, 68)),
    "shim6": (ipv6(tcp(), TCP, [(SHIM6, extension())]), seen6(TCP, SYN, 68)),
    "longest header": (ipv6(tcp(), TCP, [(DESTINATION, extension(255))]), seen6(TCP, SYN, 60 + 2048)),
    "atomic fragment": (ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())]), seen6(TCP, SYN, 68)),
    "atomic fragment, reserved bits": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(reserved=3))]),
        seen6(TCP, SYN, 68),
    ),
    "all in the order of RFC 8200": (
        ipv6(
            udp(),
            UDP,
            [
                (HOP_BY_HOP, extension()),
                (DESTINATION, extension()),
                (ROUTING, extension()),
                (FRAGMENT, fragment_header()),
                (DESTINATION, extension()),
            ],
        ),
        seen6(UDP, 0, 88),
    ),
    "as many as are walked": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())] * MAX_EXTENSIONS),
        seen6(TCP, SYN, 60 + 8 * MAX_EXTENSIONS),
    ),
}

# name -> packet and why it is turned away. A name that says "one less" or the like has its control in READ.
REFUSED: dict[str, tuple[bytes, Reason]] = {
    "nothing": (b"", Reason.TRUNCATED),
    "ipv4 header says 0 words": (ipv4(tcp(), header_words=0), Reason.BAD_HEADER),
    # Its source address, 80.x, would pass for the offset of a TCP header read in its place.
    "ipv4 header says 0 words and hides it": (
        ipv4(tcp(), header_words=0, source="80.2.0.1"),
        Reason.BAD_HEADER,
    ),
    "ipv4 header says 4 words": (ipv4(tcp(), header_words=4), Reason.BAD_HEADER),
    "ipv4 length shorter than the header": (ipv4(tcp(), total=19), Reason.BAD_HEADER),
    "ipv4 length shorter than header with options": (
        ipv4(tcp(), options=bytes(8), total=27),
        Reason.BAD_HEADER,
    ),
    "ipv4 length shorter than the header of no matter what": (ipv4(b"", 1, total=19), Reason.BAD_HEADER),
    "ipv4 length of zero": (ipv4(tcp(), total=0), Reason.BAD_HEADER),
    "ipv4 length beyond the packet": (ipv4(tcp(), total=41), Reason.TRUNCATED),
    "ipv4 options take the tcp header": (ipv4(tcp(), header_words=6), Reason.BAD_HEADER),
    "ipv4 options take the whole packet": (ipv4(bytes(20), header_words=10), Reason.BAD_HEADER),
    "first fragment": (ipv4(tcp(), fragment=0x2000), Reason.FRAGMENT),
    "middle fragment": (ipv4(tcp(), fragment=0x2001), Reason.FRAGMENT),
    "last fragment": (ipv4(tcp(), fragment=0x0001), Reason.FRAGMENT),
    "last fragment, far away": (ipv4(tcp(), fragment=0x1000), Reason.FRAGMENT),
    "first fragment that may not be one": (ipv4(tcp(), fragment=0x6000), Reason.FRAGMENT),
    "first fragment of udp": (ipv4(udp(), UDP, fragment=0x2000), Reason.FRAGMENT),
    "icmp": (ipv4(bytes(20), 1), Reason.NO_PORTS),
    "ipv6 in ipv4": (ipv4(ipv6(tcp()), 41), Reason.NO_PORTS),
    "sctp, which has ports elsewhere": (ipv4(bytes(20), 132), Reason.NO_PORTS),
    "udp-lite": (ipv4(udp(), 136), Reason.NO_PORTS),
    "tcp header says 4 words": (ipv4(tcp(data_offset=4)), Reason.BAD_HEADER),
    "tcp header says 0 words": (ipv4(tcp(data_offset=0)), Reason.BAD_HEADER),
    "tcp header longer than the packet": (ipv4(tcp(data_offset=6)), Reason.BAD_HEADER),
    "tcp header reaches into the padding": (
        ipv4(tcp(data_offset=6) + bytes(4), total=40),
        Reason.BAD_HEADER,
    ),
    "tcp header in the padding": (ipv4(tcp(), total=39), Reason.BAD_HEADER),
    "udp says nothing": (ipv4(udp(length=0), UDP), Reason.BAD_HEADER),
    "udp shorter than its header": (ipv4(udp(length=7), UDP), Reason.BAD_HEADER),
    "udp longer than the packet": (ipv4(udp(length=9), UDP), Reason.BAD_HEADER),
    "udp reaches into the padding": (ipv4(udp(length=9) + b"x", UDP, total=28), Reason.BAD_HEADER),
    "udp header in the padding": (ipv4(udp(), UDP, total=27), Reason.BAD_HEADER),
    "ipv6 length beyond the packet": (ipv6(tcp(), payload=21), Reason.TRUNCATED),
    "ipv6 length of zero": (ipv6(tcp(), payload=0), Reason.BAD_HEADER),
    "tcp over ipv6 in the padding": (ipv6(tcp(), payload=19), Reason.BAD_HEADER),
    "udp over ipv6 in the padding": (ipv6(udp(), UDP, payload=7), Reason.BAD_HEADER),
    "icmpv6": (ipv6(bytes(20), 58), Reason.NO_PORTS),
    "no next header": (ipv6(tcp(), NO_NEXT_HEADER), Reason.NO_PORTS),
    "no next header after an extension": (
        ipv6(tcp(), NO_NEXT_HEADER, [(DESTINATION, extension())]),
        Reason.NO_PORTS,
    ),
    "encrypted": (ipv6(tcp(), 50), Reason.NO_PORTS),
    "authenticated": (ipv6(tcp(), 51), Reason.NO_PORTS),
    "hop-by-hop in second place": (
        ipv6(tcp(), TCP, [(DESTINATION, extension()), (HOP_BY_HOP, extension())]),
        Reason.BAD_HEADER,
    ),
    "hop-by-hop twice": (ipv6(tcp(), TCP, [(HOP_BY_HOP, extension())] * 2), Reason.BAD_HEADER),
    "routing, one to go": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 0, 1))]), Reason.BAD_HEADER),
    "segment routing, one to go": (ipv6(tcp(), TCP, [(ROUTING, extension(2, 4, 1))]), Reason.BAD_HEADER),
    "first ipv6 fragment": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(more=True))]),
        Reason.FRAGMENT,
    ),
    "last ipv6 fragment": (ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(1))]), Reason.FRAGMENT),
    "last ipv6 fragment, far away": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(0x1000))]),
        Reason.FRAGMENT,
    ),
    "ipv6 fragment behind an extension": (
        ipv6(tcp(), TCP, [(DESTINATION, extension()), (FRAGMENT, fragment_header(more=True))]),
        Reason.FRAGMENT,
    ),
    "extension reaches over the end": (
        ipv6(tcp(), TCP, [(DESTINATION, extension(stated=3))]),
        Reason.BAD_HEADER,
    ),
    "extension reaches over the end, and then it is no matter what follows": (
        ipv6(tcp(), NO_NEXT_HEADER, [(DESTINATION, extension(stated=3))]),
        Reason.BAD_HEADER,
    ),
    "extension in the padding": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())], payload=7),
        Reason.BAD_HEADER,
    ),
    "fragment header in the padding": (
        ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())], payload=7),
        Reason.BAD_HEADER,
    ),
    "one more than are walked": (
        ipv6(tcp(), TCP, [(DESTINATION, extension())] * (MAX_EXTENSIONS + 1)),
        Reason.BAD_HEADER,
    ),
}


@pytest.mark.parametrize("name", READ)
def test_reads(name: str) -> None:
    """What an honest header says is what is seen."""
    packet, expected = READ[name]
    assert observe(packet) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A packet with one flaw is turned away for that flaw."""
    packet, expected = REFUSED[name]
    assert reason(packet) is expected


@pytest.mark.parametrize("name", READ)
def test_refuses_every_truncation(name: str) -> None:
    """A packet that lost bytes of what its IP header promises is truncated, wherever it was cut."""
    packet, _ = READ[name]
    length = stated_length(packet)
    assert {reason(packet[:cut]) for cut in range(length)} == {Reason.TRUNCATED}
    assert reason(packet[:length]) is None


def stated_length(packet: bytes) -> int:
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_has_no_whole_ip_header(name: str) -> None:
    """Less than an IP header is truncated, whatever flaw it would have shown later."""
    packet, _ = REFUSED[name]
    shortest = 20 if packet[:1] < b"\x50" else 40
    assert {reason(packet[:cut]) for cut in range(shortest)} == {Reason.TRUNCATED}


@pytest.mark.parametrize("name", READ)
def test_refuses_every_shorter_packet(name: str) -> None:
    """A packet that ends within its headers, and whose IP length says so, has a bad header."""
    packet, seen = READ[name]
    begin, place, whole = (0, 2, packet[0] % 16 * 4) if packet[0] >> 4 == 4 else (40, 4, 40)
    headers = (
        seen.payload
        if seen.protocol == TCP
        else seen.payload - 8 + int.from_bytes(udp_length(packet, seen), "big")
    )
    for cut in range(whole, headers):
        shorter = packet[:place] + octets(cut - begin, 2) + packet[place + 2 : cut]
        assert reason(shorter) is Reason.BAD_HEADER
    honest = packet[:place] + octets(headers - begin, 2) + packet[place + 2 : headers]
    assert observe(honest) == seen


def udp_length(packet: bytes, seen: Observation) -> bytes:
    return packet[seen.payload - 4 : seen.payload - 2]


@pytest.mark.parametrize("version", sorted(set(range(16)) - {4, 6}))
def test_knows_two_versions(version: int) -> None:
    """Every version but 4 and 6 is not IP, from the first byte on and whatever follows."""
    for packet in (ipv4(tcp()), ipv6(tcp())):
        assert reason(packet[:1]) is Reason.TRUNCATED
        assert reason(packet) is None
        first = bytes([version << 4 | packet[0] & 15])
        assert reason(first) is Reason.NOT_IP
        assert reason(first + packet[1:]) is Reason.NOT_IP


@pytest.mark.parametrize("kind", WITH_LENGTH)
@pytest.mark.parametrize("units", [0, 1, 5])
def test_walks_each_extension_to_its_end(kind: int, units: int) -> None:
    """A header of every kind ends where its length says, and one word short of room it is refused."""
    packet = ipv6(tcp(), TCP, [(kind, extension(units))])
    assert observe(packet) == seen6(TCP, SYN, 68 + 8 * units)
    cut = ipv6(tcp(), TCP, [(kind, extension(units))], payload=8 + 8 * units + 19)
    assert reason(cut) is Reason.BAD_HEADER


@pytest.mark.parametrize("bit", range(16))
def test_ipv4_fragment_word(bit: int) -> None:
    """Of the 16 bits only the reserved one and don't-fragment say nothing about being a fragment."""
    expected = None if bit in (14, 15) else Reason.FRAGMENT
    assert reason(ipv4(tcp(), fragment=1 << bit)) is expected


@pytest.mark.parametrize("bit", range(16))
def test_ipv6_fragment_word(bit: int) -> None:
    """Of the 16 bits only the two reserved ones say nothing about being a fragment."""
    header = bytes(2) + octets(1 << bit, 2) + bytes(4)
    expected = None if bit in (1, 2) else Reason.FRAGMENT
    assert reason(ipv6(tcp(), TCP, [(FRAGMENT, header)])) is expected


def test_transport_needs_its_header() -> None:
    """An IP packet that is whole but too short for its TCP or UDP header is a bad header, not truncated."""
    segment, datagram = tcp(), udp()
    for cut in range(20):
        assert reason(ipv4(segment[:cut])) is reason(ipv6(segment[:cut])) is Reason.BAD_HEADER
    for cut in range(8):
        assert reason(ipv4(datagram[:cut], UDP)) is reason(ipv6(datagram[:cut], UDP)) is Reason.BAD_HEADER
    assert reason(ipv4(segment)) is reason(ipv6(segment)) is None
    assert reason(ipv4(datagram, UDP)) is reason(ipv6(datagram, UDP)) is None


@pytest.mark.parametrize("tag", [0x0000, 0x000A, 0x0FFF, 0x2005, 0x400A, 0x450A, 0x600A, 0xE123])
def test_a_tag_in_front_is_no_header(tag: int) -> None:
    """With a second VLAN tag the bytes begin at that tag, and its number never passes for an IP header."""
    inner = octets(tag, 2) + b"\x08\x00" + ipv4(tcp())
    assert reason(inner) in (Reason.NOT_IP, Reason.BAD_HEADER, Reason.TRUNCATED)
    assert reason(inner[4:]) is None


@pytest.mark.parametrize(
    ("flags", "opens"),
    [
        (SYN, True),
        (SYN | PSH | URG, True),
        (SYN | 0xC0, True),  # ECN set-up (RFC 3168, 6.1.1)
        (SYN | ACK, False),
        (SYN | RST, False),
        (SYN | FIN, False),
        (ACK, False),
        (RST, False),
        (FIN, False),
        (0, False),
        (0xFF, False),
    ],
)
def test_opening_of_a_connection(flags: int, opens: bool) -> None:
    """Of SYN, ACK, RST and FIN an opening has SYN alone; the other bits do not matter."""
    assert observe(ipv4(tcp(flags=flags))).opens_connection is opens
    assert observe(ipv6(tcp(flags=flags))).opens_connection is opens


def test_every_datagram_opens() -> None:
    """A UDP datagram does not say whether it is the first, so each one counts as an opening."""
    assert observe(ipv4(udp(), UDP)).opens_connection
    assert observe(ipv6(udp(), UDP)).opens_connection


# --- at random ----------------------------------------------------------------------------------------

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
    try:
        seen = observe(packet)
    except Refused as refused:
        with pytest.raises(Refused) as found:
            datagram(packet)
        assert found.value.reason is refused.reason  # noqa: PT017 - the other one's
        return
    # And of what is taken, glance() says the same or nothing, and datagram() the same if it is one.
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
    assert glance(packet) in (None, (seen.protocol, seen.source, seen.port))
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


@given(st.binary(max_size=80))
def test_glance_takes_any_bytes(noise: bytes) -> None:
    """It is called before anything is checked."""
    for start in (b"", b"\x45", b"\x60", b"\x6f"):
        found = glance(start + noise)
        assert found is None or found[0] in (TCP, UDP)


def test_glance_sees_the_plain_sort() -> None:
    """Or the daemon would save nothing: it looks through headers without options and extensions."""
    for packet, protocol in (
        (ipv4(tcp()), TCP),
        (ipv4(udp(), UDP), UDP),
        (ipv6(tcp()), TCP),
        (ipv6(udp(), UDP), UDP),
    ):
        seen = observe(packet)
        assert glance(packet) == (protocol, seen.source, seen.port)
    assert glance(ipv4(tcp(), options=bytes(4))) is None
    assert glance(EXTENDED[0]) is None


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
