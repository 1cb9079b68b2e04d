"""A pair of secrets, what is done with them, and the key that comes out. OpenSSL's and RFC 2104's."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field

__all__ = ["Hash", "Mode", "Secret", "derived", "hashed"]

_LEGACY = 16


class Hash(enum.Enum):
    """Names as fwknop writes them, in small letters, which are hashlib's too."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SHA3_256 = "sha3_256"
    SHA3_512 = "sha3_512"

    @property
    def size(self) -> int:
        """Bytes of its value."""
        return _SIZES[self]


class Mode(enum.Enum):
    """Of AES-256; the padding is PKCS#7's in each. ``LEGACY`` is CBC with fwknop 2.0's short keys."""

    CBC = "cbc"
    CTR = "ctr"
    OFB = "ofb"
    CFB = "cfb"
    ECB = "ecb"
    LEGACY = "legacy"


_SIZES = {each: hashlib.new(each.value, usedforsecurity=False).digest_size for each in Hash}


@dataclass(frozen=True, slots=True)
class Secret:
    """What client and gate share. ValueError with a text for people where a length is wrong."""

    key: bytes = field(repr=False)  #: 1 to 32 bytes
    hmac_key: bytes | None = field(default=None, repr=False)  #: 1 to 136 bytes
    hmac: Hash = Hash.SHA256
    mode: Mode = Mode.CBC

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= 32:
            raise ValueError(f"the key has {len(self.key)} bytes; it must have 1 to 32")
        if self.hmac_key is None:
            return
        if not 1 <= len(self.hmac_key) <= 136:
            raise ValueError(f"the HMAC key has {len(self.hmac_key)} bytes; it must have 1 to 136")
        if self.key == self.hmac_key:  # fwknopd does not start with such a pair
            raise ValueError("the key and the HMAC key are the same; they must differ")


def hashed(octets: bytes, kind: Hash) -> bytes:
    """The hash of the octets."""
    return hashlib.new(kind.value, octets, usedforsecurity=False).digest()


def derived(secret: Secret, salt: bytes) -> tuple[bytes, bytes]:
    """AES key (32 bytes) and IV (16) for a salt: EVP_BytesToKey(3) with MD5 and a count of one.

    Keys of the legacy mode are filled up with the digit 0, or cut off, to 16 bytes.
    """
    key = secret.key
    if secret.mode is Mode.LEGACY:
        key = key[:_LEGACY].ljust(_LEGACY, b"0")
    first = hashed(key + salt, Hash.MD5)
    second = hashed(first + key + salt, Hash.MD5)
    return first + second, hashed(second + key + salt, Hash.MD5)
