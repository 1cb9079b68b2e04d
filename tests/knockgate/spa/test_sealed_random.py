"""Masked datagrams look random to whoever has no card; the same eyes tell unmasked ones.

What gives an unmasked encapsulation away:

* an X25519 share is below 2**255, and on the curve; half of all numbers are not (RFC 7748, section 4.1);
* ML-KEM-768 rounds numbers below 3329 to 10 bits (FIPS 203, section 4.2.1), so that 257 of the 1024 values
  come from four numbers and the others from three: of 768 coefficients 237 have one of the 257, of random
  ones 193.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.knockgate.spa.sealed_messages import CARD, CARD_KEYS, MESSAGE, refusal

from knockgate.spa.sealed import Suite, seal

Eye = Callable[[bytes], bool]  # whether it takes an encapsulation for one

_SAMPLES = 1000  # of each; chance is right in 50 % of the cases, +- 1.1

_PRIME = 2**255 - 19
_Q = 3329
_PREIMAGES = [0] * 1024
for _number in range(_Q):
    _PREIMAGES[(_number * 1024 + _Q // 2) // _Q % 1024] += 1
_HEAVY = frozenset(value for value, count in enumerate(_PREIMAGES) if count == 4)
_BORDER = 768 * (4 * len(_HEAVY) / _Q + len(_HEAVY) / 1024) / 2


def is_share(encapsulation: bytes) -> bool:
    """The last 32 bytes, which are X25519's in both suites."""
    u = int.from_bytes(encapsulation[-32:], "little")
    if u >= _PRIME:
        return False
    return pow(u * (u * u + 486662 * u + 1), (_PRIME - 1) // 2, _PRIME) in {0, 1}


def is_ciphertext(encapsulation: bytes) -> bool:
    """The first 960 bytes, which are ML-KEM's u: four coefficients in each five, low bits first."""
    heavy = 0
    for at in range(0, 960, 5):
        four = int.from_bytes(encapsulation[at : at + 5], "little")
        for shift in (0, 10, 20, 30):
            heavy += (four >> shift & 0x3FF) in _HEAVY
    return heavy > _BORDER


def accuracy(eye: Eye, shown: list[bytes]) -> float:
    """How often it is right about these and as many random bytes."""
    right = sum(eye(each) for each in shown)
    right += sum(not eye(os.urandom(len(each))) for each in shown)
    return right / (2 * len(shown))


def knocks(suite: Suite) -> tuple[list[bytes], list[bytes]]:
    """Encapsulations as they are on the wire, and the same ones without their mask."""
    end = 16 + suite.encapsulation
    datagrams = [seal(MESSAGE, CARD, suite) for _ in range(_SAMPLES)]
    assert refusal(datagrams[0]) is None
    masked = [each[16:end] for each in datagrams]
    return masked, [CARD_KEYS.masked(each[16:end], each[end:]) for each in datagrams]


def test_there_are_as_many_heavy_values_as_arithmetic_says() -> None:
    assert len(_HEAVY) == _Q - 3 * 1024 == 257
    assert set(_PREIMAGES) == {3, 4}


def test_the_small_suite() -> None:
    masked, bare = knocks(Suite.X25519)
    assert all(is_share(each) for each in bare)
    assert 0.84 < accuracy(is_share, bare) < 0.91  # a quarter of all random bytes is one too
    assert 0.44 < accuracy(is_share, masked) < 0.56


def test_the_default_suite() -> None:
    masked, bare = knocks(Suite.XWING)
    assert 0.94 < accuracy(is_ciphertext, bare) < 0.985
    assert 0.44 < accuracy(is_ciphertext, masked) < 0.56
    assert all(is_share(each) for each in bare)
    assert 0.44 < accuracy(is_share, masked) < 0.56


def test_each_byte_of_a_datagram_takes_each_value() -> None:
    """Of 256 values a thousand random bytes have 251. The last byte of a bare share has half of them."""
    for suite in Suite:
        end = 16 + suite.encapsulation
        datagrams = [seal(MESSAGE, CARD, suite) for _ in range(_SAMPLES)]
        values = [len({each[at] for each in datagrams}) for at in range(suite.length)]
        assert min(values) > 235
        last = {CARD_KEYS.masked(each[16:end], each[end:])[-1] for each in datagrams}
        assert len(last) <= 128
