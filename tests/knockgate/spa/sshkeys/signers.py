"""Keys of the four kinds that can sign here: those of tokens are made and used without one."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from knockgate.spa.sshkeys import Kind, PublicKey, Signature
from knockgate.spa.sshkeys.sshsig import signed

_ECDSA = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


@dataclass(frozen=True)
class Signer:
    public: PublicKey
    private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey

    def sign(self, message: bytes, *, flags: int = 1, counter: int = 7) -> Signature:
        """For a token's key: as PROTOCOL.u2f has it, written out here once more."""
        octets = signed(message)
        if not self.public.kind.on_token:
            return Signature(self._raw(octets))
        application = hashlib.sha256(self.public.application).digest()
        tail = bytes([flags]) + counter.to_bytes(4, "big")
        return Signature(self._raw(application + tail + hashlib.sha256(octets).digest()), flags, counter)

    def _raw(self, octets: bytes) -> bytes:
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(octets)
        r, s = decode_dss_signature(self.private.sign(octets, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signer(kind: Kind, number: int = 1) -> Signer:
    """The same for the same number."""
    application = b"ssh:" if kind.on_token else b""
    if kind.edwards:
        one = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % number).digest())
        raw = one.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Signer(PublicKey(kind, raw, application), one)
    other = ec.derive_private_key(10**9 + number, ec.SECP256R1())
    point = other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Signer(PublicKey(kind, point, application), other)


def text(key: PublicKey) -> bytes:
    """As in a .pub file, without comment."""
    return key.kind.ssh.encode() + b" " + base64.b64encode(key.blob)


def keygen(*arguments: str | Path, given: bytes = b"", right: bool = True) -> str:
    """What ssh-keygen printed; it must succeed, or fail where it is not ``right``."""
    done = subprocess.run(
        ["ssh-keygen", *arguments], input=given, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode == 0) == right, done.stdout + done.stderr
    return done.stdout.decode()


def made(folder: Path, *arguments: str) -> Path:
    """A private key's file that ssh-keygen made; the public one is beside it."""
    file = folder / "key"
    keygen("-q", "-N", "", "-C", "somebody", "-f", file, *arguments)
    return file
