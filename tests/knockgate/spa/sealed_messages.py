"""Keys, cards and messages for the tests of our packet."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

from hypothesis import strategies as st
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa import sealed_signers as signers

from knockgate.errors import Reason, Refused
from knockgate.spa.sealed import (
    CardKeys,
    GateKey,
    Head,
    KeyKind,
    Message,
    SourceKind,
    Suite,
    signed_bytes,
    unseal,
)

SEED, X25519_KEY, SECRET = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
KEY = GateKey(xwing_seed=SEED, x25519_key=X25519_KEY)
CARD = KEY.card(SECRET)
CARD_KEYS = CardKeys(SECRET)
THEIRS = oracle.Gate(SEED, X25519_KEY, SECRET)

HEAD = Head(
    kind=KeyKind.ED25519,
    source=SourceKind.V4,
    address=bytes([198, 51, 100, 7]),
    issued=1_795_332_591_000_000_000,
    device=bytes(range(1, 17)),
    doors=("ssh",),
    fingerprint=signers.fingerprint(signers.ED25519),
)


def head(**changes: Any) -> Head:  # noqa: ANN401 - whatever a Head has
    return dataclasses.replace(HEAD, **changes)


def signed(kind: KeyKind = KeyKind.ED25519, *, by: GateKey = KEY, **changes: Any) -> Message:  # noqa: ANN401
    """A message for a gate that is right in everything."""
    said = head(kind=kind, fingerprint=signers.fingerprint(kind), **changes)
    flags, counter = (5, 7) if kind.is_token else (0, 0)
    signature = signers.sign(kind, signed_bytes(by.gate, said), flags, counter)
    return Message(head=said, signature=signature, flags=flags, counter=counter)


MESSAGE = signed()


def is_signed(message: Message, gate: bytes) -> bool:
    """Whether the signature is for this gate."""
    said = signed_bytes(gate, message.head)
    return signers.is_good(message.head.kind, said, message.signature, message.flags, message.counter)


def refusal(datagram: bytes, card: CardKeys = CARD_KEYS, key: GateKey = KEY) -> Reason | None:
    """Why it does not open; None where it does."""
    try:
        unseal(datagram, card, key)
    except Refused as refused:
        return refused.reason
    return None


def decoded(octets: bytes) -> Message | Reason:
    """The message, or why it is none."""
    try:
        return Message.decode(octets)
    except Refused as refused:
        return refused.reason


def resealed(octets: bytes, suite: Suite = Suite.X25519) -> bytes:
    """A datagram with any 181 bytes in it, by somebody who has the card."""
    sealed = suite.hpke.encrypt(octets, CARD.recipient(suite), suite.info(KEY.gate))
    return CARD_KEYS.datagram(suite, sealed)


def shown(message: Message) -> dict[str, object]:
    """As the oracle and the vectors show it."""
    said = message.head
    address = str(ipaddress.ip_address(said.address)) if said.address else None
    return {
        "kind": said.kind.value,
        "source": said.source.value,
        "era": said.era,
        "lease": said.lease,
        "issued": said.issued,
        "device": said.device.hex(),
        "address": address,
        "doors": list(said.doors),
        "fingerprint": said.fingerprint.hex(),
        "signature": message.signature.hex(),
        "flags": message.flags,
        "counter": message.counter,
    }


_numbers = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
_names = st.builds(str.__add__, st.sampled_from("amz"), st.text("amz059-", max_size=9))
_doors = st.lists(_names, min_size=1, max_size=2).map(lambda names: tuple(sorted(set(names))))


@st.composite
def _sources(draw: st.DrawFn) -> tuple[SourceKind, bytes]:
    kind = draw(st.sampled_from(SourceKind))
    address = draw(st.binary(min_size=kind.size, max_size=kind.size))
    if kind is SourceKind.V4:
        return kind, bytes([1 + address[0] % 126]) + address[1:]
    if kind is SourceKind.V6_NETWORK:
        return kind, b"\x20" + address[1:8] + bytes(8)
    return kind, b"\x20" + address[1:] if address else b""


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """All that can be said; the signatures are nobody's."""
    source, address = draw(_sources())
    kind = draw(st.sampled_from(KeyKind))
    said = Head(
        kind=kind,
        source=source,
        address=address,
        era=draw(st.integers(0, 2**16 - 1)),
        lease=draw(st.integers(0, 2**32 - 1)),
        issued=draw(st.integers(1, 2**63 - 1)),
        device=draw(st.binary(min_size=16, max_size=16).filter(any)),
        doors=draw(_doors),
        fingerprint=draw(st.binary(min_size=32, max_size=32)),
    )
    signature = (
        draw(_numbers) + draw(_numbers) if kind.is_ecdsa else draw(st.binary(min_size=64, max_size=64))
    )
    flags, counter = (draw(st.integers(0, 255)), draw(st.integers(0, 2**32 - 1))) if kind.is_token else (0, 0)
    return Message(head=said, signature=signature, flags=flags, counter=counter)
