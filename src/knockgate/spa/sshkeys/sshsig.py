"""SSHSIG (OpenSSH, PROTOCOL.sshsig): what is signed, the raw form that travels, and the form of files.

::

    signed     "SSHSIG", namespace, reserved, hash, SHA-512(message)
    by token   SHA-256(application), flags (1), counter (4), SHA-256(signed)     PROTOCOL.u2f
    raw        R, S of Ed25519 or r, s of ECDSA: 32 octets each; a token's flags and counter
    blob       what ssh, an agent and a file have instead
    armor      "SSHSIG", 1, public key, namespace, reserved, hash, blob; in base64 between two lines

Namespace, reserved and hash are always the same, so nothing that was signed for anything else is a knock.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from knockgate.errors import ConfigError
from knockgate.spa.sshkeys.encoding import Reader, base64_decoded, mpint, string, uint32
from knockgate.spa.sshkeys.keys import Kind, PublicKey

__all__ = [
    "NAMESPACE",
    "Signature",
    "armored",
    "by_token",
    "read_armored",
    "signed",
    "stripped",
    "verify",
    "wrapped",
]

NAMESPACE = b"knockgate-spa-v1"

_MAGIC = b"SSHSIG"
_CONTEXT = string(NAMESPACE) + string(b"") + string(b"sha512")
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_LONGEST = 4096  # characters of an armor; the longest of ours has about 700
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
_TOUCHED, _VERIFIED = 0x01, 0x04


class Signature(NamedTuple):
    """The raw form."""

    octets: bytes  #: 64
    flags: int = 0  #: a token's: one octet
    counter: int = 0  #: a token's: below 2^32

    @property
    def touched(self) -> bool:
        """Whether a token says that somebody touched it."""
        return bool(self.flags & _TOUCHED)

    @property
    def verified(self) -> bool:
        """Whether a token says that it knew who that was: by a PIN, or a finger."""
        return bool(self.flags & _VERIFIED)


def signed(message: bytes) -> bytes:
    """What a key that is no token's signs; an agent is given this for every key."""
    return _MAGIC + _CONTEXT + string(hashlib.sha512(message).digest())


def by_token(application: bytes, flags: int, counter: int, octets: bytes) -> bytes:
    """What a token makes of the octets that it is to sign, and signs."""
    return (
        hashlib.sha256(application).digest()
        + flags.to_bytes(1)
        + uint32(counter)
        + hashlib.sha256(octets).digest()
    )


def verify(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Whether the key has signed the message. Whether a token was touched is for the caller to judge."""
    octets = signed(message)
    if key.kind.on_token:
        octets = by_token(key.application, signature.flags, signature.counter, octets)
    elif signature.flags or signature.counter:
        return False
    verifying = key.verifying
    try:
        if isinstance(verifying, Ed25519PublicKey):
            verifying.verify(signature.octets, octets)
        else:
            verifying.verify(encode_dss_signature(*_halves(signature.octets)), octets, ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def wrapped(kind: Kind, signature: Signature) -> bytes:
    """The blob for the raw form; ValueError where a number of ECDSA's is out of bounds."""
    octets = signature.octets
    if not kind.edwards:
        octets = b"".join(mpint(number) for number in _halves(octets))
    tail = signature.flags.to_bytes(1) + uint32(signature.counter) if kind.on_token else b""
    return string(kind.ssh.encode()) + string(octets) + tail


def stripped(kind: Kind, blob: bytes) -> Signature:
    """The raw form of what an agent answers, or what is in an armor; ValueError."""
    reader = Reader(blob)
    if reader.string() != kind.ssh.encode():
        raise ValueError("a signature of another kind")
    octets = reader.string()
    flags, counter = (reader.byte(), reader.uint32()) if kind.on_token else (0, 0)
    reader.end()
    if not kind.edwards:
        numbers = Reader(octets)
        octets = b"".join(_bounded(numbers.positive()).to_bytes(32) for _ in range(2))
        numbers.end()
    if len(octets) != 64:
        raise ValueError("a signature of another length")
    return Signature(octets, flags, counter)


def armored(key: PublicKey, signature: Signature) -> str:
    """The file that ``ssh-keygen -Y verify`` reads; ValueError as in ``wrapped``."""
    blob = wrapped(key.kind, signature)
    octets = _MAGIC + uint32(1) + string(key.blob) + _CONTEXT + string(blob)
    text = binascii.b2a_base64(octets, newline=False).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([_BEGIN.decode(), *lines, _END.decode(), ""])


def read_armored(text: bytes) -> tuple[PublicKey, Signature]:
    """What ``ssh-keygen -Y sign -n knockgate-spa-v1`` writes. Raises ConfigError; BadKey is one."""
    body = text.strip()
    if len(body) > _LONGEST or not (body.startswith(_BEGIN + b"\n") and body.endswith(b"\n" + _END)):
        raise _no_signature("this is no signature of ssh's")
    try:
        blob, signature = _opened(base64_decoded(body[len(_BEGIN) : -len(_END)].translate(None, b"\r\n")))
        key = PublicKey.of_blob(blob)
        return key, stripped(key.kind, signature)
    except ValueError:
        raise _no_signature("this is no signature for a knock") from None


def _opened(octets: bytes) -> tuple[bytes, bytes]:
    """The blobs of key and signature; ValueError."""
    reader = Reader(octets)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != 1:
        raise ValueError("another format")
    key = reader.string()
    if reader.take(len(_CONTEXT)) != _CONTEXT:
        raise ValueError("signed for something else")
    signature = reader.string()
    reader.end()
    return key, signature


def _no_signature(message: str) -> ConfigError:
    return ConfigError(message, hint=f"make one with: ssh-keygen -Y sign -n {NAMESPACE.decode()} -f KEY FILE")


def _halves(octets: bytes) -> tuple[int, int]:
    """r and s of ECDSA; ValueError."""
    if len(octets) != 64:
        raise ValueError("a signature of another length")
    return _bounded(int.from_bytes(octets[:32])), _bounded(int.from_bytes(octets[32:]))


def _bounded(number: int) -> int:
    if not 1 <= number < _ORDER:
        raise ValueError("a number that no signature of this curve has")
    return number
