"""Netlink messages as bytes, made and read; no socket is touched.

A message to or from nf_tables (RFC 3549; linux/netlink.h, linux/netfilter/nfnetlink.h)::

    nlmsghdr    length, type (subsystem << 8 | verb), flags, sequence, port id     native order
    nfgenmsg    family, version, resource                                          network order
    attributes  length, kind, payload, padded to 4 bytes; a payload may be attributes again

Changes come in a batch: a message that begins it, one for each change, one that ends it, in a single
datagram. The kernel makes all of the changes or none.

Reading never fails: what is cut off is as if it were not there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "INET",
    "Message",
    "Request",
    "Verb",
    "attribute",
    "batch",
    "failure_of",
    "fields",
    "items",
    "message",
    "messages",
    "nest",
    "number",
    "number32",
    "string",
    "text",
]

INET = 1  #: the family of tables for IPv4 and IPv6 at once (NFPROTO_INET)
_SUBSYSTEM = 10
_ERROR, _BATCH_BEGIN, _BATCH_END = 2, 0x10, 0x11
_REQUEST, _ACK = 0x001, 0x004
_CAPPED, _ACK_TLVS = 0x100, 0x200
_HEADER, _GENERIC = struct.Struct("=IHHII"), struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")


class Verb:
    """Messages of nf_tables (enum nf_tables_msg_types), with the subsystem in front."""

    NEW_TABLE, GET_TABLE, DELETE_TABLE = (_SUBSYSTEM << 8 | number for number in (0, 1, 2))
    GET_CHAIN, GET_RULE = (_SUBSYSTEM << 8 | number for number in (4, 7))
    NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = (_SUBSYSTEM << 8 | number for number in (12, 13, 14))
    NEW_GENERATION, GET_GENERATION = (_SUBSYSTEM << 8 | number for number in (15, 16))
    DONE = 3  # of netlink itself: the end of an answer in several parts


class Request(NamedTuple):
    """One message to the kernel."""

    verb: int
    flags: int
    body: bytes


class Message(NamedTuple):
    """One message of the kernel; ``body`` are its attributes, or what netlink itself has to say."""

    verb: int
    flags: int
    sequence: int
    portid: int
    family: int
    body: bytes


# --- requests -----------------------------------------------------------------------------------------


def message(request: Request, family: int = INET) -> bytes:
    """A single question."""
    return _message(request.verb, _REQUEST | request.flags, 0, family, 0, request.body)


def batch(requests: Sequence[Request]) -> bytes:
    """Changes that are made all or not at all; the last is confirmed."""
    parts = [_message(_BATCH_BEGIN, _REQUEST, 0, 0, _SUBSYSTEM, b"")]
    for index, request in enumerate(requests, 1):
        flags = _REQUEST | request.flags | (_ACK if index == len(requests) else 0)
        parts.append(_message(request.verb, flags, index, INET, 0, request.body))
    parts.append(_message(_BATCH_END, _REQUEST, len(requests) + 1, 0, _SUBSYSTEM, b""))
    return b"".join(parts)


def _message(verb: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    length = _HEADER.size + _GENERIC.size + len(body)
    return _HEADER.pack(length, verb, flags, sequence, 0) + _GENERIC.pack(family, 0, resource) + body


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nest(kind: int, payload: bytes) -> bytes:
    """One attribute that holds others."""
    return attribute(kind | 0x8000, payload)


def string(kind: int, content: str) -> bytes:
    """One attribute that is a name."""
    return attribute(kind, content.encode() + b"\0")


def number32(kind: int, value: int) -> bytes:
    """One attribute that is a number of 32 bits, in network order as all of nf_tables'."""
    return attribute(kind, struct.pack(">I", value))


# --- answers ------------------------------------------------------------------------------------------


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, verb, flags, sequence, portid = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return
        body = datagram[at + _HEADER.size : at + length]
        family = 0
        if verb >> 8 == _SUBSYSTEM:
            family, body = int.from_bytes(body[:1], "big"), body[_GENERIC.size :]
        yield Message(verb, flags, sequence, portid, family, body)
        at += length + -length % 4


def fields(content: bytes) -> dict[int, bytes]:
    """Attributes that are told apart by their kind."""
    return dict(_attributes(content))


def items(content: bytes) -> list[bytes]:
    """Attributes that are a list of things of one kind."""
    return [payload for _, payload in _attributes(content)]


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    at, end = 0, len(content)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        if length < 4 or at + length > end:
            return
        yield kind & 0x3FFF, content[at + 4 : at + length]
        at += length + -length % 4


def failure_of(answer: Message) -> tuple[int, str]:
    """(errno, what the kernel says beyond it); errno is 0 where the message tells of no failure."""
    if answer.verb not in (_ERROR, Verb.DONE) or len(answer.body) < 4:
        return 0, ""
    (error,) = struct.unpack_from("=i", answer.body)
    said: dict[int, bytes] = {}
    if answer.verb == _ERROR and answer.flags & _ACK_TLVS and len(answer.body) >= 4 + _HEADER.size:
        (length,) = struct.unpack_from("=I", answer.body, 4)  # of the request, which is given back
        behind = 4 + (_HEADER.size if answer.flags & _CAPPED else length + -length % 4)
        said = fields(answer.body[behind:])
    return -error, text(said.get(1))


def text(payload: bytes | None) -> str:
    """A text up to its zero byte, whatever its bytes; empty where there is none."""
    return (payload or b"").split(b"\0", 1)[0].decode(errors="replace")


def number(payload: bytes | None) -> int:
    """A number in network order; 0 where there is none."""
    return int.from_bytes(payload or b"", "big")
