from __future__ import annotations

import base64

import pytest
from bench.junk import frames, payloads
from bench.packets import _checksum

from knockgate.spa.fwknop import Keyring, Secret

SECRET = Secret(bytes(32), bytes(64))
#: Two that end in characters with spare bits, and one whose text does not.
LENGTHS = [204, 183, 225]


@pytest.mark.parametrize("length", LENGTHS)
def test_mimic_junk_has_the_shape_of_a_packet_and_random_junk_has_not(length: int) -> None:
    (shape,) = (each for each in Keyring([SECRET]).shapes if each.length == length)
    mimic, other = (payloads(kind, 2000, length) for kind in ("mimic", "random"))
    fitting = {"mimic": 0, "random": 0}
    for kind, text in (("mimic", mimic), ("random", other)):
        for at in range(0, len(text), length):
            each = text[at : at + length]
            fitting[kind] += all(each[offset] in octets for offset, octets in shape.octets)
    assert fitting["mimic"] == 2000 and fitting["random"] < 100
    assert base64.b64decode(mimic[:200], validate=True)
    assert len({bytes(mimic[at : at + length]) for at in range(0, len(mimic), length)}) == 2000


def test_a_length_that_no_packet_has() -> None:
    with pytest.raises(ValueError, match="no packet has 202"):
        payloads("mimic", 1, 202)


def test_junk_comes_from_everywhere_and_its_checksums_hold() -> None:
    text, size = frames("mimic", 5000, 204, (bytes(6), bytes(6)), "192.0.2.1", 62201)
    each = [bytes(text[at : at + size]) for at in range(0, len(text), size)]
    assert len({frame[26:30] for frame in each}) == len(each) == 5000
    assert all(_checksum(frame[14:34]) == 0 for frame in each)
    assert all(frame[34 + 6 : 34 + 8] == b"\0\0" for frame in each)  # RFC 768: none
