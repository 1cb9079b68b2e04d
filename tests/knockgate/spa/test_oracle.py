"""A second decoder says the same, of packets as they are and of changed ones."""

from __future__ import annotations

import dataclasses

from hypothesis import event, example, given
from hypothesis import strategies as st
from tests.knockgate.spa import oracle
from tests.knockgate.spa.messages import ALICE, REQUEST, SALT, messages, of_type, seal_fields, secrets

from knockgate.errors import Refused
from knockgate.model import address_text
from knockgate.spa.fwknop import Hash, Message, MessageType, Secret, fields, text64, unseal
from knockgate.spa.fwknop.sealing import seal_text


def ours(payload: bytes, secret: Secret) -> dict[str, object] | str:
    try:
        message = unseal(payload, secret).message
    except Refused as refused:
        return refused.reason.value
    fields_of = {each.name: getattr(message, each.name) for each in dataclasses.fields(message)}
    return fields_of | {"ports": [str(port) for port in message.ports]}


def theirs(payload: bytes, secret: Secret) -> dict[str, object] | str:
    try:
        return oracle.read(
            payload, oracle.Pair(secret.key, secret.hmac_key, secret.hmac.value, secret.mode.value)
        )
    except oracle.No as no:
        return str(no)


def same(payload: bytes, secret: Secret) -> None:
    said = ours(payload, secret)
    event(said if isinstance(said, str) else "taken")
    assert said == theirs(payload, secret)


def changed(draw: st.DrawFn, octets: bytes, alphabet: bytes) -> bytes:
    """A byte or a stretch of it is replaced, taken out, doubled or put in."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(octets)))
        end = min(len(octets), at + draw(st.sampled_from([0, 1, 1, 2, 7])))
        new = bytes(draw(st.lists(st.sampled_from(alphabet), max_size=3)))
        octets = octets[:at] + draw(st.sampled_from([new, new, octets[at:end] * 2])) + octets[end:]
    return octets


@st.composite
def on_the_wire(draw: st.DrawFn) -> tuple[bytes, Secret]:
    secret = draw(secrets)
    wire = seal_fields(fields.encode(draw(messages())), secret, draw(st.sampled_from(Hash)))
    return changed(draw, wire, text64.ALPHABET + b"=\n\0\xff"), secret


@st.composite
def within(draw: st.DrawFn) -> bytes:
    """What is sealed: changed as text, or in a field's value, by somebody who has the key."""
    parts = fields.encode(draw(st.one_of(messages(), st.sampled_from(MessageType).map(of_type)))).split(b":")
    for number in draw(st.sets(st.integers(0, len(parts) - 1), max_size=2)):
        value = parts[number]
        if number in {0, 2, 3, 4} or value.isdigit():
            value = changed(draw, value, b"0123456789 +-.x")
        else:
            value = text64.encode(changed(draw, text64.decode(value), b"0123456789abcdef.:,/tcpud%\0\xff "))
        parts[number] = value
    return (
        changed(draw, b":".join(parts), text64.ALPHABET + b":=:") if draw(st.booleans()) else b":".join(parts)
    )


@given(on_the_wire())
def test_of_what_comes(packet: tuple[bytes, Secret]) -> None:
    same(*packet)


@given(within(), st.sampled_from(Hash))
@example(fields.encode(REQUEST) + b":", Hash.SHA256)
@example(b"1234567890123456:", Hash.SHA256)
@example(b"1234567890123456", Hash.MD5)
def test_of_what_is_within(text: bytes, digest: Hash) -> None:
    same(seal_fields(text, ALICE, digest), ALICE)


@given(within())
def test_of_what_has_no_right_digest(text: bytes) -> None:
    same(seal_text(text + b":" + b"A" * 43, ALICE, salt=SALT), ALICE)
    same(seal_text(text, ALICE, salt=SALT), ALICE)


@given(st.binary(min_size=16, max_size=16))
@example(bytes(16))
@example(bytes(15) + b"\1")
@example(bytes(10) + b"\xff\xff\1\2\3\4")
@example(bytes.fromhex("20010db8000000010000000000000001"))
@example(bytes.fromhex("20010db8000100010001000100000001"))
@example(bytes.fromhex("00010000000000010000000000010001"))
def test_of_addresses(address: bytes) -> None:
    request = text64.encode(address_text(address).encode() + b",tcp/22")
    same(seal_fields(b"1234567890123456:YWxpY2U:1795332591:3.0.0:1:" + request), ALICE)


def test_it_can_say_both() -> None:
    """The control: the oracle takes what is right, and says no to what is not."""
    message: Message = REQUEST
    right = seal_fields(fields.encode(message))
    assert theirs(right, ALICE) == ours(right, ALICE) != "not-ours"
    assert theirs(right, Secret(b"testkeyone", b"another")) == "not-ours"
