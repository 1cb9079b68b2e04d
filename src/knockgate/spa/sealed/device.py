"""Which of a person's machines knocks: 16 bytes that tell a gate no more than that."""

from __future__ import annotations

import hashlib

__all__ = ["device_id", "device_row"]

_SIZE = 16


def device_id(client_secret: bytes, gate: bytes, machine: bytes) -> bytes:
    """What a client calls itself at one gate: 16 bytes.

    ``client_secret`` is 32 random bytes that the client keeps, ``machine`` what /etc/machine-id says (32
    letters; empty where there is none): a home directory copied to another machine is another device. Two
    gates cannot tell that they know the same one.
    """
    return _hash(client_secret, b"kg1-dev\0", gate + machine)


def device_row(salt: bytes, device: bytes) -> bytes:
    """What a gate's store keeps for a device: 16 bytes. ``salt`` is the store's, 32 random bytes."""
    return _hash(salt, b"kg1-row\0", device)


def _hash(key: bytes, person: bytes, octets: bytes) -> bytes:
    if len(key) != 32:  # BLAKE2s would take less, and none
        raise ValueError(f"the secret has {len(key)} bytes; it must have 32")
    return hashlib.blake2s(octets, key=key, person=person, digest_size=_SIZE).digest()
