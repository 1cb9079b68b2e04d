"""Packets out of a capture file: pcap and pcapng, as tcpdump and Wireshark write them.

Reads forward only, one packet at a time, so a pipe will do and a file of any size takes no memory.
What is damaged ends the reading with a ConfigError that says where; what came before has been yielded.

Our own, since what there is does less: dpkt (last release 2022) reads one interface of a pcapng file
and answers damage with struct.error, python-pcapng (2022) reads no pcap, scapy is a hundred times this.

Sources: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from knockgate.capture.links import LINKS, Way
from knockgate.errors import ConfigError

__all__ = ["Captured", "read"]

_NANO = 10**9
#: Fraction's unit in nanoseconds, and byte order, by the first four bytes.
_PCAP = {
    b"\xd4\xc3\xb2\xa1": (1000, "<"),
    b"\xa1\xb2\xc3\xd4": (1000, ">"),
    b"\x4d\x3c\xb2\xa1": (1, "<"),
    b"\xa1\xb2\x3c\x4d": (1, ">"),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6  # block types
_END, _FLAGS, _RESOLUTION, _OFFSET = 0, 2, 9, 14  # options

#: No program captures more of a packet (libpcap's MAXIMUM_SNAPLEN): a larger claim is damage.
_MOST = 262144
_MOST_INTERFACES = 65536


class Captured(NamedTuple):
    """One packet of a file."""

    number: int  #: from 1, as tcpdump and Wireshark count, packets that are no IP included
    time: int  #: nanoseconds since 1970 as the file states them; they may run backwards
    packet: bytes  #: from the network header on; empty where it is no IP
    length: int  #: bytes it had on the wire, from the network header on; more than captured, maybe
    way: Way


def read(stream: BinaryIO, file: str) -> Iterator[Captured]:
    """All packets of a stream that blocks; ``file`` is for the messages. Raises ConfigError."""
    tape = _Tape(stream, file)
    magic = tape.take(4)
    if magic in _PCAP:
        yield from _pcap(tape, *_PCAP[magic])
    elif magic == _SECTION:
        yield from _pcapng(tape)
    else:
        hint = "unpack it first" if magic[:2] == b"\x1f\x8b" else "tcpdump -w FILE writes one"
        raise ConfigError("no capture file, neither pcap nor pcapng", file=file, hint=hint)


class _Tape:
    """A stream that is read exactly, and knows where it is."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self._stream, self._file = stream, file
        self._at = self._begun = 0  # where we are, and where the present packet or block begins
        self.number = 0  # packets so far

    def take(self, size: int, *, may_end: bool = False) -> bytes:
        """The next ``size`` bytes; with ``may_end`` they begin something, or nothing comes any more."""
        if may_end:
            self._begun = self._at
        try:
            found = self._stream.read(size)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=self._file) from None
        if len(found) < size and (found or not may_end):
            hint = "whoever wrote it was stopped in the middle, or it was not copied whole"
            raise self.wrong("the file ends too early", hint if self._at else "it is empty")
        self._at += len(found)
        return found

    def skip(self, size: int) -> None:
        """Pass over bytes, however many are claimed."""
        for start in range(0, size, _MOST):
            self.take(min(_MOST, size - start))

    def wrong(self, message: str, hint: str | None = None) -> ConfigError:
        """The error about what begins where we are."""
        where = f"at byte {self._begun}, after packet {self.number}"
        hint = hint or "it is damaged; all packets before were read"
        return ConfigError(f"{where}: {message}", file=self._file, hint=hint)

    def captured(self, time: int, link: int, frame: bytes, length: int, way: Way) -> Captured:
        """The packet in a frame of ``length`` bytes on the wire; ``way`` is what the file says."""
        if link not in LINKS:
            hint = "Ethernet, raw IP, loopback and `tcpdump -i any` are read"
            raise self.wrong(f"link type {link} is none that is read", hint)
        self.number += 1
        told, packet = LINKS[link](frame)
        if told is Way.UNKNOWN or (told is Way.ALL and way is Way.OUT):
            told = way
        length = max(len(packet), length - (len(frame) - len(packet)))
        return Captured(self.number, time, packet, length, told)


# --- pcap ---------------------------------------------------------------------------------------------


def _pcap(tape: _Tape, unit: int, order: str) -> Iterator[Captured]:
    major, link = struct.unpack(f"{order}H14xI", tape.take(20))
    if major != 2:
        raise tape.wrong(f"pcap of version {major}; there is only version 2")
    record = struct.Struct(f"{order}4I")
    while header := tape.take(record.size, may_end=True):
        seconds, fraction, size, length = record.unpack(header)
        if size > _MOST:
            raise tape.wrong(f"a packet of {size} bytes")
        yield tape.captured(
            seconds * _NANO + fraction * unit, link & 0xFFFF, tape.take(size), length, Way.UNKNOWN
        )


# --- pcapng -------------------------------------------------------------------------------------------


class _Interface(NamedTuple):
    link: int
    longest: int  # bytes captured of a packet, 0 for all
    ticks: int  # a second
    offset: int  # seconds

    def time(self, ticks: int) -> int:
        return ticks * _NANO // self.ticks + self.offset * _NANO


def _pcapng(tape: _Tape) -> Iterator[Captured]:
    kind = _SECTION
    order = ""
    interfaces: list[_Interface] = []
    time = 0
    while kind:
        size = tape.take(4)
        if kind == _SECTION:
            magic = tape.take(4)
            if magic not in _ORDERS:
                raise tape.wrong("a section of neither byte order")
            order, interfaces = _ORDERS[magic], []
            _body(tape, order, size, 16, wanted=False)
            kind = tape.take(4, may_end=True)
            continue
        (number,) = struct.unpack(f"{order}I", kind)
        body = _body(tape, order, size, 12, wanted=number in (_INTERFACE, _SIMPLE, _ENHANCED))
        if number == _INTERFACE:
            if len(interfaces) == _MOST_INTERFACES:
                raise tape.wrong(f"more than {_MOST_INTERFACES} interfaces")
            interfaces.append(_interface(tape, order, body))
        elif number == _ENHANCED:
            packet = _enhanced(tape, order, body, interfaces)
            time = packet.time
            yield packet
        elif number == _SIMPLE:  # has no time of its own
            yield _simple(tape, order, body, interfaces, time)
        kind = tape.take(4, may_end=True)


def _body(tape: _Tape, order: str, size: bytes, around: int, *, wanted: bool) -> bytes:
    """What a block holds beside the ``around`` bytes at its beginning and end."""
    (total,) = struct.unpack(f"{order}I", size)
    if total < around or total % 4:
        raise tape.wrong(f"a block of {total} bytes")
    body = b""
    if not wanted:
        tape.skip(total - around)
    elif total > 2 * _MOST:  # a packet with its comments
        raise tape.wrong(f"a block of {total} bytes")
    else:
        body = tape.take(total - around)
    if tape.take(4) != size:
        raise tape.wrong("a block whose two lengths differ")
    return body


def _interface(tape: _Tape, order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise tape.wrong("an interface without link type")
    link, longest = struct.unpack_from(f"{order}HxxI", body)
    ticks, offset = 10**6, 0
    for code, value in _options(order, body[8:]):
        if code == _RESOLUTION and len(value) == 1:
            power = value[0] & 0x7F
            ticks = 2**power if value[0] & 0x80 else 10**power
        elif code == _OFFSET and len(value) == 8:
            (offset,) = struct.unpack(f"{order}q", value)
    return _Interface(link, longest, ticks, offset)


def _enhanced(tape: _Tape, order: str, body: bytes, interfaces: list[_Interface]) -> Captured:
    if len(body) < 20:
        raise tape.wrong("a packet without its header")
    index, high, low, size, length = struct.unpack_from(f"{order}5I", body)
    if index >= len(interfaces):
        raise tape.wrong(f"a packet of interface {index}, which the file has not named")
    if 20 + size > len(body):
        raise tape.wrong(f"a packet of {size} bytes in a block of {len(body)}")
    way = Way.UNKNOWN
    for code, value in _options(order, body[20 + (size + 3) // 4 * 4 :]):
        if code == _FLAGS and len(value) == 4:
            (flags,) = struct.unpack(f"{order}I", value)
            way = {1: Way.IN, 2: Way.OUT}.get(flags & 3, Way.UNKNOWN)
    interface = interfaces[index]
    time = interface.time(high << 32 | low)
    return tape.captured(time, interface.link, body[20 : 20 + size], length, way)


def _simple(tape: _Tape, order: str, body: bytes, interfaces: list[_Interface], time: int) -> Captured:
    if len(body) < 4 or not interfaces:
        raise tape.wrong("a packet without its header or interface")
    (length,) = struct.unpack_from(f"{order}I", body)
    size = min(length, len(body) - 4, interfaces[0].longest or _MOST)
    return tape.captured(time, interfaces[0].link, body[4 : 4 + size], length, Way.UNKNOWN)


def _options(order: str, text: bytes) -> Iterator[tuple[int, bytes]]:
    """(code, value) up to the end, or to where they make no sense: nothing that must be known is lost."""
    at = 0
    while at + 4 <= len(text):
        code, size = struct.unpack_from(f"{order}HH", text, at)
        if code == _END or at + 4 + size > len(text):
            return
        yield code, text[at + 4 : at + 4 + size]
        at += 4 + (size + 3) // 4 * 4
