"""Knocks in frames that nobody's client sends: fragments, extension headers, wrong lengths, other links.

Each shape is put around the last step of a sequence that the kernel follows, around that of one that the
daemon follows, and around a sealed knock, and it is said of each of the three whether it opens. None of those
that do lets anybody in who could not have sent the plain one. Behind them all, plain ones open.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import DAEMON, KERNEL, SEALED, SEALED_PORT, Lanes, lanes, let_in, sealed, wire
from tests.knockgate.daemon import running
from tests.netns import Sender, add_vlan, isolated, run, until, up, veth
from tests.packets import TCP, UDP, extension, fragment_header, ipv4, ipv6, octets, tcp, udp

from knockgate.spa.sealed import KeyKind, Suite

ALL = frozenset((KERNEL, DAEMON, SEALED))
NONE: frozenset[str] = frozenset()
HEARD = ALL - {KERNEL}
"""What packet sockets hear, and the kernel has not looked at yet."""
SEQUENCES = ALL - {SEALED}
FIRST = frozenset((KERNEL,))

_IP, _IP6, _VLAN, _QINQ = b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\xa8"
_EVERYBODY = b"\xff" * 6


class Frame(NamedTuple):
    """What is put on the cable."""

    packet: bytes
    kind: bytes = _IP
    tag: bytes = b""
    to: bytes | None = None


Shape = Callable[[bytes, int, str], Sequence[Frame]]
"""From a segment or datagram, its protocol and its source to frames."""


def _v4(**fields: object) -> Shape:
    return lambda inner, protocol, source: [Frame(ipv4(inner, protocol, source=source, **fields))]  # type: ignore[arg-type]


def _v6(*chain: tuple[int, bytes], **fields: object) -> Shape:
    return lambda inner, protocol, source: [
        Frame(ipv6(inner, protocol, chain, source=source, **fields), _IP6)  # type: ignore[arg-type]
    ]


def _framed(kind: bytes = _IP, tag: bytes = b"", to: bytes | None = None, behind: int = 0) -> Shape:
    return lambda inner, protocol, source: [
        Frame(ipv4(inner, protocol, source=source) + bytes(behind), kind, tag, to)
    ]


def _changed(at: int, octet: int) -> Shape:
    """One octet of the IP header is another, whatever its checksum was."""

    def shape(inner: bytes, protocol: int, source: str) -> Sequence[Frame]:
        packet = ipv4(inner, protocol, source=source)
        return [Frame(packet[:at] + bytes([octet]) + packet[at + 1 :])]

    return shape


def _fragments(*pieces: tuple[int, int | None, bool]) -> Shape:
    """(begin, end, whether more come) of each, in the order in which they are sent."""

    def shape(inner: bytes, protocol: int, source: str) -> Sequence[Frame]:
        number = int.from_bytes(source.encode()[-2:])
        return [
            Frame(
                ipv4(
                    inner[begin:end], protocol, source=source, identification=number,
                    fragment=begin >> 3 | more << 13,
                )
            )
            for begin, end, more in pieces
        ]  # fmt: skip

    return shape


_identifications = itertools.count(1)


def _fragments6(*pieces: tuple[int, int | None, bool]) -> Shape:
    def shape(inner: bytes, protocol: int, source: str) -> Sequence[Frame]:
        number = octets(next(_identifications), 4)

        def header(begin: int, *, more: bool) -> tuple[int, bytes]:
            return _FRAGMENT, fragment_header(begin >> 3, more=more)[:4] + number

        return [
            Frame(ipv6(inner[begin:end], protocol, [header(begin, more=more)], source=source), _IP6)
            for begin, end, more in pieces
        ]

    return shape


_HOPS, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60

SHAPES4: dict[str, tuple[Shape, frozenset[str]]] = {
    "plain": (_v4(), ALL),
    "a frame that is filled up": (_framed(behind=30), ALL),
    "a frame that is filled up beyond any room for it": (_framed(behind=2500), SEQUENCES),
    "options of IP": (_v4(options=b"\1" * 8), ALL),
    "a priority and no VLAN": (_framed(tag=_VLAN + b"\xe0\0"), ALL),
    "a VLAN that is not here": (_framed(tag=_VLAN + b"\0\7"), NONE),
    "a VLAN within a VLAN": (_framed(tag=_QINQ + b"\0\7" + _VLAN + b"\0\x08"), NONE),
    "a VLAN within a priority": (_framed(tag=_QINQ + b"\0\0" + _VLAN + b"\0\7"), NONE),
    "to another machine's Ethernet address": (_framed(to=b"\2\0\0\0\0\x99"), NONE),
    "to everybody's Ethernet address": (_framed(to=_EVERYBODY), FIRST),
    "to another machine": (_v4(destination="10.0.0.9"), NONE),
    "to everybody": (_v4(destination="10.0.0.255"), NONE),
    "as ARP": (_framed(b"\x08\x06"), NONE),
    "as 802.3": (_framed(b"\0\x30"), NONE),
    "as PPPoE": (_framed(b"\x88\x64"), NONE),
    "of version 5": (_changed(0, 0x55), NONE),
    "of version 6": (_changed(0, 0x65), NONE),
    "a header of 16 bytes": (_changed(0, 0x44), NONE),
    "a header of 60 bytes": (_changed(0, 0x4F), NONE),
    "a wrong checksum of IP": (_changed(10, 0), HEARD),
    "a length beyond its end": (_v4(total=1400), NONE),
    "a length of 20": (_v4(total=20), NONE),
    "a length of nothing": (_v4(total=0), NONE),
    "a protocol of nobody's": (_changed(9, 253), NONE),
    "two fragments": (_fragments((0, 8, True), (8, None, False)), FIRST),
    "two fragments, the second one first": (_fragments((8, None, False), (0, 8, True)), FIRST),
    "two fragments that overlap": (_fragments((0, 16, True), (8, None, False)), NONE),
    "a first fragment alone": (_fragments((0, 8, True)), NONE),
    "a whole first fragment alone": (_fragments((0, None, True)), NONE),
    "a last fragment alone": (_fragments((8, None, False)), NONE),
}  # fmt: skip
SHAPES6: dict[str, tuple[Shape, frozenset[str]]] = {
    "IPv6, plain": (_v6(), ALL),
    "IPv6, options": (_v6((_OPTIONS, extension())), SEQUENCES),
    "IPv6, options for each hop": (_v6((_HOPS, extension())), SEQUENCES),
    "IPv6, options for each hop behind others": (_v6((_OPTIONS, extension()), (_HOPS, extension())), FIRST),
    "IPv6, a route that is over": (_v6((_ROUTING, extension(0, 0, 0))), SEQUENCES),
    "IPv6, a route that goes on": (_v6((_ROUTING, extension(0, 0, 1))), FIRST),
    "IPv6, nine headers of options": (_v6(*[(_OPTIONS, extension())] * 9), FIRST),
    "IPv6, options beyond its end": (_v6((_OPTIONS, extension(stated=200))), NONE),
    "IPv6, a fragment that is whole": (_v6((_FRAGMENT, fragment_header())), SEQUENCES),
    "IPv6, two fragments": (_fragments6((0, 24, True), (24, None, False)), FIRST),
    "IPv6, a first fragment alone": (_fragments6((0, 24, True)), NONE),
    # These the kernel does not put together, but passes on, so that somebody complains: also to its rules.
    # What ends before its flags is a SYN to them.
    "IPv6, a first fragment without the flags": (_fragments6((0, 8, True)), FIRST),
    "IPv6, a first fragment of no whole octets": (_fragments6((0, 20, True)), FIRST),
    "IPv6, a last fragment alone": (_fragments6((24, None, False)), NONE),
    "IPv6, a length beyond its end": (_v6(payload=1400), NONE),
    "IPv6, a length of nothing": (_v6(payload=0), NONE),
    "IPv6, to another machine": (_v6(destination="fd00::9"), NONE),
}


def _send(cable: Sender, frames: Sequence[Frame]) -> None:
    for each in frames:
        cable.send_as(each.kind, each.packet, destination=each.to, tag=each.tag)


_FIRST_STEPS = {KERNEL: (tcp(7000), udp(7001, payload=b"\0")), DAEMON: (tcp(8000), udp(8001, payload=b"\0"))}
_LAST_STEP = {KERNEL: tcp(7002, options=b"\1" * 12), DAEMON: tcp(8002, options=b"\1" * 12)}
_signers = itertools.cycle(KeyKind)


def _knock(
    cable: Sender, lane: str, source: str, shape: Shape, *, first: Shape | None = None, opens: bool = True
) -> None:
    """The last packet of it is shaped; those before it are plain, unless told. What opens uses up a pace."""
    if lane == SEALED:
        kind = next(_signers) if opens else KeyKind.ED25519
        _send(cable, shape(udp(SEALED_PORT, payload=sealed(source, Suite.X25519, kind=kind)), UDP, source))
        return
    first = first or (_v6() if ":" in source else _v4())
    for inner, protocol in zip(_FIRST_STEPS[lane], (TCP, UDP), strict=True):
        _send(cable, first(inner, protocol, source))
    _send(cable, shape(_LAST_STEP[lane], TCP, source))


def _control(number: int) -> set[str]:
    return {f"10.0.250.{number}", f"fd00::250:{number}"}


def _controls(gate: Lanes, cable: Sender, number: int) -> None:
    """Plain knocks of somebody new open, so what came before them has been looked at."""
    for source in sorted(_control(number)):
        for lane in sorted(ALL):
            _knock(cable, lane, source, _v6() if ":" in source else _v4())
            until(lambda: source in let_in(lane), f"{lane} of {source}")  # noqa: B023
    assert gate.gate.log().count("started again") == 0


@isolated
def test_a_knock_in_each_shape(tmp_path: Path) -> None:
    with lanes(tmp_path) as gate, _roomy_wire() as cable:
        shapes = SHAPES4 | SHAPES6
        whose = {
            name: f"10.0.{100 + number}.1" if name in SHAPES4 else f"fd00::{number + 1:x}:1"
            for number, name in enumerate(shapes)
        }
        for name, (shape, opens) in shapes.items():
            for lane in sorted(ALL):
                _knock(cable, lane, whose[name], shape, opens=lane in opens)
        _controls(gate, cable, 1)
        inside = {lane: let_in(lane) for lane in ALL}
        found = {name: {lane for lane in ALL if source in inside[lane]} for name, source in whose.items()}
        assert found == {name: set(opens) for name, (_, opens) in shapes.items()}
        assert "over-pace" not in gate.refused()
        figure(
            "frames.shapes",
            shapes=len(shapes),
            open_none=sum(not opens for _, opens in shapes.values()),
            open_all=sum(opens == ALL for _, opens in shapes.values()),
        )


_MOST = 9000


@isolated
def test_what_is_no_frame_of_strangers(tmp_path: Path) -> None:
    with lanes(tmp_path) as gate, _roomy_wire() as cable:
        _no_packets(gate, cable)
        _under_the_wrong_name(gate, cable)
        _on_loopback(gate, cable)


def _no_packets(gate: Lanes, cable: Sender) -> None:
    """Each length from nothing, of any bytes, below each EtherType that is heard; and the longest ones."""
    dice = random.Random(1)
    opened = {lane: gate.opened(lane) for lane in ALL}
    knock = ipv4(udp(SEALED_PORT, payload=sealed("10.0.7.1", Suite.X25519)), UDP, source="10.0.7.1")
    knock6 = ipv6(udp(SEALED_PORT, payload=sealed("fd00::7:1", Suite.X25519)), UDP, source="fd00::7:1")
    sent = 0
    for kind, whole in ((_IP, knock), (_IP6, knock6)):
        for size in [*range(80), *range(80, len(whole), 7)]:
            _send(cable, [Frame(whole[:size], kind), Frame(dice.randbytes(size), kind)])
            sent += 2
    for kind, (first, rest) in itertools.product(
        (_IP, _IP6), ((0x45, 1), (0x4F, 1), (0x60, 6), (0x60, 17), (0x60, 0), (0x60, 44))
    ):
        for size in (60, 300, 1500, _MOST):
            octet = bytes([first, 0]) + dice.randbytes(4) + bytes([rest, 64]) + dice.randbytes(size - 8)
            _send(cable, [Frame(octet, kind), Frame(bytes([first]) + b"\xff" * (size - 1), kind)])
            sent += 2
    assert {lane: gate.opened(lane) for lane in ALL} == opened
    _send(cable, [Frame(knock), Frame(knock6, _IP6)])  # the control: they were good
    until(lambda: {"10.0.7.1", "fd00::7:1"} <= let_in(SEALED), "whole, they open")
    _controls(gate, cable, 1)
    assert {lane: gate.opened(lane) - opened[lane] for lane in ALL} == {KERNEL: 2, DAEMON: 2, SEALED: 4}
    figure("frames.no packets", sent=sent, opened=0)


def _under_the_wrong_name(gate: Lanes, cable: Sender) -> None:
    """IPv4 said to be IPv6, and the other way. A neighbour alone can send that, and is let in as with IPv4.

    The kernel drops it; who follows sequences in the daemon sees no EtherType, and takes IPv4 for it.
    """
    before = {lane: let_in(lane) for lane in ALL}
    for lane, kind in itertools.product(sorted(ALL), (_IP, _IP6)):
        four, six = f"10.0.8.{sorted(ALL).index(lane)}", f"fd00::8:{sorted(ALL).index(lane)}"
        other = {_IP: six, _IP6: four}[kind]
        plain = _v6() if kind == _IP else _v4()

        def wrongly(inner: bytes, protocol: int, source: str) -> Sequence[Frame]:
            return [each._replace(kind=kind) for each in plain(inner, protocol, source)]  # noqa: B023

        _knock(cable, lane, other, wrongly, first=wrongly, opens=False)
    _controls(gate, cable, 2)
    found = {lane: let_in(lane) - before[lane] - _control(2) for lane in ALL}
    assert found == {KERNEL: set(), DAEMON: {"10.0.8.0"}, SEALED: set()}
    figure("frames.wrong EtherType", sent=6, opened=1)


def _on_loopback(gate: Lanes, cable: Sender) -> None:
    """Who is on the host opens nothing with frames on lo, in whosever name."""
    before = {lane: let_in(lane) for lane in ALL}
    with Sender("lo", bytes(6)) as inside:
        for number, lane in enumerate(sorted(ALL)):
            for source in (f"10.0.6.{number}", "127.0.0.1"):
                if lane != SEALED or not source.startswith("127"):
                    _knock(inside, lane, source, _v4(), opens=False)
    _controls(gate, cable, 3)
    assert {lane: let_in(lane) - before[lane] for lane in ALL} == dict.fromkeys(ALL, _control(3))
    figure("frames.loopback", opened=0)


@contextlib.contextmanager
def _roomy_wire() -> Iterator[Sender]:
    """That carries frames of 9,000 bytes."""
    run("ip", "link", "set", "near", "mtu", "9000")
    with running.client:
        run("ip", "link", "set", "far", "mtu", "9000")
    with wire() as cable:
        yield cable


# --- other links --------------------------------------------------------------------------------------

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@contextlib.contextmanager
def _tun() -> Iterator[Callable[[bytes], object]]:
    """A link without a link layer, as of a VPN or a modem: it begins with the IP header."""
    try:
        file = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no TUN here: {error.strerror}")
    try:
        try:
            fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        except OSError as error:
            pytest.skip(f"no TUN here: {error.strerror}")
        up("tun0", "10.7.0.1/24")
        yield lambda packet: _written(file, packet)
    finally:
        os.close(file)


def _written(file: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # it takes no packet of any other version
        os.write(file, packet)


@isolated
def test_a_link_without_a_header(tmp_path: Path) -> None:
    dice = random.Random(1)
    with lanes(tmp_path), _tun() as write:
        for size in range(1, 120):
            write(dice.randbytes(size))
            write(b"\x45" + dice.randbytes(size))
            write(b"\x60" + dice.randbytes(size))
        for lane, source in (("daemon", "10.7.0.2"), ("kernel", "10.7.0.3")):
            for inner, protocol in zip(_FIRST_STEPS[lane], (TCP, UDP), strict=True):
                write(ipv4(inner, protocol, source=source))
            write(ipv4(_LAST_STEP[lane], TCP, source=source))
        payload = sealed("10.7.0.4", Suite.X25519)
        write(
            ipv4(udp(SEALED_PORT, payload=payload), UDP, source="10.7.0.4", fragment=0x2000)
        )  # no fragment opens
        write(ipv4(udp(SEALED_PORT, payload=payload), UDP, source="10.7.0.4"))
        expected = {"daemon": {"10.7.0.2"}, "kernel": {"10.7.0.3"}, "sealed": {"10.7.0.4"}}
        until(
            lambda: {lane: let_in(lane) for lane in ALL} == expected, "each of them opens, and nothing else"
        )
        figure("frames.without a link layer", junk=357, opened=3)


@isolated
def test_a_vlan_that_is_here(tmp_path: Path) -> None:
    """What is tagged for it opens on it; not twice, though the interface below it hears it as well."""
    veth("one", "other")
    add_vlan("one", 8)  # or skip
    with lanes(tmp_path) as gate:
        up(add_vlan("near", 7), "10.8.0.1/24")
        with wire() as cable:
            tagged = _framed(tag=_VLAN + b"\0\7")
            for lane, source in zip(sorted(ALL), ("10.8.0.2", "10.8.0.3", "10.8.0.4"), strict=True):
                _knock(cable, lane, source, tagged, first=tagged)
                until(lambda: source in let_in(lane), f"{lane} opens")  # noqa: B023
            _controls(gate, cable, 1)
            assert {gate.opened(lane) for lane in ALL} == {3}
            figure("frames.VLAN", opened=3)
