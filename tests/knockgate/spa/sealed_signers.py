"""Four SSH keys whose private parts everybody knows, and what they say to a knock.

The two of tokens are plain keys that claim to be in one. SSHSIG is OpenSSH's PROTOCOL.sshsig; what tokens
add to it is in its PROTOCOL.u2f. ECDSA is RFC 6979's, so that a signature is the same every time.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ED25519, ECDSA, SK_ED25519, SK_ECDSA = 1, 2, 3, 4
_NAMES = {
    ED25519: "ssh-ed25519",
    ECDSA: "ecdsa-sha2-nistp256",
    SK_ED25519: "sk-ssh-ed25519@openssh.com",
    SK_ECDSA: "sk-ecdsa-sha2-nistp256@openssh.com",
}
_APPLICATION = b"ssh:"
_ECDSA = ec.ECDSA(SHA256(), deterministic_signing=True)


def blob(kind: int) -> bytes:
    """The public key as SSH encodes it."""
    end = _string(_APPLICATION) if kind in {SK_ED25519, SK_ECDSA} else b""
    name = _string(_NAMES[kind].encode())
    if kind in {ED25519, SK_ED25519}:
        return name + _string(_ed25519(kind).public_key().public_bytes_raw()) + end
    point = _ecdsa(kind).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return name + _string(b"nistp256") + _string(point) + end


def line(kind: int) -> str:
    """The public key as it stands in authorized_keys."""
    return f"{_NAMES[kind]} {base64.b64encode(blob(kind)).decode()}"


def fingerprint(kind: int) -> bytes:
    return hashlib.sha256(blob(kind)).digest()


def sign(kind: int, message: bytes, flags: int = 0, counter: int = 0) -> bytes:
    """64 bytes."""
    signed = to_sign(kind, message, flags, counter)
    if kind in {ED25519, SK_ED25519}:
        return _ed25519(kind).sign(signed)
    r, s = utils.decode_dss_signature(_ecdsa(kind).sign(signed, _ECDSA))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def is_good(kind: int, message: bytes, signature: bytes, flags: int = 0, counter: int = 0) -> bool:
    signed = to_sign(kind, message, flags, counter)
    try:
        if kind in {ED25519, SK_ED25519}:
            _ed25519(kind).public_key().verify(signature, signed)
        else:
            numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
            _ecdsa(kind).public_key().verify(utils.encode_dss_signature(*numbers), signed, _ECDSA)
    except InvalidSignature:
        return False
    return True


def to_sign(kind: int, message: bytes, flags: int = 0, counter: int = 0) -> bytes:
    """What the key itself is given: SSHSIG's octets, or what a token makes of them."""
    parts = (b"knockgate-spa-v1", b"", b"sha512", hashlib.sha512(message).digest())
    sshsig = b"SSHSIG" + b"".join(map(_string, parts))
    if kind in {ED25519, ECDSA}:
        return sshsig
    token = bytes([flags]) + counter.to_bytes(4, "big")
    return hashlib.sha256(_APPLICATION).digest() + token + hashlib.sha256(sshsig).digest()


def _string(octets: bytes) -> bytes:
    return len(octets).to_bytes(4, "big") + octets


def _private(kind: int) -> bytes:
    """80 to 9f, a0 to bf, c0 to df, e0 to ff."""
    first = 0x60 + 0x20 * kind
    return bytes(range(first, first + 32))


def _ed25519(kind: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_private(kind))


def _ecdsa(kind: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(_private(kind), "big"), ec.SECP256R1())
