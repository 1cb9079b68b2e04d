from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns import isolated, run, until
from tests.packets import CLIENT, CLIENT6, UDP, extension, fragment_header, ipv4, ipv6, raw, tcp, udp

from knockgate.daemon import loggroup
from knockgate.daemon.nflog import Report, ends, reports
from knockgate.errors import Refused, Unavailable


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(attributes: bytes, kind: int = 4 << 8) -> bytes:
    return struct.pack("=IHHIIBBH", 20 + len(attributes), kind, 0, 0, 0, 2, 0, 0) + attributes


WHOLE = message(
    attribute(1, bytes(4))
    + attribute(2, b"\0\0\1\2")
    + attribute(9, b"packet")
    + attribute(10, b"a prefix\0")
)


def test_a_report_is_read() -> None:
    assert reports(WHOLE) == [Report("a prefix", b"packet")]
    assert reports(message(b"")) == [Report("", b"")]
    assert reports(message(attribute(0x8000 | 10, b"flagged"))) == [Report("flagged", b"")]
    done, failed = message(b"", kind=3), message(bytes(4), kind=2)
    assert reports(WHOLE + done + failed + WHOLE) == [Report("a prefix", b"packet")] * 2


@given(st.binary(max_size=400))
def test_noise_is_no_report_and_no_error(datagram: bytes) -> None:
    assert isinstance(reports(datagram), list)
    assert isinstance(reports(message(datagram)), list)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4), st.integers(0, len(WHOLE)))
def test_damage_is_no_error(at: int, noise: bytes, end: int) -> None:
    for report in reports((WHOLE[:at] + noise + WHOLE[at + len(noise) :])[:end]):
        assert report.prefix == str(report.prefix)


@given(st.binary(max_size=200), st.sampled_from([0x45, 0x4F, 0x60, None]))
def test_any_packet_has_ends_or_is_refused(packet: bytes, first: int | None) -> None:
    if first is not None:
        packet = bytes([first]) + packet
    try:
        source, port = ends(packet)
    except Refused:
        return
    assert len(source) in (4, 16) and (port is None or 0 <= port <= 65535)


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(tcp(22)),
        ipv4(udp(22), UDP),
        ipv4(tcp(22), options=bytes(40)),
        ipv4(tcp(22, data_offset=1)),  # that is no TCP for wire.frames, but the kernel has counted it
        ipv4(tcp(22, payload=bytes(1000)))[:128],
        ipv6(tcp(22)),
        ipv6(udp(22), UDP),
        ipv6(tcp(22), extensions=[(0, extension()), (60, extension(2)), (43, extension())]),
        ipv6(tcp(22), extensions=[(44, fragment_header())]),
    ],
)
def test_ends_of_what_the_kernel_took(packet: bytes) -> None:
    assert ends(packet) == (raw(CLIENT if packet[0] >> 4 == 4 else CLIENT6), 22)


@pytest.mark.parametrize(
    "packet", [ipv4(tcp(22))[:23], ipv6(tcp(22), extensions=[(60, extension(20))])[:128]]
)
def test_a_port_beyond_what_was_copied_is_unknown(packet: bytes) -> None:
    assert ends(packet)[1] is None


@isolated
def test_the_kernel_reports_to_a_bound_group() -> None:
    run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    run("nft", 'add rule inet t c udp dport 7000 th dport set 22 log group 7 prefix "opened" drop')
    with loggroup.bound_to(7) as group, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        with pytest.raises(BlockingIOError):
            group.recv(1)
        with pytest.raises(Unavailable, match="another program has log group 7"):
            loggroup.bound_to(7)
        loggroup.bound_to(8).close()  # control
        sender.sendto(bytes(500), ("127.0.0.1", 7000))
        found = until(lambda: reports(_waiting(group)), "a report")
        assert [(each.prefix, len(each.packet)) for each in found] == [("opened", 128)]
        assert ends(found[0].packet) == (raw("127.0.0.1"), 22)
    loggroup.bound_to(7).close()  # free again


def _waiting(group: socket.socket) -> bytes:
    try:
        return group.recv(1 << 16)
    except BlockingIOError:
        return b""
