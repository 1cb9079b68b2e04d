from __future__ import annotations

import pytest
from tests.knockgate.wire.headers import (
    FRAGMENT,
    READ,
    REFUSED,
    WITH_LENGTH,
    reason,
    seen6,
    stated_length,
    udp_length,
)
from tests.packets import ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, extension, ipv4, ipv6, octets, tcp, udp

from knockgate.errors import Reason
from knockgate.wire.frames import observe


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
