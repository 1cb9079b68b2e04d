"""Whose is it? The HMACs of all secrets, tried at a pace that a flood of junk calls for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import TYPE_CHECKING

from knockgate.spa.fwknop import text64
from knockgate.spa.fwknop.layout import PREFIX, Layout, Shape, layouts
from knockgate.spa.fwknop.secret import Hash, Secret

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Keyring"]


class Keyring:
    """Secrets by their number in ``secrets``, arranged for trying them all."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._groups: dict[Hash | None, list[tuple[int, Callable[[], _Hash], Callable[[], _Hash]]]] = {}
        self._layouts: dict[int, list[tuple[Layout, Hash | None]]] = {}
        for number, secret in enumerate(secrets):
            kind = secret.hmac if secret.hmac_key is not None else None
            if kind not in self._groups:
                self._groups[kind] = []
                for length, layout in layouts(secret).items():
                    self._layouts.setdefault(length, []).append((layout, kind))
            self._groups[kind].append(_states(number, secret))
        for alternatives in self._layouts.values():
            alternatives.sort(key=lambda each: each[1] is None)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All that a packet for one of the secrets can look like.

        Several shapes of one length are alternatives.
        """
        return tuple(dict.fromkeys(layout.shape for each in self._layouts.values() for layout, _ in each))

    def candidates(self, payload: bytes) -> Sequence[int]:
        """Numbers of the secrets that authenticate the payload; then those without HMAC whose shape fits."""
        found: list[int] = []
        for layout, kind in self._layouts.get(len(payload), ()):
            if not layout.fits(payload):
                continue
            if kind is None:
                found += [number for number, _, _ in self._groups[None]]
                continue
            sealed, tag = PREFIX + payload[: layout.tag], text64.decode(payload[layout.tag :])
            for number, inner, outer in self._groups[kind]:
                state = inner()
                state.update(sealed)
                whole = outer()
                whole.update(state.digest())
                if compare_digest(whole.digest(), tag):
                    found.append(number)
        return found


def _states(number: int, secret: Secret) -> tuple[int, Callable[[], _Hash], Callable[[], _Hash]]:
    """The HMAC's two hashes with the key already in them (RFC 2104, section 4)."""
    empty = hashlib.new(secret.hmac.value, usedforsecurity=False)
    key = secret.hmac_key or b""
    if len(key) > empty.block_size:
        key = hashlib.new(secret.hmac.value, key, usedforsecurity=False).digest()
    key = key.ljust(empty.block_size, b"\0")
    inner, outer = empty.copy(), empty
    inner.update(bytes(octet ^ 0x36 for octet in key))
    outer.update(bytes(octet ^ 0x5C for octet in key))
    return number, inner.copy, outer.copy
