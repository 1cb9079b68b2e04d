"""Nothing but the datagram itself opens: each bit, each length, each gate; whoever changes it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa.sealed_messages import (
    CARD,
    CARD_KEYS,
    KEY,
    MESSAGE,
    SECRET,
    SEED,
    THEIRS,
    X25519_KEY,
    decoded,
    is_signed,
    refusal,
    resealed,
    signed,
)

from knockgate.errors import Reason, Refused
from knockgate.spa.sealed import CardKeys, GateKey, KeyKind, Message, Suite, opened, seal, unseal

RIGHT = {suite: seal(MESSAGE, CARD, suite) for suite in Suite}
OTHER = GateKey(xwing_seed=b"x" * 32, x25519_key=b"y" * 32)


def flipped(octets: bytes, bit: int) -> bytes:
    at = bit // 8
    return octets[:at] + bytes([octets[at] ^ 1 << bit % 8]) + octets[at + 1 :]


@pytest.mark.parametrize("suite", Suite)
def test_each_bit_counts(suite: Suite) -> None:
    right = RIGHT[suite]
    assert refusal(right) is None
    assert {refusal(flipped(right, bit)) for bit in range(8 * len(right))} == {Reason.NOT_OURS}


@pytest.mark.parametrize("suite", Suite)
def test_each_bit_counts_for_somebody_with_the_card_too(suite: Suite) -> None:
    """A new tag does not help: X25519's ignored bit and what ML-KEM rejects in silence count as well."""
    enc, message = RIGHT[suite][16 : 16 + suite.encapsulation], RIGHT[suite][16 + suite.encapsulation :]
    sealed = CARD_KEYS.masked(enc, message) + message
    assert refusal(CARD_KEYS.datagram(suite, sealed)) is None
    bits = range(0, 8 * len(sealed), 1 if suite is Suite.X25519 else 7)
    for bit in (*bits, 8 * suite.encapsulation - 1):
        assert refusal(CARD_KEYS.datagram(suite, flipped(sealed, bit))) is Reason.NOT_SEALED


@pytest.mark.parametrize("kind", KeyKind)
def test_each_bit_of_the_message_counts(kind: KeyKind) -> None:
    """For somebody who can seal but not sign: it is malformed, or the signature is not for it."""
    message = signed(kind)
    octets = message.encode()
    assert is_signed(Message.decode(octets), KEY.gate)
    ends: set[Reason | None] = set()
    for bit in range(8 * len(octets)):
        changed = decoded(flipped(octets, bit))
        if isinstance(changed, Reason):
            ends.add(changed)
            continue
        assert changed.encode() == flipped(octets, bit)
        # Of the bits that say which kind of key it is the gate asks whether they are the found key's.
        assert bit < 8 or not is_signed(changed, KEY.gate)
        ends.add(None)
    assert ends == {Reason.MALFORMED, None}


@pytest.mark.parametrize("suite", Suite)
def test_each_length_but_one_is_refused(suite: Suite) -> None:
    right = RIGHT[suite]
    for size in range(len(right)):
        assert refusal(right[:size]) is Reason.NOT_OURS
        assert refusal(right[len(right) - size :]) is Reason.NOT_OURS
    for more in range(1, 1200):
        assert refusal(right + bytes(more)) is Reason.NOT_OURS
        assert refusal(bytes(more) + right) is Reason.NOT_OURS
    assert refusal(right) is None


@pytest.mark.parametrize("size", [0, 15, 16, 17, 244, 246, 1332, 1334, 65507])
def test_a_right_tag_on_another_length_is_refused(size: int) -> None:
    rest = bytes(max(0, size - 16))
    datagram = (oracle.tag(THEIRS, rest) + rest)[:size]
    assert CARD_KEYS.is_of(datagram) == (size >= 16)
    assert refusal(datagram) is Reason.NOT_OURS
    with pytest.raises(Refused, match="not-ours"):
        opened(datagram, CARD_KEYS, KEY)


@pytest.mark.parametrize("size", [*range(181), 182, 197, 362])
def test_a_message_of_another_length_is_malformed(size: int) -> None:
    octets = MESSAGE.encode() * 2
    assert Message.decode(octets[:181]) == MESSAGE
    with pytest.raises(Refused, match="malformed"):
        Message.decode(octets[:size])


@pytest.mark.parametrize("suite", Suite)
def test_a_short_message_makes_another_length(suite: Suite) -> None:
    for size in (0, 180, 182):
        assert refusal(resealed(bytes(size), suite)) is Reason.NOT_OURS


@given(st.binary(max_size=1400))
def test_anything_is_refused(datagram: bytes) -> None:
    assert refusal(datagram) is Reason.NOT_OURS


@given(st.binary(min_size=181, max_size=181))
def test_only_refused_leaves_it(octets: bytes) -> None:
    message = decoded(octets)
    assert message is Reason.MALFORMED or (isinstance(message, Message) and message.encode() == octets)


# --- gates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
def test_another_gate_refuses_it(suite: Suite) -> None:
    datagram = RIGHT[suite]
    assert refusal(datagram, CardKeys(b"o" * 32), OTHER) is Reason.NOT_OURS
    # Even if its card has the same secret, or it has one of the two keys.
    for key in (
        OTHER,
        GateKey(xwing_seed=SEED, x25519_key=b"y" * 32),
        GateKey(xwing_seed=b"x" * 32, x25519_key=X25519_KEY),
    ):
        assert refusal(datagram, CARD_KEYS, key) is Reason.NOT_SEALED
    assert refusal(datagram) is None


@pytest.mark.parametrize("kind", KeyKind)
def test_a_gate_cannot_pass_a_knock_on(kind: KeyKind) -> None:
    """Whoever may open one can seal it anew for another gate, but not sign it for that one."""
    message = unseal(seal(signed(kind), CARD), CARD_KEYS, KEY)
    passed_on = seal(message, OTHER.card(b"o" * 32))
    taken = unseal(passed_on, CardKeys(b"o" * 32), OTHER)
    assert taken == message
    assert is_signed(taken, KEY.gate)
    assert not is_signed(taken, OTHER.gate)
    assert is_signed(signed(kind, by=OTHER), OTHER.gate)


@pytest.mark.parametrize("suite", Suite)
def test_it_is_sealed_to_the_suite(suite: Suite) -> None:
    """The same key and encapsulation with the other suite's info do not open."""
    other = Suite.X25519 if suite is Suite.XWING else Suite.XWING
    for info in (other.info(KEY.gate), suite.info(OTHER.gate), suite.info(KEY.gate)[:-1], b"", None):
        sealed = suite.hpke.encrypt(MESSAGE.encode(), CARD.recipient(suite), info)
        assert refusal(CARD_KEYS.datagram(suite, sealed)) is Reason.NOT_SEALED
    sealed = suite.hpke.encrypt(MESSAGE.encode(), CARD.recipient(suite), suite.info(KEY.gate))
    assert refusal(CARD_KEYS.datagram(suite, sealed)) is None


# --- tags ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
def test_a_captured_knock_gives_nobody_another_tag(suite: Suite) -> None:
    """A tag over the first bytes alone would be good for any datagram that begins with them."""
    right = RIGHT[suite]
    assert CARD_KEYS.is_of(right)
    for same in (16, 32, 48, 200, len(right) - 1):
        for _ in range(20):
            datagram = right[:same] + os.urandom(len(right) - same)
            assert datagram == right or not CARD_KEYS.is_of(datagram)


def test_a_tag_is_of_one_card() -> None:
    others = [CardKeys(bytes([number]) * 32) for number in range(50)]
    for right in RIGHT.values():
        assert not any(each.is_of(right) for each in others)
        assert CardKeys(SECRET).is_of(right)
