"""Messages and secrets for the tests of fwknop's packet."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from knockgate.errors import Reason, Refused
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Message, MessageType, Mode, Secret, text64, unseal
from knockgate.spa.fwknop.sealing import seal_text
from knockgate.spa.fwknop.secret import hashed

SALT = bytes(range(1, 9))
SSH = Port(Protocol.TCP, 22)
#: fwknop.md's vector A.
ALICE = Secret(b"testkeyone", b"testhmackey")
REQUEST = Message(
    nonce="1234567890123456",
    username="alice",
    issued=1795332591,
    type=MessageType.ACCESS,
    address=bytes([10, 0, 0, 5]),
    ports=(SSH,),
)


def request(**changes: Any) -> Message:  # noqa: ANN401 - whatever a Message has
    return dataclasses.replace(REQUEST, **changes)


def of_type(kind: MessageType) -> Message:
    """The request in each of the types, with all that it needs and no more."""
    command = kind is MessageType.COMMAND
    return request(
        type=kind,
        ports=() if command else (SSH,),
        command=b"uptime" if command else b"",
        nat=("10.0.0.9", 22) if kind.has_nat else None,
        timeout=60 if kind.has_timeout else None,
    )


def seal_fields(text: bytes, secret: Secret = ALICE, digest: Hash = Hash.SHA256) -> bytes:
    """A payload for any fields at all, with the right hash at the end."""
    return seal_text(text + b":" + text64.encode(hashed(text, digest)), secret, salt=SALT)


def refusal(payload: bytes, secret: Secret) -> Reason | None:
    """Why it does not open; None where it does."""
    try:
        unseal(payload, secret)
    except Refused as refused:
        return refused.reason
    return None


#: Steps that a packet for a key of ours does not fail.
OUTSIDE = {Reason.BAD_LENGTH, Reason.NOT_BASE64, Reason.NOT_OURS}

secrets = st.builds(
    Secret,
    key=st.binary(min_size=1, max_size=32),
    hmac_key=st.none()
    | st.binary(min_size=33, max_size=136)
    | st.binary(min_size=1, max_size=32).map(b"h".__add__),
    hmac=st.sampled_from(Hash),
    mode=st.sampled_from(Mode),
)
_ports = st.builds(Port, st.sampled_from(Protocol), st.integers(1, 65535))
_addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=15, max_size=15).map(b"\x20".__add__)
_usernames = st.text("abzAZ09 !#$%&'()-.@^_`{}~", min_size=1, max_size=48)
_nats = st.tuples(st.from_regex(r"\A[0-9A-Za-z._-]{1,60}\Z"), st.integers(1, 65535))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """All that can be said, in all types."""
    kind = draw(st.sampled_from(MessageType))
    command = kind is MessageType.COMMAND
    return Message(
        nonce=draw(st.text("0123456789", min_size=16, max_size=16)),
        username=draw(_usernames),
        issued=draw(st.integers(0, 10**12 - 1)),
        type=kind,
        address=draw(_addresses),
        ports=() if command else tuple(draw(st.lists(_ports, min_size=1, max_size=9))),
        command=draw(st.binary(min_size=1, max_size=150)).replace(b"\0", b"0") if command else b"",
        nat=draw(_nats) if kind.has_nat else None,
        server_auth=draw(st.none() | st.binary(min_size=1, max_size=48)),
        timeout=draw(st.integers(0, 65536)) if kind.has_timeout else None,
        version=draw(st.sampled_from(["3.0.0", "2.0.1", "1.9.12", "3"])),
    )
