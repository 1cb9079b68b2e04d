"""What can be read in a knock: found wherever it stands, and not where it does not."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockdemo.lab.reading import alike, forms_of_address, forms_of_key, in_common, named
from knockdemo.observer import Passing, in_words

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM0Us3+VbpUxlP9/tzs9gdzFYdYadTgJS3w+GmQ+5fOq client\n"
#: What `ssh-keygen -l` shows of it, without "SHA256:".
SHOWN = b"WYVlk+8XVFukHEjKChPLOLAwJwj7UteXH9EvSwtKkww"
WORDS = {"address": forms_of_address("192.0.2.2"), "door": [b"sealed"], "key": forms_of_key(PUBLIC)}


def datagram(payload: bytes, port: int = 62204) -> Passing:
    return Passing(1.0, "192.0.2.2", "192.0.2.1", "udp", 40000, port, False, payload.hex())


def syn(port: int) -> Passing:
    return Passing(1.0, "192.0.2.2", "192.0.2.1", "tcp", 40000, port, False, "")


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30), st.data())
def test_longest_run_is_what_a_slow_search_finds(
    a: bytes, b: bytes, common: bytes, data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from([a + common, common + a, common]))
    other = data.draw(st.sampled_from([b + common, common + b, common]))
    runs = [one[i:j] for i in range(len(one)) for j in range(i, len(one) + 1)] if one.strip(b"\0") else []
    slow = max((len(run) for run in runs if run in other), default=0) if other.strip(b"\0") else 0
    assert in_common([datagram(one)], [datagram(other)]) == slow
    if one.strip(b"\0") and other.strip(b"\0") and common in one and common in other:
        assert slow >= len(common)


def test_knocks_are_alike_packet_for_packet() -> None:
    assert alike([syn(7000), syn(8000)], [syn(7000), syn(8000)])
    assert not alike([syn(7000), syn(8000)], [syn(8000), syn(7000)])
    assert not alike([datagram(b"one")], [datagram(b"two")])
    assert in_common([syn(7000)], [syn(7000)]) == 0


NOISE = random.Random(5).randbytes(600)


@pytest.mark.parametrize(
    ("what", "spelled"),
    [
        ("address", b"192.0.2.2"),
        ("address", bytes([192, 0, 2, 2])),
        ("door", b"sealed"),
        ("key", base64.b64decode(PUBLIC.split()[1])),
        ("key", base64.b64decode(SHOWN + b"=")),
        ("key", SHOWN),
    ],
)
@pytest.mark.parametrize("spell", [bytes, base64.b64encode, lambda octets: b"x" + base64.b64encode(octets)])
def test_word_is_found_in_what_the_packet_carries(
    what: str, spelled: bytes, spell: Callable[[bytes], bytes]
) -> None:
    assert named([datagram(spell(NOISE + spelled + NOISE))], WORDS) == [what]
    assert named([datagram(spell(NOISE + NOISE))], WORDS) == []


def test_knock_that_carries_nothing_names_nothing() -> None:
    assert named([syn(7400), datagram(b"\0", 7500), syn(7600)], WORDS) is None


def test_ipv6_addresses_are_spelled_both_ways() -> None:
    text, packed = forms_of_address("2001:db8::2")
    assert (text, packed) == (b"2001:db8::2", bytes.fromhex("20010db8" + "00" * 11 + "02"))


def test_packet_that_is_no_text_is_shown_in_hexadecimal() -> None:
    assert in_words(datagram(b"\xff" * 8 + b"abc")) == "udp/62204, 11 bytes: ffffffffffffffff…6263"
    assert in_words(datagram(b"U2VhbGVkIGtub2NrIQ==")) == "udp/62204, 20 bytes: U2VhbGVkIGtub2Nr…IQ=="
    assert in_words(datagram(b"\0", 7500)) == "udp/7500"
