"""The nouns of the field as frozen values; nothing here acts, waits or knows where it came from.

Addresses are packed bytes in network order, 4 for IPv4 and 16 for IPv6: that is how they arrive and
how they are compared. 8 bytes are the first half of an IPv6 address, and stand for its /64: a lease can be
for one, a packet never comes from one. ``address_text`` gives the form for people and for nft.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "NETWORK_SIZE",
    "Claim",
    "Lease",
    "Moment",
    "Observation",
    "Pause",
    "Port",
    "Protocol",
    "Shadow",
    "Shadowed",
    "Source",
    "TcpFlag",
    "Token",
    "address_text",
    "source_of",
]

#: Who is to be let in, in network order: an address of 4 or 16 bytes, or the 8 bytes that all addresses of
#: an IPv6 /64 begin with.
Source = bytes

#: Bytes of a source that is a network.
NETWORK_SIZE = 8
_LENGTH, _REST = "/64", bytes(8)  # what stands behind such a network: as text, and in an address


class Protocol(enum.IntEnum):
    """IP protocol numbers that can knock (RFC 9293, RFC 768)."""

    TCP = 6
    UDP = 17


class TcpFlag(enum.IntFlag):
    """Bits of octet 13 of the TCP header (RFC 9293, section 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of one protocol, written ``tcp/7000``; ``number`` is 1 to 65535."""

    protocol: Protocol
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 65535:
            raise ValueError(f"port {self.number} is not between 1 and 65535")

    def __str__(self) -> str:
        return f"{self.protocol.name.lower()}/{self.number}"


class Lease(NamedTuple):
    """One port open for one source until an end that the kernel keeps."""

    port: Port
    source: Source
    left: float  #: seconds until it ends
    lasts: float  #: seconds it was given
    by: str  #: what opened it: ``kernel sequence``, ``daemon sequence``, ``packet`` or ``hand``


class Pause(NamedTuple):
    """One port that lets everybody in, until an end that the kernel keeps."""

    port: Port
    left: float  #: seconds until it ends
    lasts: float  #: seconds it was given


class Shadowed(NamedTuple):
    """What one source did at a port that is in shadow."""

    source: Source
    port: Port
    connections: int  #: begun; of UDP: datagrams of no session under way
    ago: float  #: seconds since the last one
    would_drop: bool  #: it would have been kept out; else it had a lease, or is always let in


class Shadow(NamedTuple):
    """What came to the ports that are in shadow, since the first of them was."""

    dropped: dict[Port, int]  #: connections that would have been kept out, all of them
    passed: dict[Port, int]  #: those that would have been let in
    sources: list[Shadowed]  #: whose they were, the last first; as many sources as there is room for


class Observation(NamedTuple):
    """One packet's headers, as far as the gate cares. All of it is claimed by the sender."""

    source: Source
    destination: bytes
    protocol: int  #: IP protocol number, TCP or UDP
    source_port: int
    port: int  #: destination port
    flags: int  #: TCP flags (octet 13); 0 for UDP
    payload: int  #: where the payload begins, in bytes from the network header

    @property
    def opens_connection(self) -> bool:
        """A TCP SYN without ACK, RST and FIN, or any UDP datagram (UDP does not say)."""
        return self.protocol == 17 or (self.flags & 0x17) == 0x02


class Moment(NamedTuple):
    """What time it is, as far as this machine knows."""

    now: float  #: seconds since 1970 (CLOCK_REALTIME)
    synchronised: bool  #: whether ``now`` can be relied on
    up: float  #: seconds since the boot, sleep included (CLOCK_BOOTTIME); it never steps
    boot: str  #: names the boot


class Token(NamedTuple):
    """What makes one packet that one: it is claimed once, and never again."""

    digest: bytes  #: 32 bytes
    issued: int  #: seconds since 1970, by the sender's clock
    key: str  #: the name of the key that made it
    source: Source  #: who is to be let in; for people


class Claim(enum.Enum):
    """What became of a claim."""

    CLAIMED = "claimed"
    REPLAYED = "replayed"  #: it was claimed before
    FORGOTTEN = "forgotten"  #: it is as old as those that are not remembered any more
    FULL = "full"  #: there is no room to remember it
    FAILED = "failed"  #: it could not be written down


def address_text(address: bytes) -> str:
    """The bytes 10, 0, 0, 1 -> ``10.0.0.1``; 8 bytes -> ``2001:db8:1:2::/64``.

    4, 8 or 16 bytes, else ValueError.
    """
    if len(address) == NETWORK_SIZE:
        return f"{ipaddress.IPv6Address(address + _REST)}{_LENGTH}"
    return str(ipaddress.ip_address(address))


def source_of(text: str) -> Source:
    """What ``address_text`` has made that text of; ValueError for any other text."""
    if text.endswith(_LENGTH):
        source = ipaddress.IPv6Address(text.removesuffix(_LENGTH)).packed[:NETWORK_SIZE]
    else:
        source = ipaddress.ip_address(text).packed
    if address_text(source) != text:
        raise ValueError(f"{text!r} is not how {address_text(source)} is written")
    return source
