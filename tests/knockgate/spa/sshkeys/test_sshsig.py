"""Signatures, with the real ssh-keygen on the other side."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import keygen, made, signer, text

from knockgate.errors import ConfigError
from knockgate.spa.sshkeys import NAMESPACE, Kind, PublicKey, Signature, verify
from knockgate.spa.sshkeys.encoding import mpint, string
from knockgate.spa.sshkeys.sshsig import armored, read_armored, stripped, wrapped

MESSAGE = bytes(range(144))
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def verified(folder: Path, key: PublicKey, armor: str, *, right: bool = True) -> None:
    """ssh-keygen takes the signature, or does not."""
    (folder / "signers").write_bytes(b"somebody " + text(key) + b"\n")
    (folder / "signature").write_text(armor)
    words: list[str | Path] = [
        "-Y",
        "verify",
        "-f",
        folder / "signers",
        "-I",
        "somebody",
        "-n",
        NAMESPACE.decode(),
    ]
    keygen(*words, "-s", folder / "signature", given=MESSAGE, right=right)


def other_bits(signature: Signature) -> list[Signature]:
    """With one bit flipped, in every place."""
    octets = signature.octets
    changed = [octets[:at] + bytes([octets[at] ^ 1 << at % 8]) + octets[at + 1 :] for at in range(64)]
    return [
        *(signature._replace(octets=each) for each in changed),
        *(signature._replace(flags=signature.flags ^ 1 << bit) for bit in range(8)),
        *(signature._replace(counter=signature.counter ^ 1 << bit) for bit in range(32)),
    ]


@pytest.mark.parametrize(
    "arguments", [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]], ids=lambda each: each[1]
)
def test_what_ssh_keygen_signs(arguments: list[str], tmp_path: Path) -> None:
    file = made(tmp_path, *arguments)
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)
    keygen("-Y", "sign", "-n", NAMESPACE.decode(), "-f", file, message)
    armor = (tmp_path / "message.sig").read_bytes()
    key, signature = read_armored(armor)
    assert key == PublicKey.of_text(*(tmp_path / "key.pub").read_bytes().split()[:2])
    assert verify(key, signature, MESSAGE)
    assert not verify(key, signature, MESSAGE + b"\0")
    assert not any(verify(key, each, MESSAGE) for each in other_bits(signature))
    assert armored(key, signature) == armor.decode()


@pytest.mark.parametrize("kind", Kind)
def test_what_ssh_keygen_verifies(kind: Kind, tmp_path: Path) -> None:
    one = signer(kind)
    signature = one.sign(MESSAGE, flags=5)
    verified(tmp_path, one.public, armored(one.public, signature))
    assert verify(one.public, signature, MESSAGE)
    wrong = other_bits(signature)
    assert not any(verify(one.public, each, MESSAGE) for each in wrong)
    for each in (wrong[3], wrong[40], wrong[-1]) if kind.on_token else (wrong[3], wrong[40]):
        verified(tmp_path, one.public, armored(one.public, each), right=False)
    verified(tmp_path, signer(kind, 2).public, armored(one.public, signature), right=False)
    assert not verify(signer(kind, 2).public, signature, MESSAGE)


@pytest.mark.parametrize("kind", [Kind.SK_ED25519, Kind.SK_ECDSA_P256])
def test_a_token_that_was_not_touched_says_so(kind: Kind, tmp_path: Path) -> None:
    """ssh-keygen takes that too, so it is for the gate to ask."""
    one = signer(kind)
    for flags, touched, known in [(0, False, False), (1, True, False), (4, False, True), (5, True, True)]:
        signature = one.sign(MESSAGE, flags=flags, counter=2**32 - 1)
        assert verify(one.public, signature, MESSAGE)
        assert (signature.touched, signature.verified) == (touched, known)
    verified(tmp_path, one.public, armored(one.public, one.sign(MESSAGE, flags=0)))


@pytest.mark.parametrize("kind", [Kind.SK_ED25519, Kind.SK_ECDSA_P256])
def test_a_tokens_key_is_for_one_application(kind: Kind) -> None:
    one = signer(kind)
    other = PublicKey(kind, one.public.point, b"ssh:other")
    assert verify(one.public, one.sign(MESSAGE), MESSAGE)
    assert not verify(other, one.sign(MESSAGE), MESSAGE)


@pytest.mark.parametrize("kind", Kind)
def test_wrapped_and_stripped(kind: Kind) -> None:
    one = signer(kind)
    for number in range(40):  # among them numbers of ECDSA's with a high bit, and short ones
        signature = one.sign(b"%d" % number)
        assert stripped(kind, wrapped(kind, signature)) == signature
        assert read_armored(armored(one.public, signature).encode()) == (one.public, signature)
    for other in set(Kind) - {kind}:
        with pytest.raises(ValueError, match="another"):
            stripped(other, wrapped(kind, one.sign(MESSAGE)))


@pytest.mark.parametrize("kind", [Kind.ECDSA_P256, Kind.SK_ECDSA_P256])
def test_the_numbers_of_ecdsa_have_bounds(kind: Kind) -> None:
    one = signer(kind)
    right = int.from_bytes(one.sign(MESSAGE).octets[:32], "big")
    tail = bytes(5) if kind.on_token else b""
    for r, s in [(0, right), (right, 0), (ORDER, right), (right, ORDER), (2**256 - 1, right)]:
        signature = Signature(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        assert not verify(one.public, signature, MESSAGE)
        with pytest.raises(ValueError, match="no signature of this curve"):
            wrapped(kind, signature)
        blob = string(kind.ssh.encode()) + string(mpint(r) + mpint(s)) + tail
        with pytest.raises(ValueError, match="no signature of this curve"):
            stripped(kind, blob)
    for r, s in [(right, right), (1, ORDER - 1), (ORDER - 1, 1)]:
        blob = string(kind.ssh.encode()) + string(mpint(r) + mpint(s)) + tail
        assert wrapped(kind, stripped(kind, blob)) == blob


@pytest.mark.parametrize(
    "arguments",
    [["-n", "file"], ["-n", NAMESPACE.decode(), "-O", "hashalg=sha256"]],
    ids=["for something else", "with another hash"],
)
def test_signed_otherwise_is_no_signature_for_a_knock(arguments: list[str], tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)
    keygen("-Y", "sign", *arguments, "-f", file, message)
    with pytest.raises(ConfigError, match="no signature for a knock") as caught:
        read_armored((tmp_path / "message.sig").read_bytes())
    assert "-n knockgate-spa-v1" in (caught.value.hint or "")


@pytest.mark.parametrize("first", [b"\x80", b"\x81", b"\xfe"])
def test_numbers_of_ecdsa_are_spelled_as_openssh_takes_them(first: bytes) -> None:
    kind = Kind.ECDSA_P256
    right = Signature(first + bytes(30) + b"\1" + b"\x7f" + bytes(31))
    r, s = b"\0" + right.octets[:32], right.octets[32:]
    for spelled, taken in [(r, True), (b"\0\0" + r, True), (r[1:], False)]:
        blob = string(kind.ssh.encode()) + string(string(spelled) + string(s))
        if taken:
            assert stripped(kind, blob) == right
            continue
        with pytest.raises(ValueError, match="negative"):
            stripped(kind, blob)


@pytest.mark.parametrize("kind", Kind)
def test_nothing_may_follow(kind: Kind) -> None:
    blob = wrapped(kind, signer(kind).sign(MESSAGE))
    assert stripped(kind, blob)
    name, octets = string(kind.ssh.encode()), signer(kind).sign(MESSAGE).octets
    tail = blob[-5:] if kind.on_token else b""
    two = b"".join(mpint(int.from_bytes(half, "big")) for half in (octets[:32], octets[32:]))
    inner = octets if kind.edwards else two
    assert stripped(kind, name + string(inner) + tail)
    for wrong in (blob + b"\0", name + string(inner + b"\0") + tail, blob[:-1]):
        with pytest.raises(ValueError, match=r"follows|length|cut off"):
            stripped(kind, wrong)


@pytest.mark.parametrize(
    ("at", "change"), [(9, b"\2"), (9, b"\0"), (5, b"g")], ids=["later", "earlier", "other"]
)
def test_another_version_of_the_armor(at: int, change: bytes) -> None:
    one = signer(Kind.ED25519)
    armor = armored(one.public, one.sign(MESSAGE)).encode()
    begin, *lines, end = armor.splitlines()
    octets = base64.b64decode(b"".join(lines))
    for wrong in (octets[:at] + change + octets[at + 1 :], octets + b"\0"):
        with pytest.raises(ConfigError, match="no signature for a knock"):
            read_armored(b"\n".join([begin, base64.b64encode(wrong), end]))
    assert read_armored(b"\n".join([begin, base64.b64encode(octets), end])) == read_armored(armor)


def test_an_armor_that_was_cut_off_or_changed() -> None:
    one = signer(Kind.ED25519)
    armor = armored(one.public, one.sign(MESSAGE)).encode()
    for end in range(len(armor) - 1):
        with pytest.raises(ConfigError):
            read_armored(armor[:end])
    for at in range(30, 60):
        with pytest.raises(ConfigError):
            read_armored(armor[:at] + b"-" + armor[at + 1 :])
    assert read_armored(armor)[0] == one.public


def test_an_armor_has_a_bound() -> None:
    """Nobody's application is so long; a file may have anything in it."""
    one = signer(Kind.SK_ED25519)
    taken = set()
    for size in range(2000, 3500, 100):
        armor = armored(PublicKey(one.public.kind, one.public.point, b"x" * size), one.sign(MESSAGE)).encode()
        if len(armor.strip()) <= 4096:
            taken.add(read_armored(armor)[0].application)
            continue
        with pytest.raises(ConfigError, match="no signature of ssh's"):
            read_armored(armor)
    assert 5 < len(taken) < 15


@given(st.sampled_from(Kind), st.binary(max_size=200))
def test_any_blob_is_a_signature_or_a_value_error(kind: Kind, blob: bytes) -> None:
    for octets in (blob, string(kind.ssh.encode()) + blob):
        try:
            found = stripped(kind, octets)
        except ValueError:
            continue
        assert stripped(kind, wrapped(kind, found)) == found
