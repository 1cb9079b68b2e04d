"""What a knock says: 181 bytes, whoever knocks and whatever for, so that the length tells nothing.

The rules are ``Head``'s and ``Message``'s, for what is sent and for what has come: there is one place that
knows them. Every message has one spelling.
"""

from __future__ import annotations

import enum
import itertools
import re
import struct
from dataclasses import dataclass

from knockgate.errors import Reason, Refused
from knockgate.model import address_text

__all__ = ["HEAD", "LENGTH", "Head", "KeyKind", "Message", "SourceKind", "signed_bytes"]

HEAD = 112  #: bytes that are signed
LENGTH = 181

_HEAD = struct.Struct("!BBHIQ16s16s32s32s")
_SIGNED = struct.Struct("!64sBI")
_DOORS = re.compile(rb"[a-z][a-z0-9-]*(,[a-z][a-z0-9-]*)*")
_ROOM = 32  # for their names
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256; SP 800-186, 3.2.1.3


class KeyKind(enum.IntEnum):
    """Which SSH key has signed."""

    ED25519 = 1
    ECDSA_P256 = 2
    SK_ED25519 = 3
    SK_ECDSA_P256 = 4

    @property
    def is_token(self) -> bool:
        """Whether it lives in a token, which adds flags and a counter to what it signs."""
        return self in (3, 4)

    @property
    def is_ecdsa(self) -> bool:
        """Whether its signature is two numbers."""
        return self in (2, 4)


class SourceKind(enum.IntEnum):
    """Who is to be let in."""

    OBSERVED = 0  #: whoever the datagram comes from
    V4 = 4
    V6 = 6  #: one address
    V6_NETWORK = 7  #: its /64

    @property
    def size(self) -> int:
        """Bytes of the address."""
        return _SIZES[self]


_SIZES = {SourceKind.OBSERVED: 0, SourceKind.V4: 4, SourceKind.V6: 16, SourceKind.V6_NETWORK: 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is signed. ValueError with a text for people where a packet has no way to say it."""

    kind: KeyKind
    source: SourceKind
    address: bytes = b""  #: as many bytes as the source has; of a /64 the last 8 are zero
    era: int = 0  #: of the client's clock; 16 bits
    lease: int = 0  #: seconds; 32 bits; 0: as long as the door says
    issued: int  #: nanoseconds since 1970 by the client's clock
    device: bytes  #: 16 bytes
    doors: tuple[str, ...]  #: sorted
    fingerprint: bytes  #: 32 bytes: SHA-256 of the public key as SSH encodes it

    def __post_init__(self) -> None:
        if not 0 <= self.era < 1 << 16:
            raise ValueError(f"era {self.era} is not between 0 and 65535")
        if not 0 <= self.lease < 1 << 32:
            raise ValueError(f"a lease of {self.lease} seconds cannot be asked for")
        if not 0 < self.issued < 1 << 63:
            raise ValueError("the time must be between 1970 and the year 2262")
        if len(self.device) != 16 or not any(self.device):
            raise ValueError("a device has 16 bytes, not all of them zero")
        if len(self.fingerprint) != 32:
            raise ValueError("a key's SHA-256 has 32 bytes")
        _check_address(self.source, self.address)
        _check_doors(self.doors)

    def encode(self) -> bytes:
        """112 bytes."""
        # The address and the doors are filled up with zeros.
        return _HEAD.pack(
            self.kind,
            self.source,
            self.era,
            self.lease,
            self.issued,
            self.device,
            self.address,
            ",".join(self.doors).encode(),
            self.fingerprint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A head and what an SSH key says to it. ValueError like ``Head``."""

    head: Head
    signature: bytes  #: 64 bytes: Ed25519's, or r and s of ECDSA
    flags: int = 0  #: of a token: 1 touched, 4 verified; 8 bits
    counter: int = 0  #: of a token; 32 bits

    def __post_init__(self) -> None:
        kind = self.head.kind
        if len(self.signature) != 64:
            raise ValueError(f"the signature has {len(self.signature)} bytes; it must have 64")
        halves = (int.from_bytes(half) for half in (self.signature[:32], self.signature[32:]))
        if kind.is_ecdsa and not all(0 < half < _ORDER for half in halves):
            raise ValueError("the signature's numbers are out of the curve's range")
        if not (0 <= self.flags < 1 << 8 and 0 <= self.counter < 1 << 32):
            raise ValueError("a token's flags have 8 bits, its counter has 32")
        if not kind.is_token and (self.flags or self.counter):
            raise ValueError("only a token has flags and a counter")

    def encode(self) -> bytes:
        """181 bytes."""
        return self.head.encode() + _SIGNED.pack(self.signature, self.flags, self.counter)

    @classmethod
    def decode(cls, octets: bytes) -> Message:
        """What ``encode`` made into the octets; raises Refused."""
        try:
            return _decode(octets)
        except ValueError:
            raise Refused(Reason.MALFORMED) from None


def signed_bytes(gate: bytes, head: Head) -> bytes:
    """What the SSH key signs, as SSHSIG's message in the namespace ``knockgate-spa-v1``: 144 bytes.

    ``gate`` is the gate's id, so that a gate which has opened a knock cannot pass it on to another one.
    """
    return gate + head.encode()


def _decode(octets: bytes) -> Message:
    if len(octets) != LENGTH:
        raise ValueError("another length")
    kind, asked, era, lease, issued, device, place, doors, fingerprint = _HEAD.unpack_from(octets)
    signature, flags, counter = _SIGNED.unpack_from(octets, HEAD)
    source = SourceKind(asked)
    if any(place[source.size :]):
        raise ValueError("something stands where nothing is")
    head = Head(
        kind=KeyKind(kind),
        source=source,
        address=place[: source.size],
        era=era,
        lease=lease,
        issued=issued,
        device=device,
        # Zeros within, and whatever is not ASCII, are letters of no name.
        doors=tuple(doors.rstrip(b"\0").decode("ascii").split(",")),
        fingerprint=fingerprint,
    )
    return Message(head=head, signature=signature, flags=flags, counter=counter)


def _check_doors(doors: tuple[str, ...]) -> None:
    text = ",".join(doors).encode()
    if not _DOORS.fullmatch(text) or len(text) > _ROOM or text.count(b",") != len(doors) - 1:
        raise ValueError(
            f"{','.join(doors)!r} cannot be asked for: a door's name begins with a letter from a to z and "
            f"has only such letters, digits and -; there are {_ROOM} characters for the names and the commas"
        )
    if any(one >= other for one, other in itertools.pairwise(doors)):
        raise ValueError("doors must be sorted, each of them once")


def _check_address(source: SourceKind, address: bytes) -> None:
    """It must be one that a host can have, on more than one link or machine."""
    if len(address) != source.size:
        raise ValueError(f"the address has {len(address)} bytes; it must have {source.size}")
    if source is SourceKind.V6_NETWORK and any(address[8:]):
        raise ValueError(f"{address_text(address)} is no /64: something stands behind it")
    no_host = (len(address) == 4 and _is_no_host4(address)) or (len(address) == 16 and _is_no_host6(address))
    if no_host:
        raise ValueError(f"{address_text(address)} is no address to let in")


def _is_no_host4(address: bytes) -> bool:
    """Unspecified, loopback (127/8), link-local (169.254/16), multicast (224/4), broadcast."""
    return (
        address in {bytes(4), b"\xff" * 4}
        or address[0] == 127
        or address[:2] == b"\xa9\xfe"
        or address[0] & 0xF0 == 0xE0
    )


def _is_no_host6(address: bytes) -> bool:
    """Unspecified, loopback, IPv4 as IPv6 (::ffff:0:0/96), link-local (fe80::/10), multicast (ff00::/8)."""
    return (
        address in {bytes(16), bytes(15) + b"\1"}
        or address[:12] == bytes(10) + b"\xff\xff"
        or int.from_bytes(address[:2]) & 0xFFC0 == 0xFE80
        or address[0] == 0xFF
    )
