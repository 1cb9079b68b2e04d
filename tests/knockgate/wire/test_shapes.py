"""The shapes of fwknop's packet in the filter: what is heard has one of them, and nothing that has is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packets import UDP, ipv4, ipv6, udp

from knockgate.spa.fwknop import Hash, Keyring, Secret
from knockgate.wire.bpf import ACCEPT, Ancillary, datagrams, evaluate

PORT = 62201
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SECRETS = [Secret(b"k" * 32, b"h" * 64, each) for each in Hash]
RINGS = {
    "sha256": Keyring([Secret(b"k" * 32, b"h" * 64)]).shapes,
    "sha384": Keyring([Secret(b"k" * 32, b"h" * 64, Hash.SHA384)]).shapes,
    "no hmac": Keyring([Secret(b"k" * 32)]).shapes,
    "all": Keyring([*SECRETS, Secret(b"k")]).shapes,
}
PROGRAMS = {name: datagrams(PORT, shapes, loopback=False) for name, shapes in RINGS.items()}


def is_heard(name: str, payload: bytes) -> bool:
    heard = {
        evaluate(PROGRAMS[name], packet, Ancillary(protocol))
        for protocol, packet in (
            (0x0800, ipv4(udp(PORT, payload=payload), UDP)),
            (0x0800, ipv4(udp(PORT, payload=payload), UDP, options=b"\1" * 40)),
            (0x86DD, ipv6(udp(PORT, payload=payload), UDP)),
        )
    }
    assert len(heard) == 1  # however long the headers are
    return heard == {ACCEPT}


def has_a_shape(name: str, payload: bytes) -> bool:
    return any(
        shape.length == len(payload) and all(payload[at] in values for at, values in shape.octets)
        for shape in RINGS[name]
    )


@pytest.mark.parametrize("name", RINGS)
def test_hears_every_shape_and_not_its_neighbours(name: str) -> None:
    """Each shape with its octets is heard; with any of them off it is heard only if another has that."""
    chance, refused = random.Random(1), 0
    for shape in RINGS[name]:
        payload = bytearray(chance.choices(ALPHABET, k=shape.length))
        for at, values in shape.octets:
            payload[at] = chance.choice(values)
        assert is_heard(name, bytes(payload))
        for at, values in shape.octets:
            other = bytearray(payload)
            other[at] = chance.choice([octet for octet in range(256) if octet not in values])
            expected = has_a_shape(name, bytes(other))
            assert is_heard(name, bytes(other)) is expected
            refused += not expected
    assert refused > len(RINGS[name])


@given(st.sampled_from(list(RINGS)), st.integers(139, 1037), st.integers(0, 1 << 32))
def test_what_is_heard_has_a_shape(name: str, length: int, seed: int) -> None:
    chance = random.Random(seed)
    payload = bytearray(chance.choices(ALPHABET[::4], k=length))
    payload[0] = chance.choice(b"89+/A")
    assert is_heard(name, bytes(payload)) is has_a_shape(name, bytes(payload))


def test_little_of_random_junk_is_heard() -> None:
    chance = random.Random(2)
    shape = next(each for each in RINGS["sha256"] if each.length == 204)
    assert [len(values) for _, values in shape.octets] == [4, 16, 16]
    heard = sum(is_heard("sha256", chance.randbytes(204)) for _ in range(4000))
    assert heard <= 5  # 4/256 * 16/256 * 16/256 of them are to be expected: 0.2


def test_stays_small() -> None:
    for program in PROGRAMS.values():
        assert len(program) < 700  # of 4,096
        assert all(jump < 256 for _, jt, jf, _ in program for jump in (jt, jf))
