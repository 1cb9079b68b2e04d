"""Public keys: those that ssh-keygen makes, those that cannot knock, and those that nobody should trust."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import keygen, made, signer, text

from knockgate.spa.sshkeys import BadKey, Flaw, Kind, PublicKey, Signature, verify
from knockgate.spa.sshkeys.encoding import string
from knockgate.spa.sshkeys.keys import _jacobi

P = 2**255 - 19


def flaw(blob: bytes) -> Flaw:
    with pytest.raises(BadKey) as caught:
        PublicKey.of_blob(blob)
    return caught.value.flaw


def edwards(point: bytes) -> bytes:
    return string(b"ssh-ed25519") + string(point)


def p256(point: bytes, curve: bytes = b"nistp256") -> bytes:
    return string(b"ecdsa-sha2-nistp256") + string(curve) + string(point)


@pytest.mark.parametrize(
    "arguments", [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]], ids=lambda each: each[1]
)
def test_those_of_ssh_keygen(arguments: list[str], tmp_path: Path) -> None:
    file = made(tmp_path, *arguments)
    name, encoded, _ = file.with_suffix(".pub").read_bytes().split()
    key = PublicKey.of_text(name, encoded)
    assert key.blob == base64.b64decode(encoded)
    assert key.kind.ssh.encode() == name
    shown = base64.b64encode(key.fingerprint).decode().rstrip("=")
    assert f"SHA256:{shown} " in keygen("-l", "-f", file)


@pytest.mark.parametrize("kind", Kind)
def test_those_of_tokens_are_what_ssh_keygen_reads(kind: Kind, tmp_path: Path) -> None:
    key = signer(kind).public
    (tmp_path / "key.pub").write_bytes(text(key) + b"\n")
    shown = base64.b64encode(key.fingerprint).decode().rstrip("=")
    assert f"SHA256:{shown} " in keygen("-l", "-f", tmp_path / "key.pub")
    assert PublicKey.of_blob(key.blob) == key


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-t", "rsa", "-b", "2048"], Flaw.RSA),
        (["-t", "ecdsa", "-b", "384"], Flaw.OTHER_KIND),
        (["-t", "ecdsa", "-b", "521"], Flaw.OTHER_KIND),
    ],
)
def test_kinds_that_cannot_knock(arguments: list[str], reason: Flaw, tmp_path: Path) -> None:
    name, encoded, _ = made(tmp_path, *arguments).with_suffix(".pub").read_bytes().split()
    with pytest.raises(BadKey) as caught:
        PublicKey.of_text(name, encoded)
    assert caught.value.flaw is reason
    assert "ssh-keygen -t ed25519" in (caught.value.hint or "")
    assert flaw(base64.b64decode(encoded)) is reason


def test_a_certificate_cannot_knock(tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    keygen("-q", "-s", file, "-I", "x", "-n", "x", file.with_suffix(".pub"))
    encoded = (tmp_path / "key-cert.pub").read_bytes().split()[1]
    assert flaw(base64.b64decode(encoded)) is Flaw.CERTIFICATE


@pytest.mark.parametrize("sign", [0, 0x80])
def test_ed25519_keys_for_which_anybody_can_sign(sign: int) -> None:
    """All points whose order divides 8, in each of their encodings, and beside each a key that is none."""
    y8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    small = [0, 1, P - 1, P, P + 1, (y := int.from_bytes(bytes.fromhex(y8), "little")), P - y]
    for number in small:
        octets = bytearray(number.to_bytes(32, "little"))
        octets[31] |= sign
        assert flaw(edwards(bytes(octets))) is Flaw.SMALL_ORDER
    assert _taken(edwards(signer(Kind.ED25519).public.point))


def test_a_made_up_signature_of_such_a_key_would_do() -> None:
    """Why they are refused: for the point of order 1 nothing depends on the message."""
    weak = PublicKey(Kind.ED25519, (1).to_bytes(32, "little"))
    forged = Signature((1).to_bytes(32, "little") + bytes(32))
    assert verify(weak, forged, b"anything")
    assert not verify(signer(Kind.ED25519).public, forged, b"anything")


def test_points_that_are_none() -> None:
    right = signer(Kind.ED25519).public.point
    wrong = [bytes([right[0] ^ number]) + right[1:] for number in range(1, 40)]
    taken = sum(1 for each in wrong if _taken(edwards(each)))
    assert 8 < taken < 32  # every second number is the y of a point
    assert {flaw(edwards(each)) for each in wrong if not _taken(edwards(each))} == {Flaw.NO_POINT}
    assert flaw(edwards((P + 3).to_bytes(32, "little"))) is Flaw.NO_POINT  # 3 is one, but not spelled so
    assert _taken(edwards((3).to_bytes(32, "little")))

    point = signer(Kind.ECDSA_P256).public.point
    assert _taken(p256(point))
    assert flaw(p256(point[:-1] + bytes([point[-1] ^ 1]))) is Flaw.NO_POINT
    assert flaw(p256(b"\4" + bytes(64))) is Flaw.NO_POINT
    assert flaw(p256(b"\6" + point[1:])) is Flaw.NO_POINT
    assert flaw(p256(bytes([2 + point[-1] % 2]) + point[1:33])) is Flaw.NOT_A_KEY


@given(st.integers(0, P - 1))
@example(0)
@example(1)
@example(2)  # no square, as P is 5 modulo 8
@example(P - 1)
@example(P - 2)
@example(2**254)
@example(2**255 - 1 - P)
def test_what_is_a_square_is_what_euler_calls_one(number: int) -> None:
    assert _jacobi(number, P) % P == pow(number, (P - 1) // 2, P)
    assert _jacobi(number * number % P, P) == (1 if number else 0)


def test_squares_of_small_primes_are_counted() -> None:
    """All residues, by squaring them."""
    for prime in (3, 5, 7, 11, 13, 17, 19, 23, 251, 257):
        squares = {number * number % prime for number in range(1, prime)}
        found = {number: _jacobi(number, prime) for number in range(prime)}
        assert {number for number, symbol in found.items() if symbol == 1} == squares
        assert [number for number, symbol in found.items() if symbol == 0] == [0]


@given(st.integers(1, 2**255 - 1))  # 0 is a point, but one of small order
def test_a_point_is_what_euler_calls_one(y: int) -> None:
    """The whole of the check beside another one, which is slow and plain."""
    d = -121665 * pow(121666, P - 2, P)
    x2 = (y * y - 1) * pow(d * y * y + 1, P - 2, P) % P
    is_point = y < P and pow(x2, (P - 1) // 2, P) == 1
    assert _taken(edwards(y.to_bytes(32, "little"))) == is_point


def _taken(blob: bytes) -> bool:
    try:
        return PublicKey.of_blob(blob).blob == blob
    except BadKey:
        return False


def test_blobs_that_are_none() -> None:
    point = signer(Kind.ECDSA_P256).public.point
    wrong = [
        edwards(bytes(31)),
        edwards(bytes(33)),
        string(b"ssh-ed25519"),
        p256(point, b"nistp384"),
        p256(point[1:]),
        b"",
        b"\xff\xff\xff\xff",
    ]
    for kind in Kind:
        blob = signer(kind).public.blob
        assert PublicKey.of_blob(blob).kind is kind
        wrong += [blob + b"\0", blob[:-1], *(blob[:end] for end in range(0, len(blob) - 1, 7))]
    for each in wrong:
        assert flaw(each) is Flaw.NOT_A_KEY


@pytest.mark.parametrize("kind", Kind)
def test_the_word_before_it_must_be_its_kind(kind: Kind) -> None:
    encoded = base64.b64encode(signer(kind).public.blob)
    for other in Kind:
        if other is kind:
            assert PublicKey.of_text(kind.ssh.encode(), encoded) == signer(kind).public
            continue
        with pytest.raises(BadKey) as caught:
            PublicKey.of_text(other.ssh.encode(), encoded)
        assert caught.value.flaw is Flaw.NOT_A_KEY


def test_base64_has_one_spelling() -> None:
    encoded = base64.b64encode(signer(Kind.SK_ED25519).public.blob)
    assert encoded.endswith(b"=")
    for wrong in (
        encoded[:-1],
        encoded + b"=",
        encoded.replace(b"A", b"-", 1),
        b"=" + encoded,
        b"",
        encoded * 2,
    ):
        with pytest.raises(BadKey) as caught:
            PublicKey.of_text(b"sk-ssh-ed25519@openssh.com", wrong)
        assert caught.value.flaw is Flaw.NOT_BASE64 or not wrong
    spare = encoded.rstrip(b"=")
    other = spare[:-1] + bytes([spare[-1] + 1]) + encoded[len(spare) :]
    assert base64.b64decode(other) == base64.b64decode(encoded)
    with pytest.raises(BadKey):
        PublicKey.of_text(b"sk-ssh-ed25519@openssh.com", other)


@given(st.binary(max_size=150), st.sampled_from(Kind))
def test_any_blob_is_a_key_or_a_bad_one(junk: bytes, kind: Kind) -> None:
    for blob in (junk, string(kind.ssh.encode()) + junk):
        try:
            key = PublicKey.of_blob(blob)
        except BadKey:
            continue
        assert key.blob == blob
