"""What is fuzzed of packets, of the kernel's reports, of what our halves say to each other, and of captures.

As in ``targets``, a target takes any bytes, and what it raises is a mistake of ours.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable

from fuzz.targets import Mistake
from knockgate.capture import pcapfile
from knockgate.daemon import keylink, nflog
from knockgate.daemon import link as wardenlink
from knockgate.errors import ConfigError, Refused
from knockgate.model import Observation
from knockgate.wire import bpf, frames
from knockgate.wire.strays import are_strays

__all__ = ["FILTERS", "KNOCKS", "PORT", "TARGETS", "reported"]

_TCP, _UDP = 6, 17
_FRAME = 128  #: octets
PORT = 62202
#: By length, what a knock has at some places.
KNOCKS = {5: {0: b"K"}, 9: {0: b"Kk", 8: b"!"}, 12: {0: b"K", 11: b"?!"}}
#: Without UDP and with it, and datagrams that are shaped like one of ``KNOCKS``.
FILTERS = (
    bpf.openings(udp=False, loopback=False),
    bpf.openings(udp=True, loopback=False),
    bpf.datagrams(
        PORT, [(length, tuple(octets.items())) for length, octets in KNOCKS.items()], loopback=False
    ),
)


def _seen(packet: bytes) -> Observation | None:
    try:
        return frames.observe(packet)
    except Refused:
        return None


def _plain(packet: bytes) -> bool:
    """Whether what IP carries begins right behind its header."""
    return packet[0] >> 4 == 4 or packet[6] in (_TCP, _UDP)


def frame(octets: bytes) -> None:
    """A packet from the wire: what looks quickly says what the one who looks closely says."""
    quick = frames.payload(octets)
    seen = _seen(octets)
    if seen is None:
        return
    lying = memoryview(octets.ljust(_FRAME, b"\0")[:_FRAME])
    if seen.payload <= _FRAME and are_strays(lying, _FRAME, {seen.port}):
        raise Mistake("a packet to a port is none, at a glance")
    try:
        datagram = frames.datagram(octets)
    except Refused:
        if seen.protocol == _UDP:
            raise Mistake("a datagram that is none") from None
        return
    if _plain(octets) and datagram.payload != quick:
        raise Mistake("the payload is another one, in a hurry")


def filter_(octets: bytes) -> None:
    """A packet before it is ours: the kernel's program hears what the reader takes for an opening."""
    kind = {4: frames.ETH_P_IP, 6: frames.ETH_P_IPV6}.get(octets[0] >> 4 if octets else 0, 0)
    heard = [bool(bpf.evaluate(program, octets, bpf.Ancillary(kind))) for program in FILTERS]
    seen = _seen(octets)
    if seen is None:
        return
    if not _plain(octets):
        if not heard[0] or heard[2]:
            raise Mistake("extension headers are for the reader, and not in a knock of one packet")
        return
    opening = seen.protocol == _TCP and seen.flags & 0x17 == 0x02
    if heard[:2] != [opening, opening or seen.protocol == _UDP]:
        raise Mistake("an opening is not heard, or something else is")
    if heard[2] != (seen.protocol == _UDP and seen.port == PORT and _is_shaped(frames.payload(octets))):
        raise Mistake("a knock is not heard, or something else is")


def _is_shaped(payload: bytes) -> bool:
    """As the program asks: the first octet may be that of any of them."""
    octets = KNOCKS.get(len(payload))
    if octets is None or payload[0] not in b"Kk":
        return False
    return all(payload[at] in possible for at, possible in octets.items() if at)


def report(octets: bytes) -> None:
    """What the kernel reports; where the first byte is odd, the rest is the attributes of one report."""
    found = nflog.reports(octets)
    if octets[:1] and octets[0] & 1:
        found = nflog.reports(reported(octets[1:]))
        if len(found) != 1:
            raise Mistake("a report is lost")
    for packet in (octets, *(each.packet for each in found)):
        _ends(packet)


def reported(attributes: bytes) -> bytes:
    """A message of the kernel's with these attributes."""
    return struct.pack("=IHHIIBBH", 20 + len(attributes), 4 << 8, 0, 0, 0, 2, 0, 0) + attributes


def _ends(packet: bytes) -> None:
    seen = _seen(packet)
    try:
        source, port = nflog.ends(packet)
    except Refused:
        if seen is not None:
            raise Mistake("a packet without ends, which the reader takes") from None
        return
    if seen is not None and (source, port) != (seen.source, seen.port):
        raise Mistake("the ends of a packet are others than the reader says")


#: What is said over the two sockets, with its length.
_SAID = (
    (wardenlink.Request, wardenlink.REQUEST_SIZE),
    (wardenlink.Reply, wardenlink.REPLY_SIZE),
    (keylink.Request, keylink.REQUEST_SIZE),
    (keylink.Reply, keylink.REPLY_SIZE),
)


def link(octets: bytes) -> None:
    """A message between our halves; the first byte says which, and whether it is as long as it must be."""
    if not octets:
        return
    kind, size = _SAID[octets[0] % 4]
    message = octets[1:] if octets[0] & 0x80 else octets[1:][:size].ljust(size, b"\0")
    with contextlib.suppress(wardenlink.Surprise):
        if kind.decode(message).encode() != message:
            raise Mistake("a message is taken that nobody of us writes")


def capture(octets: bytes) -> None:
    """A capture file."""
    number = 0
    with contextlib.suppress(ConfigError):
        for each in pcapfile.read(io.BytesIO(octets), "knock.pcap"):
            number += 1
            if each.number != number or each.length < len(each.packet):
                raise Mistake("a packet is lost, or longer than it was")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frame": frame,
    "filter": filter_,
    "report": report,
    "link": link,
    "capture": capture,
}
