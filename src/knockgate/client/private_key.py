"""A private key out of a file, as ssh keeps it, and the signature of a knock with it.

The file's public half is not locked, so which key it is can be told before anybody is asked for a passphrase.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys import PublicKey, Signature
from knockgate.spa.sshkeys.encoding import Reader
from knockgate.spa.sshkeys.sshsig import signed

__all__ = ["Outside", "PrivateKey", "load", "look"]

_BEGIN, _END = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"-----END OPENSSH PRIVATE KEY-----"
_MAGIC = b"openssh-key-v1\0"
_LONGEST = 64 * 1024
_AGENT = "give it to an agent, which can sign with it: ssh-add FILE"


class Outside(NamedTuple):
    """What a file says without its passphrase."""

    key: PublicKey
    locked: bool  #: there is a passphrase


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What signs, and whose signature it is."""

    public: PublicKey
    _signing: Ed25519PrivateKey | EllipticCurvePrivateKey = field(repr=False)

    def sign(self, message: bytes) -> Signature:
        """The raw form of an SSHSIG."""
        octets = signed(message)
        if isinstance(self._signing, Ed25519PrivateKey):
            return Signature(self._signing.sign(octets))
        r, s = decode_dss_signature(self._signing.sign(octets, ECDSA(hashes.SHA256())))
        return Signature(r.to_bytes(32) + s.to_bytes(32))


def look(octets: bytes) -> Outside:
    """The public half of a file. Raises ConfigError; BadKey where such a key cannot knock."""
    body = octets.strip()
    if len(body) > _LONGEST or not (body.startswith(_BEGIN) and body.endswith(_END)):
        raise ConfigError(
            "this is no private key in OpenSSH's format",
            hint="an older format becomes this one when the passphrase is set anew: ssh-keygen -p -f FILE",
        )
    try:
        reader = Reader(binascii.a2b_base64(body[len(_BEGIN) : -len(_END)]))
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise ValueError("another format")
        cipher = reader.string()
        reader.string()  # how the passphrase becomes a key,
        reader.string()  # and with what
        if reader.uint32() != 1:
            raise ValueError("not one key")
        return Outside(PublicKey.of_blob(reader.string()), cipher != b"none")
    except ValueError:
        raise ConfigError("the private key is damaged", hint="is it all of the file?") from None


def load(octets: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """The key; ``passphrase`` only where ``look`` says that it is locked. ConfigError, Unavailable."""
    public, locked = look(octets)
    if public.kind.on_token:
        raise ConfigError("a token's key signs on the token, and the file is but a handle to it", hint=_AGENT)
    try:
        signing = load_ssh_private_key(octets, passphrase if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm, NotImplementedError) as error:
        if not locked:  # UnsupportedAlgorithm: of a key within, the other one of a compressed point
            raise ConfigError("the private key is damaged", hint="is it all of the file?") from None
        if isinstance(error, UnsupportedAlgorithm):
            raise Unavailable(
                "a key with a passphrase cannot be read here without Python's bcrypt",
                hint=f"{_AGENT}; or install bcrypt",
            ) from None
        raise ConfigError("the passphrase is wrong") from None
    if not isinstance(signing, Ed25519PrivateKey | EllipticCurvePrivateKey) or public != _public(signing):
        raise ConfigError("the file's two halves are those of different keys", hint="do not use it")
    return PrivateKey(public, signing)


def _public(signing: Ed25519PrivateKey | EllipticCurvePrivateKey) -> PublicKey:
    line = signing.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return PublicKey.of_text(*line.split(b" ")[:2])
