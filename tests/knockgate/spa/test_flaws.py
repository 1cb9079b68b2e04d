"""Nothing but the packet itself opens: each bit, each length; and what cannot be sealed."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.messages import ALICE, OUTSIDE, REQUEST, SALT, refusal, request

from knockgate.errors import Reason
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Keyring, Message, MessageType, Mode, Secret, fields, seal, unseal

BARE = [Secret(b"testkeyone", mode=mode) for mode in Mode]
WITH_HMAC = [Secret(b"testkeyone", b"testhmackey", kind) for kind in Hash]
NAMES = [secret.hmac.value if secret.hmac_key else secret.mode.value for secret in WITH_HMAC + BARE]


def refused(payload: bytes, secret: Secret) -> Reason:
    reason = refusal(payload, secret)
    assert reason is not None
    assert list(Keyring([secret]).candidates(payload)) == ([] if reason in OUTSIDE else [0])
    return reason


@pytest.mark.parametrize("secret", WITH_HMAC + BARE, ids=NAMES)
def test_each_bit_counts(secret: Secret) -> None:
    right = seal(REQUEST, secret, salt=SALT)
    assert unseal(right, secret).message == REQUEST
    reasons = set()
    for at in range(len(right)):
        for bit in range(8):
            flipped = right[:at] + bytes([right[at] ^ 1 << bit]) + right[at + 1 :]
            reasons.add(refused(flipped, secret))
    expected = {Reason.NOT_BASE64, Reason.NOT_OURS}
    if secret.hmac_key is None:
        expected = {Reason.NOT_BASE64, Reason.NOT_SEALED, Reason.BAD_DIGEST}
    assert reasons == expected


@pytest.mark.parametrize("secret", WITH_HMAC + BARE, ids=NAMES)
def test_each_length_but_one_is_refused(secret: Secret) -> None:
    right = seal(REQUEST, secret, salt=SALT)
    for size in range(len(right)):
        refused(right[:size], secret)
        refused(right[size:] if size else b"", secret)
    for more in range(1, 1300):
        refused(right + b"A" * more, secret)
    for octets in (b"\n", b"\0", b"=", right, b" ", b"\r\n"):
        refused(right + octets, secret)
        refused(octets + right, secret)
    assert unseal(right, secret).message == REQUEST


def test_another_spelling_of_the_same_octets_is_refused() -> None:
    """Python's decoder takes both, as fwknop's does."""
    bare = Secret(b"testkeyone")
    right = seal(request(ports=REQUEST.ports * 4), bare, salt=SALT)
    loose = right[:-1] + bytes([right[-1] + 1])
    prefix, padding = b"U2FsdGVkX1", b"=" * (-(len(right) + 10) % 4)
    assert base64.b64decode(prefix + loose + padding) == base64.b64decode(prefix + right + padding)
    assert refused(loose, bare) is Reason.NOT_BASE64
    assert unseal(right, bare)


@pytest.mark.parametrize("other", [
    Secret(b"testkeyonf", b"testhmackey"),
    Secret(b"testkeyone", b"testhmackey", mode=Mode.CFB),
    Secret(b"testkeyone", b"testhmackez"),
    Secret(b"testkeyone", b"testhmackey", Hash.SHA3_256),
    Secret(b"testkeyone", b"testhmackey", Hash.SHA512),
    Secret(b"testkeyone"),
], ids=["key", "mode", "hmac key", "hash of that length", "hash of another length", "no hmac"])  # fmt: skip
def test_another_secret(other: Secret) -> None:
    refused(seal(REQUEST, ALICE, salt=SALT), other)
    assert unseal(seal(REQUEST, ALICE, salt=SALT), ALICE).message == REQUEST


@given(st.binary(max_size=1500))
def test_anything_is_refused(payload: bytes) -> None:
    for secret in (ALICE, *BARE):
        refused(payload, secret)


@pytest.mark.parametrize(
    ("hmac", "room"), [(None, 271), (Hash.SHA256, 255), (Hash.SHA512, 223)], ids=["bare", "sha256", "sha512"]
)
def test_what_is_too_long_for_fwknopd_is_not_sealed(hmac: Hash | None, room: int) -> None:
    """``room`` bytes of fields and hash: measured at the real libfko."""
    secret = Secret(b"testkeyone", b"testhmackey" if hmac else None, hmac or Hash.SHA256)
    sizes = set()
    for size in range(1, 150):
        for user in ("a", "ab"):
            message = request(type=MessageType.COMMAND, ports=(), command=b"x" * size, username=user)
            plain = len(fields.encode(message)) + 1 + 43
            sizes.add(plain)
            if plain <= room:
                assert len(seal(message, secret, salt=SALT)) < 400
            else:
                with pytest.raises(ValueError, match=r"too long for fwknopd: [45]\d\d characters, and 399"):
                    seal(message, secret, salt=SALT)
    assert {room, room + 1} & sizes, "the border was passed too far away"


def test_eleven_ports_can_be_asked_for_at_once() -> None:
    ports = tuple(Port(Protocol.TCP, 40000 + number) for number in range(12))
    address = bytes([198, 151, 100, 100])  # as long as an address can be
    assert seal(request(address=address, ports=ports[:11]), ALICE, salt=SALT)
    with pytest.raises(ValueError, match="too long"):
        seal(request(address=address, ports=ports), ALICE, salt=SALT)


def test_what_is_too_short_for_fwknopd_is_not_sealed() -> None:
    message = request(type=MessageType.COMMAND, ports=(), command=b"id", username="a", address=bytes([1] * 4))
    with pytest.raises(ValueError, match="too short for fwknopd: 118 characters, and 140 are needed"):
        seal(message, Secret(b"testkeyone"), salt=SALT, digest=Hash.MD5)
    assert len(seal(message, Secret(b"testkeyone", b"hmac", Hash.MD5), salt=SALT, digest=Hash.MD5)) == 140


def changed(**changes: object) -> Callable[[], Message]:
    return lambda: request(**changes)


def test_how_long_secrets_may_be() -> None:
    for key, hmac_key in ((b"k", b"h"), (b"k" * 32, b"h" * 136)):
        assert Secret(key, hmac_key).hmac_key == hmac_key


@pytest.mark.parametrize(("make", "text"), [
    (lambda: Secret(b""), "0 bytes; it must have 1 to 32"),
    (lambda: Secret(b"k" * 33), "33 bytes; it must have 1 to 32"),
    (lambda: Secret(b"k", b""), "0 bytes; it must have 1 to 136"),
    (lambda: Secret(b"k", b"h" * 137), "137 bytes; it must have 1 to 136"),
    (lambda: Secret(b"same", b"same"), "must differ"),
    (lambda: seal(REQUEST, ALICE, salt=b"short"), "salt must have 8 bytes"),
    (lambda: seal(REQUEST, ALICE, salt=b"saltsalts"), "salt must have 8 bytes"),
    (changed(nonce="123456789012345"), "16 digits"),
    (changed(nonce="\uff11234567890123456"), "16 digits"),
    (changed(username=""), "cannot be sent as a user name"),
    (changed(username="a" * 49), "cannot be sent as a user name"),
    (changed(username="a\n"), "cannot be sent as a user name"),
    (changed(username="Jürgen"), "cannot be sent as a user name"),
    (changed(issued=-1), "between 1970"),
    (changed(issued=10**12), "between 1970"),
    (changed(version="v3"), "version"),
    (changed(address=b"\1" * 5), "4 or 16 bytes"),
    (changed(address=bytes(16)), ":: is no address"),
    (changed(address=bytes(10) + b"\xff\xff" + bytes(4)), "is no address"),
    (changed(ports=()), "at least one port"),
    (changed(command=b"id"), "at least one port must be asked for, and no command"),
    (changed(ports=REQUEST.ports * 30), "room for 192"),
    (changed(type=MessageType.COMMAND), "a command must have"),
    (changed(type=MessageType.COMMAND, ports=(), command=b"a\0b"), "a command must have"),
    (changed(nat=("host", 1)), "NAT target stands"),
    (changed(type=MessageType.NAT_ACCESS), "NAT target stands"),
    (changed(type=MessageType.NAT_ACCESS, nat=("a,b", 1)), "cannot be sent as a NAT target"),
    (changed(type=MessageType.NAT_ACCESS, nat=("host", 65536)), "cannot be sent as a NAT target"),
    (changed(timeout=5), "a time stands"),
    (changed(type=MessageType.CLIENT_TIMEOUT_ACCESS), "a time stands"),
    (changed(type=MessageType.CLIENT_TIMEOUT_ACCESS, timeout=65537), "65537 seconds"),
    (changed(server_auth=b""), "1 to 48 bytes"),
])  # fmt: skip
def test_what_cannot_be_said(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_secret_is_not_shown() -> None:
    assert "testkeyone" not in repr(ALICE)
    assert "testhmackey" not in repr(ALICE)
    assert "sha256" in repr(ALICE)
