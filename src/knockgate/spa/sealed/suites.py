"""Which keys a datagram is sealed with. There are two ways, and their lengths tell them apart."""

from __future__ import annotations

import enum

from cryptography.hazmat.primitives import hpke

from knockgate.spa.sealed.message import LENGTH

__all__ = ["TAG", "Suite"]

#: Bytes of the tag at the front, and of the AEAD's at the end.
TAG = 16
_AEAD_TAG = 16


class Suite(enum.Enum):
    """HPKE's KEM; the KDF is HKDF-SHA256 and the AEAD is ChaCha20-Poly1305 in both. The value is its id."""

    XWING = 0x647A  #: ML-KEM-768 with X25519, against quantum computers too; draft-connolly-cfrg-xwing-kem
    X25519 = 0x0020  #: RFC 9180, section 7.1; for paths that carry no 1,333 bytes

    @property
    def encapsulation(self) -> int:
        """Bytes of HPKE's ``enc``."""
        return _ENCAPSULATIONS[self]

    @property
    def length(self) -> int:
        """Bytes of a datagram."""
        return TAG + self.encapsulation + LENGTH + _AEAD_TAG

    @property
    def hpke(self) -> hpke.Suite:
        """What seals and opens it."""
        return _HPKE[self]

    def info(self, gate: bytes) -> bytes:
        """What HPKE binds the message to: this version, the suite and the gate. 55 bytes."""
        ids = self.value.to_bytes(2, "big") + b"\x00\x01" + b"\x00\x03"
        return b"knockgate spa v1\0" + ids + gate

    @staticmethod
    def of(datagram: bytes) -> Suite | None:
        """Which of them a datagram of this length is; None: it is none of ours."""
        return _BY_LENGTH.get(len(datagram))


_ENCAPSULATIONS = {Suite.XWING: 1120, Suite.X25519: 32}
_BY_LENGTH = {suite.length: suite for suite in Suite}
_HPKE = {
    Suite.XWING: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    Suite.X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
}
