"""A sealed knock as a datagram: head, signature, message, seal. Nothing is sent here, and nothing kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from knockgate.client.device import Ticket
from knockgate.errors import ConfigError
from knockgate.spa.sealed import Card, Head, KeyKind, Message, SourceKind, Suite, seal, signed_bytes
from knockgate.spa.sealed.dates import Date
from knockgate.spa.sshkeys import PublicKey, Signature

__all__ = ["check", "make", "source_kind"]

_NOBODY = Ticket(b"\1" * 16, Date(0, 1), is_new=False)


def source_kind(address: bytes | None, *, network: bool = False) -> SourceKind:
    """How an address of 4 or 16 bytes is said; None: whoever sends the datagram; ``network``: its /64.

    ValueError for a network of IPv4, which the packet cannot say.
    """
    if address is None:
        return SourceKind.OBSERVED
    if len(address) == 4:
        if network:
            raise ValueError("a packet can ask for an IPv6 network of 64 bits, and for none of IPv4")
        return SourceKind.V4
    return SourceKind.V6_NETWORK if network else SourceKind.V6


def check(doors: Sequence[str], source: SourceKind, address: bytes = b"", lease: int = 0) -> None:
    """ConfigError for what no packet can ask for; to be called before a date is spent on it."""
    _head(KeyKind.ED25519, doors, source, address, lease, _NOBODY, bytes(32))


def make(
    card: Card,
    key: PublicKey,
    sign: Callable[[bytes], Signature],
    *,
    doors: Sequence[str],
    source: SourceKind,
    address: bytes = b"",
    lease: int = 0,
    ticket: Ticket,
    suite: Suite = Suite.XWING,
) -> bytes:
    """The datagram, 1,333 bytes or 245: ``key`` asks the card's gate to open ``doors`` for ``address``.

    ``sign`` is given 144 bytes and answers with ``key``'s signature of them, as ``Candidate.sign`` does; what
    it raises passes through. ``address`` has the bytes of its ``source``: of a /64 all 16, and what is behind
    the first 8 does not matter. ``lease`` in seconds; 0: as long as the door says. ``ticket`` is for this
    gate. ConfigError as in ``check``.
    """
    head = _head(KeyKind(key.kind), doors, source, address, lease, ticket, key.fingerprint)
    signature = sign(signed_bytes(card.gate, head))
    message = Message(head=head, signature=signature.octets, flags=signature.flags, counter=signature.counter)
    return seal(message, card, suite)


def _head(
    kind: KeyKind,
    doors: Sequence[str],
    source: SourceKind,
    address: bytes,
    lease: int,
    ticket: Ticket,
    fingerprint: bytes,
) -> Head:
    if source is SourceKind.V6_NETWORK and len(address) == 16:
        address = address[:8] + bytes(8)
    try:
        return Head(
            kind=kind,
            source=source,
            address=address,
            era=ticket.date.era,
            lease=lease,
            issued=ticket.date.issued,
            device=ticket.device,
            doors=tuple(sorted(set(doors))),
            fingerprint=fingerprint,
        )
    except ValueError as error:
        raise ConfigError(str(error), hint="the packet has no way to say it") from None
