"""Our packet: the derivations, there and back again, cards, and what cannot be said."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sealed_messages import (
    CARD,
    CARD_KEYS,
    HEAD,
    KEY,
    MESSAGE,
    SECRET,
    SEED,
    THEIRS,
    X25519_KEY,
    head,
    is_signed,
    messages,
    refusal,
    signed,
)

from knockgate.errors import Reason
from knockgate.spa.sealed import (
    Card,
    CardKeys,
    GateKey,
    KeyKind,
    Message,
    SourceKind,
    Suite,
    device_id,
    device_row,
    gate_fingerprint,
    seal,
    signed_bytes,
    unseal,
)


def test_the_known_derivation() -> None:
    """The design's own vector, and the oracle's tag and mask keys, which ours do not show."""
    assert KEY.gate.hex() == "d7610068556ec4b0efc5d1b76f4482d36c588e0174760be657b37aef6da912bf"
    assert KEY.gate == CARD.gate == THEIRS.gate
    assert THEIRS.tag_key.hex() == "62a4b08cb1dd391fec1471b59e924d5cc272490d32c4b86ec3f99978ae2dcbc2"
    assert THEIRS.mask_key.hex() == "0e24ba10c4d5e1bdb76a3cd491798a254c5e6c417316b9087c71f38ff0cc68fe"
    assert len(Suite.XWING.info(KEY.gate)) == 55


def test_the_lengths_are_those_of_the_specification() -> None:
    assert {suite: (suite.value, suite.length) for suite in Suite} == {
        Suite.XWING: (0x647A, 1333),
        Suite.X25519: (0x0020, 245),
    }
    assert [len(seal(MESSAGE, CARD, suite)) for suite in Suite] == [1333, 245]
    assert len(seal(MESSAGE, CARD)) == 1333
    assert (len(HEAD.encode()), len(MESSAGE.encode()), len(signed_bytes(KEY.gate, HEAD))) == (112, 181, 144)


@given(messages(), st.sampled_from(Suite))
def test_there_and_back_again(message: Message, suite: Suite) -> None:
    datagram = seal(message, CARD, suite)
    assert len(datagram) == suite.length
    assert CARD_KEYS.is_of(datagram)
    opened = unseal(datagram, CARD_KEYS, KEY)
    assert opened == message
    assert opened.encode() == message.encode()


@pytest.mark.parametrize("kind", KeyKind)
@pytest.mark.parametrize("suite", Suite)
def test_each_kind_of_key_in_each_suite(kind: KeyKind, suite: Suite) -> None:
    message = signed(kind)
    opened = unseal(seal(message, CARD, suite), CARD_KEYS, KEY)
    assert opened == message
    assert is_signed(opened, KEY.gate)


def test_the_same_message_is_another_datagram_each_time() -> None:
    assert len({seal(MESSAGE, CARD, suite) for suite in Suite for _ in range(5)}) == 10


def test_a_suite_may_be_switched_off() -> None:
    small = seal(MESSAGE, CARD, Suite.X25519)
    assert unseal(small, CARD_KEYS, KEY, {Suite.X25519}) == MESSAGE
    with pytest.raises(Exception, match="not-ours"):
        unseal(small, CARD_KEYS, KEY, {Suite.XWING})


def test_a_gate_has_several_cards() -> None:
    """One of them revoked, the others still knock."""
    other = KEY.card(b"o" * 32)
    assert other.gate == CARD.gate
    datagram = seal(MESSAGE, other)
    assert unseal(datagram, CardKeys(other.secret), KEY) == MESSAGE
    assert refusal(datagram) is Reason.NOT_OURS


# --- cards --------------------------------------------------------------------------------------------


def test_a_gate_has_a_name_for_people() -> None:
    assert CARD.fingerprint == gate_fingerprint(KEY.gate) == "d761-0068-556e-c4b0-efc5-d1b7-6f44-82d3"
    assert KEY.card(bytes(32)).fingerprint == CARD.fingerprint  # one gate, another card
    other = GateKey(xwing_seed=bytes(32), x25519_key=bytes(31) + b"\x01")
    assert gate_fingerprint(other.gate) != CARD.fingerprint


def test_a_card_is_a_line_of_text() -> None:
    text = CARD.text()
    assert text.startswith("knockgate-card-v1 ")
    assert len(text) == 1726
    assert Card.parse(text) == Card.parse(f"  {text}\r\n") == CARD
    octets = base64.b64decode(text.split()[1])
    assert (len(octets), octets[1216:1248], octets[1248:]) == (1280, CARD.x25519, SECRET)


OCTETS = base64.b64decode(CARD.text().split()[1])


def line(octets: bytes) -> str:
    return "knockgate-card-v1 " + base64.b64encode(octets).decode()


@pytest.mark.parametrize(("text", "said"), [
    ("", "no card"),
    (CARD.text().replace("v1", "v2"), "of version 2, and this knockgate knows version 1 alone"),
    (CARD.text().replace("v1", "v10"), "of version 10, "),
    (CARD.text().replace("v1", "vx"), "no card"),
    (CARD.text()[:1000], "cut off after 1,000 of 1,726 characters"),
    (CARD.text().split()[1], "no card"),
    (CARD.text().replace("v1 ", "v1  "), "damaged"),
    (CARD.text().replace("=", ""), "damaged: it is cut off after 1,725 of"),
    (CARD.text()[:-2] + "9=", "damaged"),  # spare bits
    (CARD.text()[:99] + "-" + CARD.text()[100:], "damaged"),
    (CARD.text()[:99] + "\n" + CARD.text()[99:], "damaged"),
    (CARD.text() + "é", "damaged"),
    (CARD.text() + " a comment", "damaged"),
    (line(OCTETS[:-1]), "1279 bytes"),
    (line(OCTETS + b"x"), "1281 bytes"),
    (line(b"\xff" * 3 + OCTETS[3:]), "ML-KEM-768 key is none"),
    (line(OCTETS[:1184] + bytes(32) + OCTETS[1216:]), "small order"),
    (line(OCTETS[:1216] + b"\1" + bytes(31) + OCTETS[1248:]), "small order"),
    (line(OCTETS[:1216] + b"\xec" + b"\xff" * 30 + b"\x7f" + OCTETS[1248:]), "small order"),
])  # fmt: skip
def test_what_is_no_card(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        Card.parse(text)
    assert not text or text[20:40] not in str(error.value)
    assert Card.parse(line(OCTETS)) == CARD


@given(st.text() | st.text().map("knockgate-card-v1 ".__add__))
def test_anything_is_refused_as_a_card(text: str) -> None:
    with pytest.raises(ValueError, match="card"):
        Card.parse(text)


def test_secrets_are_not_shown() -> None:
    for shown in (repr(CARD), repr(CARD_KEYS), repr(KEY)):
        assert not any(str(secret)[2:-1] in shown for secret in (SECRET, SEED, X25519_KEY, CARD.x25519))
        assert SECRET.hex() not in shown


# --- devices ------------------------------------------------------------------------------------------


def test_a_device_is_one_at_one_gate() -> None:
    machine = b"0123456789abcdef0123456789abcdef"
    mine = device_id(SECRET, KEY.gate, machine)
    expected = hashlib.blake2s(KEY.gate + machine, key=SECRET, person=b"kg1-dev", digest_size=16)
    assert mine == device_id(SECRET, KEY.gate, machine) == expected.digest()
    assert len({mine, device_id(SEED, KEY.gate, machine), device_id(SECRET, b"g" * 32, machine)}) == 3
    assert mine != device_id(SECRET, KEY.gate, b"")
    row = device_row(SEED, mine)
    assert row == hashlib.blake2s(mine, key=SEED, person=b"kg1-row", digest_size=16).digest()
    assert row != device_row(SECRET, mine)


# --- what cannot be said ------------------------------------------------------------------------------


#: Of P-256.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
TOKENS, ECDSAS = head(kind=KeyKind.SK_ED25519), head(kind=KeyKind.ECDSA_P256)


def numbers(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def changed(**changes: object) -> Callable[[], object]:
    return lambda: head(**changes)


@pytest.mark.parametrize(("make", "text"), [
    (changed(era=-1), "era"),
    (changed(era=65536), "era"),
    (changed(era=1 << 20), "era"),
    (changed(lease=1 << 32), "lease"),
    (changed(lease=1 << 40), "lease"),
    (changed(lease=-1), "lease"),
    (changed(issued=0), "1970"),
    (changed(issued=-1), "1970"),
    (changed(issued=1 << 63), "2262"),
    (changed(issued=1 << 70), "2262"),
    (changed(device=bytes(16)), "zero"),
    (changed(device=b"d" * 15), "16 bytes"),
    (changed(device=b"d" * 17), "16 bytes"),
    (changed(fingerprint=b"f" * 31), "32 bytes"),
    (changed(fingerprint=b"f" * 33), "32 bytes"),
    (changed(address=b""), "0 bytes; it must have 4"),
    (changed(source=SourceKind.OBSERVED), "4 bytes; it must have 0"),
    (changed(source=SourceKind.V6_NETWORK, address=b"\x20" * 16), "no /64"),
    (changed(address=bytes([127, 0, 0, 1])), "127.0.0.1 is no address"),
    (changed(doors=()), "cannot be asked for"),
    (changed(doors=("",)), "cannot be asked for"),
    (changed(doors=("ssh,web",)), "cannot be asked for"),
    (changed(doors=("SSH",)), "cannot be asked for"),
    (changed(doors=("ssh\n",)), "cannot be asked for"),
    (changed(doors=("a" * 33,)), "32 characters"),
    (changed(doors=("web", "ssh")), "sorted"),
    (changed(doors=("ssh", "ssh")), "sorted"),
    (lambda: Message(head=HEAD, signature=b"s" * 63), "63 bytes"),
    (lambda: Message(head=HEAD, signature=b"s" * 65), "65 bytes"),
    (lambda: Message(head=HEAD, signature=b"s" * 64, flags=1), "only a token"),
    (lambda: Message(head=HEAD, signature=b"s" * 64, counter=1), "only a token"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, flags=256), "8 bits"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, counter=1 << 32), "32"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, flags=1 << 20), "8 bits"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, flags=-1), "8 bits"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, counter=-1), "32"),
    (lambda: Message(head=TOKENS, signature=b"s" * 64, counter=1 << 40), "32"),
    (lambda: Message(head=ECDSAS, signature=bytes(64)), "range"),
    (lambda: Message(head=ECDSAS, signature=numbers(ORDER, 1)), "range"),
    (lambda: Message(head=ECDSAS, signature=numbers(1, ORDER)), "range"),
    (lambda: Message(head=ECDSAS, signature=numbers(1, ORDER + 1)), "range"),
    (lambda: Message(head=ECDSAS, signature=numbers(1, 0)), "range"),
    (lambda: GateKey(xwing_seed=b"s" * 31, x25519_key=SEED), "two seeds"),
    (lambda: GateKey(xwing_seed=SEED, x25519_key=b"s" * 33), "two seeds"),
    (lambda: CardKeys(b""), "0 bytes; it must have 32"),
    (lambda: KEY.card(b"s" * 31), "length"),
    (lambda: device_id(b"", KEY.gate, b""), "0 bytes; it must have 32"),
    (lambda: device_row(b"s" * 16, bytes(16)), "16 bytes; it must have 32"),
    (lambda: device_row(b"s" * 33, bytes(16)), "33 bytes; it must have 32"),
    (lambda: CardKeys(b"s" * 33), "33 bytes; it must have 32"),
])  # fmt: skip
def test_what_cannot_be_said(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("message", [
    Message(head=head(era=0, lease=0, issued=1), signature=bytes(64)),
    Message(head=head(era=65535, lease=(1 << 32) - 1, issued=(1 << 63) - 1), signature=b"\xff" * 64),
    Message(head=head(device=bytes(15) + b"\1", fingerprint=bytes(32)), signature=bytes(64)),
    Message(head=head(doors=("a" * 32,)), signature=bytes(64)),
    Message(head=head(doors=("a", "a-0", "b")), signature=bytes(64)),
    Message(head=TOKENS, signature=bytes(64), flags=255, counter=(1 << 32) - 1),
    Message(head=ECDSAS, signature=numbers(1, ORDER - 1)),
    Message(head=ECDSAS, signature=numbers(ORDER - 1, 1)),
])  # fmt: skip
def test_the_first_and_the_last_that_can_be_said(message: Message) -> None:
    assert Message.decode(message.encode()) == message
