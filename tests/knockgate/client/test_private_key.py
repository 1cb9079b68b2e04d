"""Private keys that ssh-keygen made, and what the gate and ssh-keygen make of their signatures."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import keygen, made, signer

from knockgate.client import private_key
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.spa.sshkeys import BadKey, Flaw, Kind, PublicKey, verify
from knockgate.spa.sshkeys.encoding import string, uint32

MESSAGE = bytes(range(144))
BCRYPT = importlib.util.find_spec("bcrypt") is not None


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_suffix(".pub").read_bytes().split()[:2])


@pytest.mark.parametrize(
    "arguments", [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]], ids=lambda each: each[1]
)
def test_a_key_signs(arguments: list[str], tmp_path: Path) -> None:
    file = made(tmp_path, *arguments)
    key = private_key.load(file.read_bytes())
    assert private_key.look(file.read_bytes()) == (public(file), False)
    assert key.public == public(file)
    assert verify(key.public, key.sign(MESSAGE), MESSAGE)
    assert not verify(key.public, key.sign(MESSAGE), MESSAGE + b"\0")
    assert "PrivateKey(" in repr(key) and "_signing" not in repr(key)


def test_a_passphrase(tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    assert private_key.look(file.read_bytes()) == (public(file), False)
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", file)
    octets = file.read_bytes()
    assert private_key.look(octets) == (public(file), True)
    if not BCRYPT:
        with pytest.raises(Unavailable, match="bcrypt") as caught:
            private_key.load(octets, b"open sesame")
        assert "ssh-add" in (caught.value.hint or "")
        return
    key = private_key.load(octets, b"open sesame")
    assert verify(public(file), key.sign(MESSAGE), MESSAGE)
    for wrong in (b"wrong", b"", None):
        with pytest.raises(ConfigError, match="passphrase is wrong"):
            private_key.load(octets, wrong)


def test_kinds_that_cannot_knock_are_told_before_a_passphrase_is_asked_for(tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "rsa", "-b", "2048")
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", file)
    with pytest.raises(BadKey) as caught:
        private_key.look(file.read_bytes())
    assert caught.value.flaw is Flaw.RSA


def test_an_older_format_is_told_how_to_become_this_one(tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ecdsa", "-b", "256", "-m", "PEM")
    with pytest.raises(ConfigError, match="OpenSSH's format") as caught:
        private_key.look(file.read_bytes())
    assert "ssh-keygen -p -f" in (caught.value.hint or "")
    keygen("-q", "-p", "-P", "", "-N", "", "-f", file)
    assert private_key.load(file.read_bytes()).public == public(file)


def test_a_tokens_handle_is_for_the_agent() -> None:
    key = signer(Kind.SK_ED25519).public
    octets = (
        b"openssh-key-v1\0"
        + string(b"none") * 2
        + string(b"")
        + uint32(1)
        + string(key.blob)
        + string(bytes(8))
    )
    file = private_key._BEGIN + b"\n" + _base64(octets) + private_key._END + b"\n"
    assert private_key.look(file) == (key, False)
    with pytest.raises(ConfigError, match="signs on the token") as caught:
        private_key.load(file)
    assert "ssh-add" in (caught.value.hint or "")


@pytest.mark.parametrize("times", [1, -1], ids=["outside", "everywhere"])
def test_halves_of_different_keys(times: int, tmp_path: Path) -> None:
    """The point is there three times, and the seed, which makes it, once."""
    file = made(tmp_path, "-t", "ed25519")
    other = signer(Kind.ED25519).public
    octets = _octets(file).replace(public(file).point, other.point, times)
    mixed = private_key._BEGIN + b"\n" + _base64(octets) + private_key._END
    assert private_key.look(mixed) == (other, False)
    with pytest.raises(ConfigError, match="damaged" if times == 1 else "different keys"):
        private_key.load(mixed)
    assert private_key.load(file.read_bytes()).public == public(file)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    octets = _octets(file)
    for end in range(0, len(octets), 3):
        cut = private_key._BEGIN + b"\n" + _base64(octets[:end]) + private_key._END
        with pytest.raises(ConfigError) as caught:
            private_key.load(cut)
        assert "Traceback" not in str(caught.value)
    assert private_key.load(file.read_bytes()).public == public(file)


@given(st.binary(max_size=200))
def test_any_file_is_a_key_or_an_error(junk: bytes) -> None:
    octets = b"openssh-key-v1\0" + junk
    for file in (junk, private_key._BEGIN + b"\n" + _base64(octets) + private_key._END):
        with pytest.raises(KnockgateError):
            private_key.load(file)


def _octets(file: Path) -> bytes:
    return base64.b64decode(b"".join(file.read_bytes().splitlines()[1:-1]))


def _base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets)
