"""Around the fields: their hash, AES, the HMAC, and which characters go on the wire."""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from knockgate.errors import Reason, Refused
from knockgate.spa.fwknop import fields, text64
from knockgate.spa.fwknop.fields import Message
from knockgate.spa.fwknop.layout import BLOCK, PREFIX, layouts
from knockgate.spa.fwknop.secret import Hash, Mode, Secret, derived, hashed

__all__ = ["Unsealed", "seal", "seal_octets", "seal_text", "unseal"]

_CONTAINER = b"Salted__"
_NONCE = re.compile(rb"[0-9]{16}:")
# Two lengths belong to two hashes each.
_BY_LENGTH = {text64.length(each.size): [other for other in Hash if other.size == each.size] for each in Hash}
_AnyMode = modes.ECB | modes.CTR | modes.ModeWithInitializationVector


class Unsealed(NamedTuple):
    """What was in a packet."""

    message: Message
    digest: bytes  #: 32 bytes: SHA-256 of the encoded fields; what the token is made of


def seal(message: Message, secret: Secret, *, salt: bytes, digest: Hash = Hash.SHA256) -> bytes:
    """The payload to send; ValueError with a text for people where fwknopd would not take it.

    ``salt`` is 8 random bytes. ``digest`` is the hash within, which fwknopd tells by its length.
    """
    text = fields.encode(message)
    wire = seal_text(text + b":" + text64.encode(hashed(text, digest)), secret, salt=salt)
    _check_for_fwknopd(wire, secret)
    return wire


def _check_for_fwknopd(wire: bytes, secret: Secret) -> None:
    """fwknopd takes what has 400 characters for GnuPG's: on the wire, or whole and without its HMAC."""
    tag = 0 if secret.hmac_key is None else text64.length(secret.hmac.size)
    longest = max(len(wire), len(PREFIX) + len(wire) - tag)
    if longest >= 400:
        raise ValueError(
            f"the packet is too long for fwknopd: {longest} characters, and 399 are possible; "
            "ask for less at once, or use a shorter digest or HMAC"
        )
    if len(wire) < 140:
        raise ValueError(f"the packet is too short for fwknopd: {len(wire)} characters, and 140 are needed")


def seal_text(text: bytes, secret: Secret, *, salt: bytes) -> bytes:
    """The payload for any text at all, whether it has fields or not."""
    pad = BLOCK - len(text) % BLOCK
    return seal_octets(text + bytes([pad]) * pad, secret, salt=salt)


def seal_octets(octets: bytes, secret: Secret, *, salt: bytes) -> bytes:
    """The payload for whole blocks, whatever they are padded with."""
    if len(salt) != 8:
        raise ValueError("the salt must have 8 bytes")
    encryptor = _cipher(secret, salt).encryptor()
    sealed = text64.encode(_CONTAINER + salt + encryptor.update(octets) + encryptor.finalize())
    return sealed[len(PREFIX) :] + _tag(sealed, secret)


def unseal(payload: bytes, secret: Secret) -> Unsealed:
    """Everything: shape, HMAC, decryption, fields. Raises Refused."""
    layout = layouts(secret).get(len(payload))
    if layout is None:
        raise Refused(Reason.BAD_LENGTH)
    if not layout.fits(payload):
        raise Refused(Reason.NOT_BASE64)
    sealed = PREFIX + payload[: layout.tag]
    if not hmac.compare_digest(_tag(sealed, secret), payload[layout.tag :]):
        raise Refused(Reason.NOT_OURS)
    text, colon, digest = _opened(text64.decode(sealed), secret).rpartition(b":")
    if not colon or not any(
        text64.encode(hashed(text, each)) == digest for each in _BY_LENGTH.get(len(digest), ())
    ):
        raise Refused(Reason.BAD_DIGEST)
    return Unsealed(fields.decode(text), hashed(text, Hash.SHA256))


def _opened(octets: bytes, secret: Secret) -> bytes:
    """The text in a container; raises Refused."""
    salt, octets = octets[len(_CONTAINER) : BLOCK], octets[BLOCK:]
    decryptor = _cipher(secret, salt).decryptor()
    text = decryptor.update(octets) + decryptor.finalize()
    pad = text[-1]
    if not 1 <= pad <= BLOCK or text[-pad:] != bytes([pad]) * pad or not _NONCE.match(text):
        raise Refused(Reason.NOT_SEALED)
    return text[:-pad]


def _tag(sealed: bytes, secret: Secret) -> bytes:
    """The HMAC as text; empty where the secret has no key for it."""
    if secret.hmac_key is None:
        return b""
    return text64.encode(hmac.digest(secret.hmac_key, sealed, secret.hmac.value))


def _cipher(secret: Secret, salt: bytes) -> Cipher[_AnyMode]:
    key, iv = derived(secret, salt)
    return Cipher(algorithms.AES256(key), _mode(secret.mode, iv))


def _mode(mode: Mode, iv: bytes) -> _AnyMode:
    match mode:
        case Mode.CBC | Mode.LEGACY:
            return modes.CBC(iv)
        case Mode.CTR:
            return modes.CTR(iv)
        case Mode.OFB:
            return OFB(iv)
        case Mode.CFB:
            return CFB(iv)
        case Mode.ECB:
            return modes.ECB()  # noqa: S305 - fwknop's users can choose it
