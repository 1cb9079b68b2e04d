"""Whose packet is it, and what can one look like?"""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.messages import (
    ALICE,
    OUTSIDE,
    REQUEST,
    SALT,
    messages,
    refusal,
    request,
    seal_fields,
    secrets,
)

from knockgate.errors import Reason
from knockgate.spa.fwknop import Hash, Keyring, Message, Secret, Shape, fields, seal, text64

OTHERS = [Secret(b"testkeyone", b"hmac key %d" % number) for number in range(5)]


def has(shape: Shape, payload: bytes) -> bool:
    return len(payload) == shape.length and all(payload[at] in values for at, values in shape.octets)


def test_the_key_that_made_it_is_found() -> None:
    ring = Keyring([*OTHERS, ALICE])
    assert list(ring.candidates(seal(REQUEST, ALICE, salt=SALT))) == [5]
    for number, secret in enumerate(OTHERS):
        assert list(ring.candidates(seal(REQUEST, secret, salt=SALT))) == [number]
    assert list(Keyring(OTHERS).candidates(seal(REQUEST, ALICE, salt=SALT))) == []


def test_all_that_share_an_hmac_key_are_found() -> None:
    ring = Keyring([ALICE, OTHERS[0], Secret(b"another", ALICE.hmac_key)])
    assert list(ring.candidates(seal(REQUEST, ALICE, salt=SALT))) == [0, 2]


def test_keys_without_hmac_come_last_and_only_where_the_shape_fits() -> None:
    """MD5's HMAC has 22 characters, as some blocks have: with it or without, the length can be the same."""
    bare, weak = Secret(b"bare"), Secret(b"weak", b"hmac key", Hash.MD5)
    ring = Keyring([bare, ALICE, weak, bare])
    assert list(ring.candidates(seal(REQUEST, ALICE, salt=SALT))) == [1]
    assert list(ring.candidates(seal(REQUEST, bare, salt=SALT))) == [0, 3]
    several = [request(username="a" * size) for size in range(1, 49)]
    found = [tuple(ring.candidates(seal(message, weak, salt=SALT))) for message in several]
    assert set(found) == {(2,), (2, 0, 3)}


def test_hashes_with_hmacs_of_one_length_are_told_apart() -> None:
    two = [Secret(b"key", b"hmac key", Hash.SHA256), Secret(b"key", b"hmac key", Hash.SHA3_256)]
    for number, secret in enumerate(two):
        assert list(Keyring(two).candidates(seal(REQUEST, secret, salt=SALT))) == [number]


def test_without_keys_there_is_nothing_to_be_seen() -> None:
    ring = Keyring([])
    assert ring.shapes == ()
    assert ring.candidates(seal(REQUEST, ALICE, salt=SALT)) == []


@given(messages(), secrets, st.sampled_from(Hash))
def test_each_packet_has_one_of_the_shapes(message: Message, secret: Secret, digest: Hash) -> None:
    payload = seal_fields(fields.encode(message), secret, digest)
    shapes = Keyring([secret]).shapes
    assert any(has(shape, payload) for shape in shapes) == (len(payload) >= 140)


@given(st.data())
def test_no_character_of_a_shape_is_too_narrow_or_too_wide(data: st.DataObject) -> None:
    """What has another value there is refused from outside, and what has all the right ones is not."""
    secret = data.draw(secrets)
    shape = data.draw(st.sampled_from(Keyring([secret]).shapes))
    octets = bytearray(random.Random(data.draw(st.integers())).choices(text64.ALPHABET, k=shape.length))
    for at, values in shape.octets:
        octets[at] = data.draw(st.sampled_from(values))
    assert refusal(bytes(octets), secret) in {Reason.NOT_OURS, Reason.NOT_SEALED}
    at, values = data.draw(st.sampled_from(shape.octets))
    octets[at] = data.draw(st.sampled_from([each for each in text64.ALPHABET if each not in values]))
    assert refusal(bytes(octets), secret) is Reason.NOT_BASE64


@given(st.lists(secrets, max_size=5), messages(), st.integers(0, 4), st.binary(max_size=3))
def test_the_ring_and_its_secrets_agree(
    several: list[Secret], message: Message, number: int, more: bytes
) -> None:
    payload = seal_fields(fields.encode(message), several[number % len(several)] if several else ALICE) + more
    expected = [each for each, secret in enumerate(several) if refusal(payload, secret) not in OUTSIDE]
    assert sorted(Keyring(several).candidates(payload)) == expected


def test_shapes_are_few_and_each_is_there_once() -> None:
    everybody = [Secret(b"key", b"hmac key", kind) for kind in Hash]
    shapes = Keyring([*everybody, *everybody, Secret(b"key")]).shapes
    assert len(set(shapes)) == len(shapes) < 300
    assert min(shape.length for shape in shapes) == 140
    assert max(shape.length for shape in shapes) < 1500
    assert all(shape.octets[0] == (0, b"89+/") for shape in shapes)
    alone = Keyring([ALICE]).shapes
    assert len({shape.length for shape in alone}) == len(alone)
