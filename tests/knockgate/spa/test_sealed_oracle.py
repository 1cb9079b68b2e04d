"""A second reader says the same, of packets as they are and of changed ones; and it is right about HPKE."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import event, example, given
from hypothesis import strategies as st
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa.sealed_messages import (
    CARD,
    CARD_KEYS,
    KEY,
    MESSAGE,
    THEIRS,
    messages,
    resealed,
    shown,
)

from knockgate.errors import Refused
from knockgate.spa.sealed import Message, Suite, seal, unseal

RIGHT = {suite: seal(MESSAGE, CARD, suite) for suite in Suite}
ENCAPSULATED = X25519PrivateKey.from_private_bytes(b"e" * 32).public_key().public_bytes_raw()


def ours(datagram: bytes) -> dict[str, object] | str:
    try:
        return shown(unseal(datagram, CARD_KEYS, KEY))
    except Refused as refused:
        return refused.reason.value


def theirs(datagram: bytes) -> dict[str, object] | str:
    try:
        return oracle.read(datagram, THEIRS)
    except oracle.No as no:
        return str(no)


def same(datagram: bytes) -> dict[str, object] | str:
    said = ours(datagram)
    assert said == theirs(datagram)
    return said


@given(messages(), st.sampled_from(Suite))
def test_it_reads_what_we_seal(message: Message, suite: Suite) -> None:
    assert theirs(seal(message, CARD, suite)) == shown(message)


@given(messages())
def test_we_read_what_it_writes(message: Message) -> None:
    assert ours(oracle.write(THEIRS, oracle.X25519, ENCAPSULATED, message.encode())) == shown(message)


@st.composite
def within(draw: st.DrawFn) -> bytes:
    """A message in which up to three bytes are others, most of them where the rules are."""
    octets = bytearray(draw(messages()).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.sampled_from([0, 0, 1, 1, 8, 16, *range(32, 80), 112, 144, *range(176, 181)]))
        octets[at] = draw(
            st.sampled_from(b"\0\1\2\3\4\5\6\7\x7f\x80\xa9\xe0\xef\xfe\xff,-az09AZ_.") | st.integers(0, 255)
        )
    if draw(st.booleans()):
        at, size = draw(st.sampled_from([(8, 8), (16, 16), (32, 16), (48, 32), (112, 32), (144, 32)]))
        octets[at : at + size] = draw(st.sampled_from([b"\0", b"\xff", b"a"])) * size
    return bytes(octets)


@given(within())
@example(bytes(181))
@example(b"\xff" * 181)
def test_of_what_is_within(octets: bytes) -> None:
    assert len(octets) == 181
    said = same(resealed(octets))
    event(said if isinstance(said, str) else "taken")


@given(st.sampled_from(Suite), st.integers(0, 1400), st.integers(0, 255), st.integers(-2, 2))
def test_of_what_comes(suite: Suite, at: int, octet: int, more: int) -> None:
    datagram = bytearray(RIGHT[suite])
    datagram[at % len(datagram)] = octet
    changed = bytes(datagram) + b"x" * more if more >= 0 else bytes(datagram[:more])
    assert same(changed) == ("not-ours" if changed != RIGHT[suite] else shown(MESSAGE))


@given(st.sampled_from(Suite), st.integers(0, 1400), st.integers(1, 255))
def test_of_what_a_card_holder_changed(suite: Suite, at: int, change: int) -> None:
    rest = bytearray(RIGHT[suite][16:])
    rest[at % len(rest)] ^= change
    assert same(oracle.tag(THEIRS, bytes(rest)) + bytes(rest)) == "not-sealed"


ADDRESSES = [
    "0.0.0.0", "0.0.0.1", "10.0.0.1", "126.255.255.255", "127.0.0.0", "127.0.0.1",
    "127.255.255.255", "128.0.0.0", "169.253.255.255", "169.254.0.0", "169.254.255.255",
    "169.255.0.0", "223.255.255.255", "224.0.0.0", "239.255.255.255", "240.0.0.0",
    "255.255.255.254", "255.255.255.255", "::", "::1", "::2", "::1:0:0:0:1", "::fffe:ffff:ffff",
    "::ffff:0:0", "::ffff:10.0.0.1", "::ffff:255.255.255.255", "::1:0:0:0", "2001:db8::1",
    "fe7f:ffff::", "fe80::", "fe80::1", "febf:ffff::", "fec0::", "feff::", "ff00::", "ff02::1",
    "ffff::",
]  # fmt: skip


@pytest.mark.parametrize("source", [0, 4, 6, 7])
def test_of_addresses(source: int) -> None:
    """Each of them in each of the four ways, and with a byte behind it."""
    octets = MESSAGE.encode()
    taken = 0
    for text in ADDRESSES:
        address = ipaddress.ip_address(text).packed.ljust(16, b"\0")
        for place in (address, address[:15] + b"\1", address[:4] + b"\1" + address[5:]):
            said = same(resealed(octets[:1] + bytes([source]) + octets[2:32] + place + octets[48:]))
            taken += said != "malformed"
    assert taken or source == 0


# --- what the oracle stands on ------------------------------------------------------------------------


def test_its_hpke_is_that_of_the_rfc() -> None:
    """RFC 9180, appendix A.2.1: X25519, HKDF-SHA256, ChaCha20-Poly1305, mode base."""
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    )
    enc = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    public = private.public_key().public_bytes_raw()
    assert public.hex() == "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
    secret = oracle.dhkem(private.exchange(X25519PublicKey.from_public_bytes(enc)), enc, public)
    assert secret.hex() == "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7"
    key, nonce = oracle.key_schedule(oracle.X25519, secret, b"Ode on a Grecian Urn")
    assert key.hex() == "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"
    assert nonce.hex() == "5c4d98150661b848853b547f"
    sealed = ChaCha20Poly1305(key).encrypt(nonce, b"Beauty is truth, truth beauty", b"Count-0")
    assert sealed.hex() == (
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )


def test_its_xwing_is_that_of_the_draft() -> None:
    """draft-connolly-cfrg-xwing-kem, the first of its vectors."""
    known = json.loads((Path(__file__).parent / "xwing.json").read_text())
    gate = oracle.Gate(bytes.fromhex(known["sk"]), bytes(32), bytes(32))
    assert hashlib.sha256(gate.public[0]).hexdigest() == known["sha256 of pk"]
    assert oracle.shared(gate, oracle.XWING, bytes.fromhex(known["ct"])).hex() == known["ss"]


def test_the_order_of_p256_is_that_of_the_curve() -> None:
    """One number below it is a private key, and it itself is none."""
    assert ec.derive_private_key(oracle.P256 - 1, ec.SECP256R1()).key_size == 256
    with pytest.raises(ValueError, match=r"."):
        ec.derive_private_key(oracle.P256, ec.SECP256R1())


def test_it_writes_a_card_as_we_do() -> None:
    assert THEIRS.card() == CARD.text()
