"""What a payload looks like from outside, before any key is tried.

Its length says how many blocks are sealed, given the hash of the HMAC. The first character is the rest of
what is constant and two bits of the salt. The last ones of the sealed text and of the HMAC end on spare bits.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from knockgate.spa.fwknop import fields, text64
from knockgate.spa.fwknop.secret import Hash, Secret

__all__ = ["BLOCK", "PREFIX", "Layout", "Shape", "layouts"]

#: What every sealed text begins with, as far as it says nothing: it is not sent.
PREFIX = b"U2FsdGVkX1"
BLOCK = 16  #: bytes of AES
_FIRST = b"89+/"
_SHORTEST = 140  # fwknopd takes nothing below


class Shape(NamedTuple):
    """What a payload looks like from outside: for the kernel's filter."""

    length: int
    octets: tuple[tuple[int, bytes], ...]  #: (offset, the values that are possible there)


class Layout(NamedTuple):
    """A shape, and where in it the HMAC begins: at its end where there is none."""

    shape: Shape
    tag: int

    def fits(self, payload: bytes) -> bool:
        """Whether a payload of that length can be one: base64 that is canonical in both its parts."""
        for offset, values in self.shape.octets:
            if payload[offset] not in values:
                return False
        return not payload.translate(None, delete=text64.ALPHABET)


def layouts(secret: Secret) -> dict[int, Layout]:
    """All that its packets can look like, by their length."""
    return _layouts(0 if secret.hmac_key is None else secret.hmac.size)


@functools.cache
def _layouts(tag_size: int) -> dict[int, Layout]:
    shortest = fields.SHORTEST + 1 + text64.length(min(each.size for each in Hash))
    longest = fields.LONGEST + 1 + text64.length(max(each.size for each in Hash))
    found = {}
    for blocks in range(shortest // BLOCK + 1, longest // BLOCK + 2):
        size = (1 + blocks) * BLOCK  # the first one is "Salted__" and the salt
        tag = text64.length(size) - len(PREFIX)
        length = tag + text64.length(tag_size)
        octets = {0: _FIRST, tag - 1: text64.last_characters(size)}
        if tag_size:
            octets[length - 1] = text64.last_characters(tag_size)
        if length >= _SHORTEST:
            narrow = tuple((at, values) for at, values in octets.items() if values != text64.ALPHABET)
            found[length] = Layout(Shape(length, narrow), tag)
    return found
