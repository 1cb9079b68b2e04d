"""A fresh pair of fwknop's secrets, of which gate and client each have a copy."""

from __future__ import annotations

import base64
import secrets
from typing import NamedTuple

from knockgate.spa.fwknop import Hash

__all__ = ["Pair", "new"]

_KEY = 32
#: Bytes of the HMAC's key: what `fwknop --key-gen` makes; it makes none for SHA-3.
_HMAC_KEY = {
    Hash.MD5: 16,
    Hash.SHA1: 20,
    Hash.SHA256: 64,
    Hash.SHA384: 128,
    Hash.SHA512: 128,
    Hash.SHA3_256: 64,
    Hash.SHA3_512: 64,
}


class Pair(NamedTuple):
    """Both in base64, as files of secrets have them."""

    key: str
    hmac_key: str

    def __repr__(self) -> str:
        return "Pair(...)"

    def lines(self, separator: str) -> list[str]:
        """``KEY_BASE64``, the separator, the secret; and the same of the HMAC."""
        return [f"KEY_BASE64{separator}{self.key}", f"HMAC_KEY_BASE64{separator}{self.hmac_key}"]


def new(hmac: Hash) -> Pair:
    """Out of the system's randomness."""
    sizes = (_KEY, _HMAC_KEY[hmac])
    return Pair(*(base64.b64encode(secrets.token_bytes(size)).decode() for size in sizes))
