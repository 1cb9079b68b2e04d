"""A gate's card: its public keys and a secret, which a client needs in order to knock.

::

    knockgate-card-v1 base64(X-Wing public key (1216) | X25519 public key (32) | card secret (32))

The secret buys cheap rejection, not authority: whoever has the card can make the gate do public-key work, and
can tell knocks to it from random bytes. So it is in no message and in no repr.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey

from knockgate.spa.sealed.suites import Suite

__all__ = ["SECRET", "Card", "NewerCard", "gate_fingerprint", "gate_id"]

SECRET = 32  #: bytes
_PREFIX = "knockgate-card-v1 "
_MLKEM = 1184
_XWING = _MLKEM + 32
_LENGTH = _XWING + 32 + SECRET
_LINE = len(_PREFIX) + -(-_LENGTH // 3) * 4
_OTHER = re.compile(r"knockgate-card-v(?!1\b)([0-9]{1,9})\b")
_CUT = re.compile(r"knockgate-card-v1( [A-Za-z0-9+/]*)?")

PublicKey = MLKEM768X25519PublicKey | X25519PublicKey


def gate_id(xwing: bytes, x25519: bytes) -> bytes:
    """What names a gate in all that is sealed or signed for it: 32 bytes."""
    return hashlib.sha256(b"knockgate gate v1\0" + xwing + x25519).digest()


def gate_fingerprint(gate: bytes) -> str:
    """The gate's id for people who compare: 8 groups of 4 hex digits, the first half of it.

    Other than ssh's fingerprints, so that nobody compares it with one of those.
    """
    digits = gate[:16].hex()
    return "-".join(digits[at : at + 4] for at in range(0, len(digits), 4))


class NewerCard(ValueError):
    """A card of a version that is not known here."""


@dataclass(frozen=True, slots=True)
class Card:
    """ValueError with a text for people where it is no card that one can knock with."""

    xwing: bytes = field(repr=False)  #: 1216 bytes: ML-KEM-768's encapsulation key and X-Wing's X25519 key
    x25519: bytes = field(repr=False)  #: 32 bytes; another key than that one
    secret: bytes = field(repr=False)  #: 32 bytes

    def __post_init__(self) -> None:
        if (len(self.xwing), len(self.x25519), len(self.secret)) != (_XWING, 32, SECRET):
            raise ValueError("the card's keys do not have the length of a card's")
        try:
            MLKEM768PublicKey.from_public_bytes(self.xwing[:_MLKEM])  # FIPS 203, section 7.2: checks it
        except ValueError:
            raise ValueError("the card's ML-KEM-768 key is none") from None
        for key in (self.xwing[_MLKEM:], self.x25519):
            _check_order(key)

    @property
    def gate(self) -> bytes:
        """The gate's id: 32 bytes."""
        return gate_id(self.xwing, self.x25519)

    @property
    def fingerprint(self) -> str:
        """What names the gate for people; all cards of a gate have the same."""
        return gate_fingerprint(self.gate)

    def recipient(self, suite: Suite) -> PublicKey:
        """The key to seal with."""
        if suite is Suite.X25519:
            return X25519PublicKey.from_public_bytes(self.x25519)
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.xwing[:_MLKEM]),
            X25519PublicKey.from_public_bytes(self.xwing[_MLKEM:]),
        )

    def text(self) -> str:
        """The line, without its end: 1,726 characters."""
        return _PREFIX + base64.b64encode(self.xwing + self.x25519 + self.secret).decode()

    @classmethod
    def parse(cls, text: str) -> Card:
        """A card's line; white space around it does not matter. ValueError, without what is in the text."""
        line = text.strip()
        if other := _OTHER.match(line):
            raise NewerCard(f"the card is of version {other[1]}, and this knockgate knows version 1 alone")
        if len(line) < _LINE and _CUT.fullmatch(line):
            raise ValueError(
                f"the card is damaged: it is cut off after {len(line):,} of {_LINE:,} characters"
            )
        if not line.startswith(_PREFIX):
            raise ValueError(f"this is no card: its line begins with {_PREFIX.strip()!r} and a space")
        try:
            letters = line.removeprefix(_PREFIX).encode("ascii")
            octets = base64.b64decode(letters, validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise ValueError(
                "the card is damaged: behind its first word there is something else than base64"
            ) from None
        if len(octets) != _LENGTH or base64.b64encode(octets) != letters:
            raise ValueError(f"the card is damaged: it holds {len(octets)} bytes; a card has {_LENGTH}")
        return cls(octets[:_XWING], octets[_XWING:-SECRET], octets[-SECRET:])


def _check_order(key: bytes) -> None:
    """RFC 7748, section 6.1: with a key of small order everybody has the same secret, all zeros."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        raise ValueError("the card has an X25519 key of small order, which seals nothing") from None
