"""A gate's own keys: one for each suite, out of two seeds."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from knockgate.errors import Reason, Refused
from knockgate.spa.sealed.card import Card, gate_id
from knockgate.spa.sealed.suites import Suite

__all__ = ["GateKey"]

_SEED = 32


class GateKey:
    """Two private keys and the gate's id. ValueError where a seed has another length than 32 bytes."""

    def __init__(self, *, xwing_seed: bytes, x25519_key: bytes) -> None:
        if (len(xwing_seed), len(x25519_key)) != (_SEED, _SEED):
            raise ValueError(f"a gate's key is made of two seeds of {_SEED} bytes")
        # draft-connolly-cfrg-xwing-kem, section 5.2: d, z of ML-KEM, and X25519's key.
        expanded = hashlib.shake_256(xwing_seed).digest(96)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        half = X25519PrivateKey.from_private_bytes(expanded[64:])
        alone = X25519PrivateKey.from_private_bytes(x25519_key)
        self._keys: dict[Suite, MLKEM768X25519PrivateKey | X25519PrivateKey] = {
            Suite.XWING: MLKEM768X25519PrivateKey(mlkem, half),
            Suite.X25519: alone,
        }
        self._xwing = mlkem.public_key().public_bytes_raw() + half.public_key().public_bytes_raw()
        self._x25519 = alone.public_key().public_bytes_raw()
        self.gate = gate_id(self._xwing, self._x25519)  #: 32 bytes
        self._infos = {suite: suite.info(self.gate) for suite in Suite}

    def card(self, secret: bytes) -> Card:
        """The card with this secret (32 random bytes); a gate may have several."""
        return Card(self._xwing, self._x25519, secret)

    def opened(self, suite: Suite, sealed: bytes) -> bytes:
        """What HPKE has sealed into ``sealed``, which begins with the encapsulation. Raises Refused."""
        try:
            return suite.hpke.decrypt(sealed, self._keys[suite], self._infos[suite])
        except InvalidTag:
            raise Refused(Reason.NOT_SEALED) from None
