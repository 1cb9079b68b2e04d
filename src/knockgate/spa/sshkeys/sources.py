"""``from="..."`` of authorized_keys: a list of patterns, and whether it lets an address in.

As sshd's ``match_host_and_ip`` with ``UseDNS no``: an entry is a network where it can be read as one, else a
text with ``*`` and ``?`` that is held against the address's text. One entry with ``!`` that fits denies; else
one without must fit. An entry that is wrong, or empty, makes sshd deny everybody; here it is said at once.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from knockgate.model import address_text

__all__ = ["Sources"]

_LONGEST = 1022  # characters of an entry that match_pattern_list has room for
_STAR, _ONE = b"*?"
_LENGTH = re.compile(
    rb"[ \t\n\v\f\r]*[+-]?[0-9]+"
)  # strtonum(3), as newer ones read it; older ones want digits
_PART = re.compile(rb"(0[xX])([0-9a-fA-F]+)|(0)([0-7]*)|([1-9][0-9]*)")


class _Entry(NamedTuple):
    negated: bool
    text: bytes  # in small letters; empty where it is a network
    network: bytes  # 4 or 16 octets; empty where it is a text, or a network that only one interface knows
    bits: int

    def fits(self, address: bytes, text: bytes) -> bool:
        if self.text:
            return _like(text, self.text)
        return _alike(self.network, address, self.bits)

    def fits_each(self, network: bytes, bits: int) -> bool:
        """Every address of the network, for certain."""
        if self.text:
            return not self.text.strip(b"*")
        return self.bits <= bits and _alike(self.network, network, self.bits)

    def fits_any(self, network: bytes, bits: int) -> bool:
        """Some address of the network, perhaps."""
        return bool(self.text) or _alike(self.network, network, min(self.bits, bits))


@dataclass(frozen=True, slots=True)
class Sources:
    """The patterns. ValueError with a text for people where sshd would deny everybody because of one."""

    text: bytes  #: as in the file, without quotation marks
    _entries: tuple[_Entry, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_entries", tuple(_entry(word) for word in self.text.split(b",")))

    def admit(self, address: bytes) -> bool:
        """Whether the address (4 or 16 octets, none that is IPv4's within IPv6) is let in."""
        text = _spelled(address)
        fitting = [entry.negated for entry in self._entries if entry.fits(address, text)]
        return bool(fitting) and not any(fitting)

    def admit_all(self, network: bytes, bits: int) -> bool:
        """Whether all addresses that begin with the first ``bits`` of ``network`` are let in.

        Texts are not held against so many: one without ``!`` counts if it is ``*``, one with it always.
        """
        if any(entry.negated and entry.fits_any(network, bits) for entry in self._entries):
            return False
        return any(not entry.negated and entry.fits_each(network, bits) for entry in self._entries)


def _entry(word: bytes) -> _Entry:
    negated = word.startswith(b"!")
    text = word.removeprefix(b"!")
    if not text:
        raise ValueError("an entry is empty")
    if len(text) > _LONGEST:
        raise ValueError(f"an entry has more than {_LONGEST} characters")
    network = _network(text)
    if network is None:
        return _Entry(negated, text.lower(), b"", 0)
    return _Entry(negated, b"", *network)


def _network(text: bytes) -> tuple[bytes, int] | None:
    """Address and length; None where sshd reads a text; ValueError where it is a network that is wrong."""
    if len(text) > 63:
        return None
    head, slash, length = text.partition(b"/")
    address = _address(head)
    if address is None or (slash and not _LENGTH.fullmatch(length)):
        return None
    width = len(address) * 8
    bits = int(length) if length.isdigit() else width
    if bits > width or (slash and not length.isdigit()):
        raise ValueError("a network's length is wrong")
    if int.from_bytes(address) & ((1 << (width - bits)) - 1):
        raise ValueError("a network has bits behind its length")
    return (b"" if b"%" in head else address), bits


def _address(text: bytes) -> bytes | None:
    """As getaddrinfo(3) reads numbers: for IPv4 that is inet_aton(3), where 10.1 is 10.0.0.1."""
    if b":" not in text:
        return _ipv4(text)
    try:
        return ipaddress.IPv6Address(text.decode("ascii").partition("%")[0]).packed
    except ValueError:
        return None


def _ipv4(text: bytes) -> bytes | None:
    """Up to four parts, each decimal, octal or hexadecimal; the last one fills what is left."""
    parts = [_PART.fullmatch(part) for part in text.split(b".")]
    numbers = [_number(part) for part in parts if part]
    if len(numbers) != len(parts) or len(parts) > 4:
        return None
    *first, last = numbers
    rest = 4 - len(first)
    if any(number > 255 for number in first) or last >= 256**rest:
        return None
    return bytes(first) + last.to_bytes(rest)


def _number(part: re.Match[bytes]) -> int:
    if part[1]:
        return int(part[2], 16)
    if part[3]:
        return int(part[4] or b"0", 8)
    return int(part[5])


def _spelled(address: bytes) -> bytes:
    """As getnameinfo(3) spells it: in IPv6 it takes what has six zero words in front for IPv4's."""
    if len(address) == 16 and not any(address[:12]) and any(address[12:14]):
        return b"::" + address_text(address[12:]).encode()
    return address_text(address).encode()


def _alike(one: bytes, other: bytes, bits: int) -> bool:
    """Whether both are of one family and begin with the same bits."""
    if len(one) != len(other):
        return False
    return not (int.from_bytes(one) ^ int.from_bytes(other)) >> (len(one) * 8 - bits)


def _like(text: bytes, pattern: bytes) -> bool:
    """``*`` for any characters, ``?`` for one. It never goes back further than to the last ``*``."""
    at = begin = kept = 0
    star = -1
    while at < len(text):
        if begin < len(pattern) and pattern[begin] == _STAR:
            star, kept, begin = begin, at, begin + 1
        elif begin < len(pattern) and pattern[begin] in (text[at], _ONE):
            at, begin = at + 1, begin + 1
        elif star >= 0:
            kept += 1
            at, begin = kept, star + 1
        else:
            return False
    return not pattern[begin:].strip(b"*")
