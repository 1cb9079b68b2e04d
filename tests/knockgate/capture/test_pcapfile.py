from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.capture import files
from tests.knockgate.capture.tcpdump import Tcpdump
from tests.netns import (
    Network,
    Sender,
    isolated,
    mac,
    run,
    stay_on_one_core,
    until,
    until_carries,
    up,
    veth,
)
from tests.packets import ipv4, ipv6, octets, tcp, udp

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured, read
from knockgate.errors import ConfigError
from knockgate.model import address_text

P4, P6 = ipv4(tcp(7000)), ipv6(udp(8000, payload=b"hello"), 17)
TIME = 1_700_000_000_123_456_789


def packets(content: bytes) -> list[Captured]:
    return list(read(io.BytesIO(content), "knock.pcap"))


def up_to_the_damage(content: bytes) -> tuple[list[Captured], ConfigError | None]:
    found = []
    try:
        for captured in read(io.BytesIO(content), "knock.pcap"):
            found.append(captured)  # noqa: PERF402 - what came before an error counts
    except ConfigError as error:
        return found, error
    return found, None


# --- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_in_both_byte_orders_and_both_resolutions(order: str, nano: bool) -> None:
    frames = [(TIME, files.ethernet(P4)), (TIME - 5000, files.ethernet(P6, files.IP6))]
    found = packets(files.pcap(frames, order=order, nano=nano))
    expected = [time if nano else time // 1000 * 1000 for time, _ in frames]
    assert found == [
        Captured(1, expected[0], P4, len(P4), Way.UNKNOWN),
        Captured(2, expected[1], P6, len(P6), Way.UNKNOWN),
    ]


@pytest.mark.parametrize("order", "<>")
def test_pcapng(order: str) -> None:
    """Interfaces differ in link and clock, blocks that nobody knows lie between, a section begins anew."""
    milli = files.option(9, b"\x03", order=order)
    later = files.option(14, struct.pack(f"{order}q", 100), order=order)
    remark = files.option(1, b"remark", order=order)
    out = files.option(2, struct.pack(f"{order}I", 2), order=order)
    other = ">" if order == "<" else "<"
    binary = files.option(9, b"\x94", order=other)  # 2 to the power of -20
    content = b"".join(
        [
            files.section(order=order),
            files.block(0x0BAD, b"unknown" * 1000, order=order),
            files.interface(order=order),
            files.interface(files.RAW, order=order, options=remark + milli + later),
            files.enhanced(1_000_001, files.ethernet(P4), order=order, options=remark + out),
            files.enhanced(5_000, P6, order=order, number=1),
            files.simple(files.ethernet(P4), order=order),
            files.section(order=other),
            files.interface(files.COOKED2, order=other, options=binary),
            files.enhanced(3 << 20 | 1 << 19, files.cooked2(P4), order=other),
        ]
    )
    assert packets(content) == [
        Captured(1, 1_000_001_000, P4, len(P4), Way.OUT),
        Captured(2, 105_000_000_000, P6, len(P6), Way.UNKNOWN),
        Captured(3, 105_000_000_000, P4, len(P4), Way.UNKNOWN),  # without a time: as the one before
        Captured(4, 3_500_000_000, P4, len(P4), Way.IN),
    ]


def test_what_was_cut_off_is_known() -> None:
    (cut,) = packets(files.pcap([(0, files.ethernet(P6, files.IP6))], cut=60))
    assert (cut.packet, cut.length) == (P6[:46], len(P6))
    content = files.section() + files.interface(longest=60) + files.simple(files.ethernet(P6)[:60], length=67)
    assert packets(content)[0].length == 53


TAG = b"\x81\x00\x00\x07"
LINKS = [
    (files.ETHERNET, files.ethernet(P4), Way.UNKNOWN),
    (files.ETHERNET, files.ethernet(P4, tags=TAG), Way.UNKNOWN),
    (files.ETHERNET, files.ethernet(P4, tags=b"\x88\xa8\x00\x07" + TAG), Way.UNKNOWN),
    (files.ETHERNET, files.ethernet(P4, to=b"\xff" * 6), Way.ALL),
    (files.ETHERNET, bytes(12) + b"\x08\x00" + P4, Way.LOOPBACK),
    (files.RAW, P4, Way.UNKNOWN),
    (files.RAW, P6, Way.UNKNOWN),
    (files.RAW_OLD, P4, Way.UNKNOWN),
    (files.IPV4, P4, Way.UNKNOWN),
    (files.IPV6, P6, Way.UNKNOWN),
    (files.NULL, b"\x02\0\0\0" + P4, Way.UNKNOWN),
    (files.NULL, b"\0\0\0\x1e" + P6, Way.UNKNOWN),
    *[
        (link, make(P4, way=number), way)
        for link, make in ((files.COOKED, files.cooked), (files.COOKED2, files.cooked2))
        for number, way in enumerate((Way.IN, Way.ALL, Way.ALL, Way.ELSEWHERE, Way.OUT))
    ],
    (files.COOKED, files.cooked(TAG[2:] + b"\x08\x00" + P4, 0x8100), Way.IN),
    (files.COOKED, files.cooked(P4, hardware=772), Way.LOOPBACK),
    (files.COOKED2, files.cooked2(P4, hardware=772), Way.LOOPBACK),
]


@pytest.mark.parametrize(("link", "frame", "way"), LINKS)
def test_link_layers(link: int, frame: bytes, way: Way) -> None:
    expected = P6 if frame.endswith(P6) else P4
    assert packets(files.pcap([(0, frame)], link)) == [Captured(1, 0, expected, len(expected), way)]


@pytest.mark.parametrize(
    ("link", "frame", "control"),
    [
        (files.ETHERNET, files.ethernet(P4, 0x0806), files.ethernet(P4)),
        (files.ETHERNET, files.ethernet(P4)[:13], files.ethernet(P4)),
        (files.ETHERNET, files.ethernet(P4, 0x8100)[:16], files.ethernet(P4)),
        (files.COOKED, files.cooked(P4, 0x0004), files.cooked(P4)),
        (files.COOKED, files.cooked(P4)[:15], files.cooked(P4)),
        (files.COOKED2, files.cooked2(P4)[:19], files.cooked2(P4)),
        (files.RAW, b"\x50" + P4, P4),
        (files.RAW, b"", P4),
        (files.NULL, b"\x02\0\0", bytes(4) + P4),
    ],
)
def test_what_is_no_ip_is_counted_and_empty(link: int, frame: bytes, control: bytes) -> None:
    found = packets(files.pcap([(0, frame), (0, control)], link))
    assert [(each.number, each.packet) for each in found] == [(1, b""), (2, P4)]


# --- damage -------------------------------------------------------------------------------------------


PLAIN = files.pcap([(0, files.ethernet(P4)), (1000, files.ethernet(P6, files.IP6))])
NEW = files.section() + files.interface() + files.enhanced(0, files.ethernet(P4))
WHOLE = {"pcap": PLAIN, "pcapng": NEW + files.simple(files.ethernet(P4)) + files.block(5, b"statistics")}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_ends_too_early_yields_what_was_whole(kind: str) -> None:
    """Cut at every byte: the packets before, and an error unless the cut lies between two of them."""
    content = WHOLE[kind]
    whole = packets(content)
    assert len(whole) == 2
    silent = 0
    for size in range(len(content)):
        found, error = up_to_the_damage(content[:size])
        assert found == whole[: len(found)]
        silent += error is None
        if error:
            assert error.file == "knock.pcap" and error.hint
    assert silent == {"pcap": 2, "pcapng": 4}[kind]  # behind the header and behind each packet or block


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "at byte 0, after packet 0: the file ends too early"),
        (b"GIF89a, certainly", "no capture file, neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\x00" + bytes(9), "no capture file"),
        (files.pcap([], version=3), "pcap of version 3"),
        (files.pcap([(0, b"")], 127), "at byte 24, after packet 0: link type 127 is none that is read"),
        (PLAIN[:32] + b"\xff\xff\xff\x7f" + PLAIN[36:], "a packet of 2147483647 bytes"),
        (PLAIN[:-1], f"at byte {24 + 16 + 14 + len(P4)}, after packet 1: the file ends too early"),
        (NEW[:8] + b"\x00" * 4 + NEW[12:], "a section of neither byte order"),
        (files.section() + files.enhanced(0, P4), "a packet of interface 0, which the file has not named"),
        (files.section() + files.simple(P4), "a packet without its header or interface"),
        (files.section() + files.block(1, b"\0" * 4), "an interface without link type"),
        (files.section() + files.interface() + files.block(6, b"\0" * 16), "a packet without its header"),
        (
            files.section() + files.interface() + files.block(6, struct.pack("<5I", 0, 0, 0, 99, 99)),
            "a packet of 99 bytes in a block of 20",
        ),
        (NEW[:-4] + b"\x08\0\0\0", "a block whose two lengths differ"),
        (NEW + struct.pack("<II", 6, 10), "a block of 10 bytes"),
        (NEW + struct.pack("<II", 6, 8), "a block of 8 bytes"),
        (NEW + struct.pack("<II", 6, 34) + bytes(30), "a block of 34 bytes"),
        (NEW + struct.pack("<II", 6, 1 << 30), "a block of 1073741824 bytes"),
        (files.section() + files.interface() * 65537, "more than 65536 interfaces"),
    ],
)
def test_damage_says_where_and_what(content: bytes, says: str) -> None:
    _, error = up_to_the_damage(content)
    assert error and says in error.message and error.hint


def test_a_broken_disk_is_told() -> None:
    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(ConfigError, match="cannot be read: Input/output error"):
        list(read(Broken(), "knock.pcap"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A whole file with some bytes changed, taken out or put in."""
    content = bytearray(draw(st.sampled_from(list(WHOLE.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(content)


MAGICS = [PLAIN[:4], PLAIN[3::-1], NEW[:12], b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b""]


@given(st.one_of(damaged(), st.builds(bytes.__add__, st.sampled_from(MAGICS), st.binary(max_size=400))))
def test_any_bytes_are_packets_or_an_error(content: bytes) -> None:
    found, _ = up_to_the_damage(content)  # any other exception fails the test
    assert [captured.number for captured in found] == list(range(1, len(found) + 1))
    assert all(len(captured.packet) <= captured.length for captured in found)


class Endless(io.BytesIO):
    """A pcapng file of a gigabyte that nobody has to keep: one unknown block, and then a packet."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 1 << 30
        head = files.section() + files.interface() + struct.pack("<II", 0x0BAD, self._size + 12)
        tail = struct.pack("<I", self._size + 12) + files.enhanced(0, files.ethernet(P4))
        self._parts = self._pieces(head, tail)
        self._rest = b""

    def _pieces(self, head: bytes, tail: bytes) -> Iterator[bytes]:
        yield head
        zeros = bytes(1 << 16)
        for _ in range(self._size >> 16):
            yield zeros
        yield tail

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and 0 < size <= 1 << 20
        while len(self._rest) < size and (more := next(self._parts, b"")):
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def test_memory_does_not_grow_with_the_file() -> None:
    tracemalloc.start()
    try:
        (captured,) = read(Endless(), "pipe")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert captured.packet == P4 and peak < 4 << 20


# --- what the real tcpdump writes ---------------------------------------------------------------------


Destinations = list[tuple[int, str]]  # nanoseconds, address and port


def seen_by_tcpdump(file: Path) -> Destinations:
    """What tcpdump reads in its own file."""
    pattern = r"^(\d+)\.(\d{9}) .*?\bIP6? \S+ > (\S+?)\.(\d+): (?:UDP|Flags)"
    lines = re.findall(pattern, run("tcpdump", "-n", "-tt", "--nano", "-r", str(file)), re.MULTILINE)
    return [
        (int(seconds) * 10**9 + int(fraction), f"{host} {port}") for seconds, fraction, host, port in lines
    ]


def seen_by_us(file: Path) -> Destinations:
    found = []
    for captured in packets(file.read_bytes()):
        packet = captured.packet
        if packet[:1] == b"\x45" and packet[9] in (6, 17):
            address, ports = packet[16:20], packet[20:24]
        elif packet[:1] == b"\x60" and packet[6] in (6, 17):
            address, ports = packet[24:40], packet[40:44]
        else:
            continue
        found.append((captured.time, f"{address_text(address)} {int.from_bytes(ports[2:], 'big')}"))
    return found


def until_in(file: Path, *destinations: str) -> None:
    """Wait for packets to be in a file; then tcpdump and we read the same in it."""

    def all_there() -> bool:
        content = file.read_bytes()
        return len(content) > 24 and set(destinations) <= {each for _, each in seen_by_us(file)}

    until(all_there, f"{destinations} are in the file")
    # Between two looks something else may be written.
    until(lambda: seen_by_us(file) == seen_by_tcpdump(file), "tcpdump reads the same")


@isolated
def test_files_of_the_real_tcpdump() -> None:
    """Ethernet with a tag, cut short, in nanoseconds; `any` as cooked v2 and v1, which tell the way."""
    stay_on_one_core()
    client = Network()
    veth("near", "far", client)
    up("near", "10.0.0.1/24", "fd00::1/64")
    near = mac("near")
    with client:
        wire = Sender("far", near)
    until_carries(wire, "near")
    with (
        Tcpdump("-i", "near") as plain,
        Tcpdump("-i", "near", "--nano", "-s", "80") as cut,
        Tcpdump("-i", "any") as cooked2,
        Tcpdump("-i", "any", "-y", "LINUX_SLL") as cooked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        wire.send(ipv4(tcp(7000)))
        wire.send(ipv6(udp(8000, payload=b"x" * 100), 17))
        wire.send(ipv4(tcp(9000)), tag=TAG)
        wire.send(ipv4(udp(7101), 17), destination=b"\xff" * 6)
        wire.send(ipv4(udp(7102), 17), destination=b"\x02\0\0\0\0\x09")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(b"", ("10.0.0.255", 7103))
        sock.sendto(b"", ("127.0.0.1", 7104))
        for file in (plain, cut):
            until_in(file, "10.0.0.1 7000", "fd00::1 8000", "10.0.0.1 9000")
        lengths = [(len(each.packet), each.length) for each in packets(cut.read_bytes())]
        assert (66, 148) in lengths and (40, 40) in lengths
        for file in (cooked, cooked2):
            until_in(file, "10.0.0.1 9000", "10.0.0.255 7103", "127.0.0.1 7104")
            ways = {each.packet[22:24]: each.way for each in packets(file.read_bytes()) if each.packet}
            assert {port: ways[octets(port, 2)] for port in (7000, 7101, 7102, 7103, 7104)} == {
                7000: Way.IN,
                7101: Way.ALL,
                7102: Way.ELSEWHERE,
                7103: Way.OUT,
                7104: Way.LOOPBACK,
            }


@isolated
def test_a_file_of_a_tunnel() -> None:
    """Raw IP; somebody holds the tunnel open, or it would carry nothing."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("this system has no /dev/net/tun")
    with (
        Path("/dev/net/tun").open("r+b", buffering=0) as device,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))  # TUNSETIFF, IFF_TUN
        up("tun0", "10.7.0.1/24")
        with Tcpdump("-i", "tun0") as file:
            sock.sendto(b"", ("10.7.0.9", 77))
            until_in(file, "10.7.0.9 77")
