"""Base64 as it stands in the packet: RFC 4648, section 4, without padding, in the one canonical form."""

from __future__ import annotations

import binascii

__all__ = ["ALPHABET", "decode", "encode", "last_characters", "length"]

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def encode(octets: bytes) -> bytes:
    """``length(len(octets))`` characters."""
    return binascii.b2a_base64(octets, newline=False).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """What ``encode`` made into ``text``; ValueError for anything else, such as padding or spare bits set."""
    octets = binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    if encode(octets) != text:
        raise ValueError("not in the canonical form")
    return octets


def length(size: int) -> int:
    """Characters that ``size`` octets take."""
    return (size * 8 + 5) // 6


def last_characters(size: int) -> bytes:
    """The characters that the text of ``size`` octets can end in: its spare bits are zero."""
    return ALPHABET[:: 1 << -size * 8 % 6]
