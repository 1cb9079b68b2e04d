"""Whose is it? The HMACs of all secrets, tried at a pace that a flood of junk calls for.

A packet names no key, so junk of the right shape costs an HMAC for each. The key's part of it is done once,
and copied. With a thousand keys of SHA-256 on one core, CPython 3.11: 611 packets a second, where copies of
hashlib's two states make 552, ``hmac.digest`` 278; the other hashes come in the same order.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Sequence
from hmac import compare_digest

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from knockgate.spa.fwknop import text64
from knockgate.spa.fwknop.layout import PREFIX, Layout, Shape, layouts
from knockgate.spa.fwknop.secret import Hash, Secret

__all__ = ["Keyring"]

_HASHES: dict[Hash, hashes.HashAlgorithm] = {
    Hash.MD5: hashes.MD5(),  # noqa: S303 - fwknop's users can choose it
    Hash.SHA1: hashes.SHA1(),  # noqa: S303
    Hash.SHA256: hashes.SHA256(),
    Hash.SHA384: hashes.SHA384(),
    Hash.SHA512: hashes.SHA512(),
    Hash.SHA3_256: hashes.SHA3_256(),
    Hash.SHA3_512: hashes.SHA3_512(),
}


class _Group:
    """The secrets with one kind of HMAC: ``keys`` holds their numbers, and what begins each one's HMAC."""

    def __init__(self, kind: Hash) -> None:
        self.kind = kind
        self._padding = b"=" * (-text64.length(kind.size) % 4)
        self.keys: list[tuple[int, Callable[[], HMAC]]] = []

    def add(self, number: int, key: bytes) -> None:
        begun = HMAC(key, _HASHES[self.kind])
        begun.update(PREFIX)
        self.keys.append((number, begun.copy))

    def authentic(self, payload: bytes, at: int) -> list[int]:
        """Which of them have made the HMAC that begins there, for what is before it. It is read leniently."""
        sealed = payload[:at]
        found: list[int] = []
        try:
            tag = a2b_base64(payload[at:] + self._padding)
        except ValueError:
            return found
        for number, begin in self.keys:
            state = begin()
            state.update(sealed)
            # Not ==, whose time would tell how much of a forged tag is right.
            if compare_digest(state.finalize(), tag):
                found.append(number)
        return found


class Keyring:
    """Secrets by their number in ``secrets``, arranged for trying them all."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        groups: dict[Hash, _Group] = {}
        self._bare: list[int] = []  # those without HMAC
        # What a payload of a length can be: several hashes may share one.
        self._of_sealed: dict[int, list[tuple[Layout, _Group]]] = {}
        self._of_bare: dict[int, Layout] = {}
        for number, secret in enumerate(secrets):
            if secret.hmac_key is None:
                self._bare.append(number)
                self._of_bare = layouts(secret)
                continue
            group = groups.get(secret.hmac)
            if group is None:
                group = groups[secret.hmac] = _Group(secret.hmac)
                for length, layout in layouts(secret).items():
                    self._of_sealed.setdefault(length, []).append((layout, group))
            group.add(number, secret.hmac_key)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All that a packet for one of the secrets can look like, by length.

        Shapes of the same length are alternatives: what has one of them can be a packet.
        """
        found = [layout.shape for each in self._of_sealed.values() for layout, _ in each]
        found += [layout.shape for layout in self._of_bare.values()]
        return tuple(sorted(set(found)))

    def candidates(self, payload: bytes) -> Sequence[int]:
        """Numbers of the secrets that authenticate the payload; then those without HMAC whose shape fits."""
        found: list[int] = []
        length = len(payload)
        for layout, group in self._of_sealed.get(length, ()):
            numbers = group.authentic(payload, layout.tag)
            # Asked last: junk gets by the kernel's filter because it fits, and has no HMAC of anybody's.
            if numbers and layout.fits(payload):
                found += numbers
        bare = self._of_bare.get(length)
        if bare is not None and bare.fits(payload):
            found += self._bare
        return found
