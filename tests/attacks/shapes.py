"""What is put around a step or a packet, and which of three kinds of knock open in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.attacks.lanes import DAEMON, KERNEL, SEALED, SEALED_PORT, Lanes, let_in, sealed
from tests.netns import Sender, until
from tests.packets import TCP, UDP, extension, fragment_header, ipv4, ipv6, octets, tcp, udp

from knockgate.spa.sealed import KeyKind, Suite

ALL = frozenset((KERNEL, DAEMON, SEALED))
NONE: frozenset[str] = frozenset()
HEARD = ALL - {KERNEL}
"""What packet sockets hear, and the kernel has not looked at yet."""
SEQUENCES = ALL - {SEALED}
FIRST = frozenset((KERNEL,))

IP, IP6, VLAN, _QINQ = b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\xa8"
_EVERYBODY = b"\xff" * 6


class Frame(NamedTuple):
    """What is put on the cable."""

    packet: bytes
    kind: bytes = IP
    tag: bytes = b""
    to: bytes | None = None


Shape = Callable[[bytes, int, str], Sequence[Frame]]
"""From a segment or datagram, its protocol and its source to frames."""


def v4(**fields: object) -> Shape:
    return lambda inner, protocol, source: [Frame(ipv4(inner, protocol, source=source, **fields))]  # type: ignore[arg-type]


def v6(*chain: tuple[int, bytes], **fields: object) -> Shape:
    return lambda inner, protocol, source: [
        Frame(ipv6(inner, protocol, chain, source=source, **fields), IP6)  # type: ignore[arg-type]
    ]


def framed(kind: bytes = IP, tag: bytes = b"", to: bytes | None = None, behind: int = 0) -> Shape:
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
            Frame(ipv6(inner[begin:end], protocol, [header(begin, more=more)], source=source), IP6)
            for begin, end, more in pieces
        ]

    return shape


_HOPS, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60

SHAPES4: dict[str, tuple[Shape, frozenset[str]]] = {
    "plain": (v4(), ALL),
    "a frame that is filled up": (framed(behind=30), ALL),
    "a frame that is filled up beyond any room for it": (framed(behind=2500), SEQUENCES),
    "options of IP": (v4(options=b"\1" * 8), ALL),
    "a priority and no VLAN": (framed(tag=VLAN + b"\xe0\0"), ALL),
    "a VLAN that is not here": (framed(tag=VLAN + b"\0\7"), NONE),
    "a VLAN within a VLAN": (framed(tag=_QINQ + b"\0\7" + VLAN + b"\0\x08"), NONE),
    "a VLAN within a priority": (framed(tag=_QINQ + b"\0\0" + VLAN + b"\0\7"), NONE),
    "to another machine's Ethernet address": (framed(to=b"\2\0\0\0\0\x99"), NONE),
    "to everybody's Ethernet address": (framed(to=_EVERYBODY), FIRST),
    "to another machine": (v4(destination="10.0.0.9"), NONE),
    "to everybody": (v4(destination="10.0.0.255"), NONE),
    "as ARP": (framed(b"\x08\x06"), NONE),
    "as 802.3": (framed(b"\0\x30"), NONE),
    "as PPPoE": (framed(b"\x88\x64"), NONE),
    "of version 5": (_changed(0, 0x55), NONE),
    "of version 6": (_changed(0, 0x65), NONE),
    "a header of 16 bytes": (_changed(0, 0x44), NONE),
    "a header of 60 bytes": (_changed(0, 0x4F), NONE),
    "a wrong checksum of IP": (_changed(10, 0), HEARD),
    "a length beyond its end": (v4(total=1400), NONE),
    "a length of 20": (v4(total=20), NONE),
    "a length of nothing": (v4(total=0), NONE),
    "a protocol of nobody's": (_changed(9, 253), NONE),
    "two fragments": (_fragments((0, 8, True), (8, None, False)), FIRST),
    "two fragments, the second one first": (_fragments((8, None, False), (0, 8, True)), FIRST),
    "two fragments that overlap": (_fragments((0, 16, True), (8, None, False)), NONE),
    "a first fragment alone": (_fragments((0, 8, True)), NONE),
    "a whole first fragment alone": (_fragments((0, None, True)), NONE),
    "a last fragment alone": (_fragments((8, None, False)), NONE),
}  # fmt: skip
SHAPES6: dict[str, tuple[Shape, frozenset[str]]] = {
    "IPv6, plain": (v6(), ALL),
    "IPv6, options": (v6((_OPTIONS, extension())), SEQUENCES),
    "IPv6, options for each hop": (v6((_HOPS, extension())), SEQUENCES),
    "IPv6, options for each hop behind others": (v6((_OPTIONS, extension()), (_HOPS, extension())), FIRST),
    "IPv6, a route that is over": (v6((_ROUTING, extension(0, 0, 0))), SEQUENCES),
    "IPv6, a route that goes on": (v6((_ROUTING, extension(0, 0, 1))), FIRST),
    "IPv6, nine headers of options": (v6(*[(_OPTIONS, extension())] * 9), FIRST),
    "IPv6, options beyond its end": (v6((_OPTIONS, extension(stated=200))), NONE),
    "IPv6, a fragment that is whole": (v6((_FRAGMENT, fragment_header())), SEQUENCES),
    "IPv6, two fragments": (_fragments6((0, 24, True), (24, None, False)), FIRST),
    "IPv6, a first fragment alone": (_fragments6((0, 24, True)), NONE),
    # These the kernel does not put together, but passes on, so that somebody complains: also to its rules.
    # What ends before its flags is a SYN to them.
    "IPv6, a first fragment without the flags": (_fragments6((0, 8, True)), FIRST),
    "IPv6, a first fragment of no whole octets": (_fragments6((0, 20, True)), FIRST),
    "IPv6, a last fragment alone": (_fragments6((24, None, False)), NONE),
    "IPv6, a length beyond its end": (v6(payload=1400), NONE),
    "IPv6, a length of nothing": (v6(payload=0), NONE),
    "IPv6, to another machine": (v6(destination="fd00::9"), NONE),
}


def send(cable: Sender, frames: Sequence[Frame]) -> None:
    for each in frames:
        cable.send_as(each.kind, each.packet, destination=each.to, tag=each.tag)


FIRST_STEPS = {KERNEL: (tcp(7000), udp(7001, payload=b"\0")), DAEMON: (tcp(8000), udp(8001, payload=b"\0"))}
LAST_STEP = {KERNEL: tcp(7002, options=b"\1" * 12), DAEMON: tcp(8002, options=b"\1" * 12)}
_signers = itertools.cycle(KeyKind)


def knock(
    cable: Sender, lane: str, source: str, shape: Shape, *, first: Shape | None = None, opens: bool = True
) -> None:
    """The last packet of it is shaped; those before it are plain, unless told. What opens uses up a pace."""
    if lane == SEALED:
        kind = next(_signers) if opens else KeyKind.ED25519
        send(cable, shape(udp(SEALED_PORT, payload=sealed(source, Suite.X25519, kind=kind)), UDP, source))
        return
    first = first or (v6() if ":" in source else v4())
    for inner, protocol in zip(FIRST_STEPS[lane], (TCP, UDP), strict=True):
        send(cable, first(inner, protocol, source))
    send(cable, shape(LAST_STEP[lane], TCP, source))


def control(number: int) -> set[str]:
    return {f"10.0.250.{number}", f"fd00::250:{number}"}


def controls(gate: Lanes, cable: Sender, number: int) -> None:
    """Plain knocks of somebody new open, so what came before them has been looked at."""
    for source in sorted(control(number)):
        for lane in sorted(ALL):
            knock(cable, lane, source, v6() if ":" in source else v4())
            until(lambda: source in let_in(lane), f"{lane} of {source}")  # noqa: B023
    assert gate.gate.log().count("started again") == 0
