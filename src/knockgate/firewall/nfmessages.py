"""What nf_tables is asked, and what it answers (linux/netfilter/nf_tables.h).

Numbers of attributes stand here and nowhere else, but for those of expressions (``redirects``). What
others may have put into the kernel, names and comments, is taken as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from knockgate.firewall.netlink import (
    Message,
    Request,
    Verb,
    attribute,
    fields,
    items,
    nest,
    number,
    number32,
    string,
    text,
)
from knockgate.model import Port, Protocol, Source

__all__ = [
    "OWNER",
    "PERSIST",
    "Chain",
    "Element",
    "Rule",
    "Table",
    "add_elements",
    "add_table",
    "bounds_of",
    "chain_of",
    "chains",
    "delete_elements",
    "delete_table",
    "elements",
    "elements_of",
    "get_element",
    "get_table",
    "key_of",
    "lease_of",
    "port_key",
    "port_of",
    "process_of",
    "rule_of",
    "rules",
    "table_of",
]

#: Flags of a table: only the socket that owns it may change it; it outlives that socket (Linux 6.9).
OWNER, PERSIST = 2, 4

_DUMP, _CREATE = 0x300, 0x400
#: Elements a message: the length of an attribute has 16 bits, and each element takes up to 250 bytes.
_CHUNK = 250
#: Longest comment of an element, with the zero byte that ends it (what nft shows of it at most).
_COMMENT = 128


class Table(NamedTuple):
    """What is known of a table: its flags, and the port id of the socket that owns it, else 0."""

    name: str
    flags: int
    owner: int


class Chain(NamedTuple):
    """A chain, and the number of the hook it hangs on, if it does."""

    family: int
    table: str
    name: str
    hook: int | None


class Rule(NamedTuple):
    """A rule; ``expressions`` are attributes, one for each."""

    family: int
    table: str
    chain: str
    expressions: bytes


class Element(NamedTuple):
    """An element of a set; times in milliseconds, None where it has no end."""

    key: bytes
    timeout: int | None
    left: int | None
    comment: str
    packets: int = 0  #: what its counter says, if it has one


# --- keys ---------------------------------------------------------------------------------------------


def key_of(port: Port, source: Source) -> bytes:
    """The key ``source . protocol . port``: each field in network order, padded to 4 bytes.

    A network is the address that begins with it and goes on with zeros.
    """
    return source.ljust(_field(len(source)), b"\0") + port_key(port)


def port_key(port: Port) -> bytes:
    """The key ``protocol . port``."""
    return struct.pack(">B3xH2x", port.protocol, port.number)


def port_of(key: bytes) -> Port | None:
    """What ``port_key`` was given; None for a key that is not made so."""
    if len(key) != 8:
        return None
    protocol, number = struct.unpack(">B3xH2x", key)
    try:
        return Port(Protocol(protocol), number)
    except ValueError:
        return None


def lease_of(key: bytes, length: int) -> tuple[Port, Source] | None:
    """What ``key_of`` was given, for a source of ``length`` bytes.

    None for a key that is not made so, such as one of another protocol: somebody else has put it there.
    """
    if len(key) != _field(length) + 8 or any(key[length:-8]):
        return None
    port = port_of(key[-8:])
    return (port, key[:length]) if port else None


def _field(length: int) -> int:
    """Bytes of the key's first field, for a source of ``length`` bytes."""
    return 4 if length == 4 else 16


# --- requests -----------------------------------------------------------------------------------------


def add_table(table: str, flags: int) -> Request:
    """Make the table, or give it these flags; the kernel refuses flags that cannot be given later."""
    return Request(Verb.NEW_TABLE, _CREATE, string(1, table) + number32(2, flags))


def delete_table(table: str) -> Request:
    """Take the table away with all that is in it."""
    return Request(Verb.DELETE_TABLE, 0, string(1, table))


def get_table(table: str) -> Request:
    """Answered with one message for ``table_of``, or ENOENT."""
    return Request(Verb.GET_TABLE, 0, string(1, table))


def chains() -> Request:
    """Answered with messages for ``chain_of``: the chains of all tables of the family; 0 is all families."""
    return Request(Verb.GET_CHAIN, _DUMP, b"")


def rules() -> Request:
    """Answered with messages for ``rule_of``: the rules of all tables of the family; 0 is all families."""
    return Request(Verb.GET_RULE, _DUMP, b"")


def elements(table: str, name: str) -> Request:
    """Answered with messages for ``elements_of``: all that is in a set."""
    return Request(Verb.GET_ELEMENT, _DUMP, string(1, table) + string(2, name))


def get_element(table: str, name: str, key: bytes) -> Request:
    """Answered with one message for ``elements_of``, or ENOENT."""
    return _of_elements(Verb.GET_ELEMENT, 0, table, name, [_key(key)])


def add_elements(
    table: str, name: str, keys: Iterable[bytes], milliseconds: int, comment: str
) -> list[Request]:
    """Add elements that end ``milliseconds`` from now. One that is there already is not renewed by it."""
    times = attribute(4, struct.pack(">Q", milliseconds))
    if comment:
        content = comment.encode()[: _COMMENT - 1] + b"\0"
        times += attribute(6, bytes([0, len(content)]) + content)  # kind 0 is a comment, for nft
    return _chunks(Verb.NEW_ELEMENT, _CREATE, table, name, [_key(key) + times for key in keys])


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> list[Request]:
    """Delete elements; ENOENT where one is not there."""
    return _chunks(Verb.DELETE_ELEMENT, 0, table, name, [_key(key) for key in keys])


def _chunks(verb: int, flags: int, table: str, name: str, each: list[bytes]) -> list[Request]:
    starts = range(0, len(each), _CHUNK)
    return [_of_elements(verb, flags, table, name, each[start : start + _CHUNK]) for start in starts]


def _of_elements(verb: int, flags: int, table: str, name: str, each: Iterable[bytes]) -> Request:
    listed = b"".join(nest(1, element) for element in each)
    return Request(verb, flags, string(1, table) + string(2, name) + nest(3, listed))


def _key(key: bytes) -> bytes:
    return nest(1, attribute(1, key))


# --- answers ------------------------------------------------------------------------------------------


def table_of(answer: Message) -> Table:
    """The table that a message is about."""
    found = fields(answer.body)
    return Table(text(found.get(1)), number(found.get(2)), number(found.get(7)))


def chain_of(answer: Message) -> Chain:
    """The chain that a message is about."""
    found = fields(answer.body)
    hook = fields(found.get(4, b"")).get(1)
    table, name = text(found.get(1)), text(found.get(3))
    return Chain(answer.family, table, name, None if hook is None else number(hook))


def rule_of(answer: Message) -> Rule:
    """The rule that a message is about."""
    found = fields(answer.body)
    return Rule(answer.family, text(found.get(1)), text(found.get(2)), found.get(4, b""))


def bounds_of(answer: Message) -> Iterator[tuple[bytes, bool]]:
    """(key, whether it ends the range that the key below it began) of each element."""
    for element in items(fields(answer.body).get(3, b"")):
        found = fields(element)
        yield fields(found.get(1, b"")).get(1, b""), bool(number(found.get(3)) & 1)


def elements_of(answer: Message) -> Iterator[Element]:
    """The elements that a message is about."""
    for element in items(fields(answer.body).get(3, b"")):
        found = fields(element)
        key = fields(found.get(1, b"")).get(1, b"")
        timeout = number(found[4]) if 4 in found else None
        left = number(found[5]) if 5 in found else timeout
        yield Element(key, timeout, left, _comment(found.get(6, b"")), _packets(found.get(7, b"")))


def _packets(expression: bytes) -> int:
    """Of the expression ``counter``, which is (name, (bytes, packets))."""
    return number(fields(fields(expression).get(2, b"")).get(2))


def process_of(answer: Message) -> str:
    """Who made the transaction whose end a message tells, such as ``nft, process 4711``."""
    found = fields(answer.body)
    return f"{text(found.get(3))}, process {number(found.get(2))}"


def _comment(userdata: bytes) -> str:
    """Userdata is (kind, length, content) again and again, each of the first two one byte; 0: comment."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == 0:
            return text(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""
