"""SSH's own data types (RFC 4251, section 5), as far as keys and signatures need them."""

from __future__ import annotations

import binascii

__all__ = ["Reader", "base64_decoded", "mpint", "string", "uint32"]


class Reader:
    """Takes values off the front of some octets. Every method raises ValueError where they do not suffice."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` octets."""
        end = self._at + size
        if end > len(self._octets):
            raise ValueError("cut off")
        taken, self._at = self._octets[self._at : end], end
        return taken

    def byte(self) -> int:
        """0 to 255."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """0 to 2^32-1."""
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        """Octets with their number in front."""
        return self.take(self.uint32())

    def positive(self) -> int:
        """An mpint that is not negative; zeros in front are let pass, as in OpenSSH."""
        octets = self.string()
        if octets[:1] >= b"\x80":
            raise ValueError("a negative number")
        return int.from_bytes(octets)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._octets):
            raise ValueError("something follows")


def uint32(number: int) -> bytes:
    """Four octets."""
    return number.to_bytes(4)


def string(octets: bytes) -> bytes:
    """The octets with their number in front."""
    return uint32(len(octets)) + octets


def mpint(number: int) -> bytes:
    """A number from 0 on, with its octets' number in front."""
    return string(number.to_bytes((number.bit_length() + 8) // 8) if number else b"")


def base64_decoded(text: bytes) -> bytes:
    """RFC 4648, section 4, padded, without a bit that says nothing; ValueError."""
    octets = binascii.a2b_base64(text)
    if binascii.b2a_base64(octets, newline=False) != text:
        raise ValueError("not in the canonical form")
    return octets
