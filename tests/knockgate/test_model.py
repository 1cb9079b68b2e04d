from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.model import address_text, source_of

SOURCES = st.sampled_from([4, 8, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@given(SOURCES)
def test_the_text_of_a_source_is_read_as_it_was_written(source: bytes) -> None:
    assert source_of(address_text(source)) == source
    assert address_text(source).endswith("/64") is (len(source) == 8)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("c0000207", "192.0.2.7"),
        ("20010db8000100020000000000000007", "2001:db8:1:2::7"),
        ("20010db800010002", "2001:db8:1:2::/64"),
        ("20010db800000000", "2001:db8::/64"),
        ("20010db8000100020000000000000000", "2001:db8:1:2::"),
        ("0000000000000000", "::/64"),
    ],
)
def test_how_a_source_is_written(source: str, text: str) -> None:
    assert address_text(bytes.fromhex(source)) == text
    assert source_of(text) == bytes.fromhex(source)


@pytest.mark.parametrize("size", [0, 1, 5, 7, 9, 15, 17])
def test_other_sizes_are_no_source(size: int) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        address_text(bytes(size))


@pytest.mark.parametrize(
    "text",
    ["2001:db8::1/64", "2001:db8::/48", "2001:db8::/064", "192.0.2.0/64", "fe80::1%x", "fe80::%x/64"],
)
def test_another_text_is_no_source(text: str) -> None:
    assert source_of("2001:db8::/64")  # the control
    with pytest.raises(ValueError, match=re.escape(text.removesuffix("/64"))):
        source_of(text)
