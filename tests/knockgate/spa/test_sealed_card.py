"""A card that is nearly right, and what is said of it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from knockgate.spa.sealed import Card, GateKey

# The last letter of its text has two bits that say nothing; here it is 8, and + and / differ in those alone.
CARD = GateKey(xwing_seed=bytes(32), x25519_key=bytes(32)).card(bytes(31) + b"\x0f")


@pytest.mark.parametrize("name", ["xwing", "x25519", "secret"])
def test_no_key_of_it_is_longer_or_shorter(name: str) -> None:
    octets = getattr(CARD, name)
    assert dataclasses.replace(CARD, **{name: octets}) == CARD
    for other in (octets + b"x", octets[:-1]):
        with pytest.raises(ValueError, match="length of a card"):
            dataclasses.replace(CARD, **{name: other})


@pytest.mark.parametrize("letter", "9+/")
def test_there_is_one_spelling(letter: str) -> None:
    text = CARD.text()
    assert text.endswith("8=") and Card.parse(text) == CARD
    with pytest.raises(ValueError, match="damaged"):
        Card.parse(f"{text[:-2]}{letter}=")


def test_it_is_told_what_is_wrong_with_it() -> None:
    text = CARD.text()
    for damaged, said in {
        text[:-2]: "cut off after 1,724 of 1,726 characters",
        text[:-1] + "AAAAA": "it holds 1284 bytes; a card has 1280",
        text[:50] + "!" + text[50:]: "something else than base64",
    }.items():
        with pytest.raises(ValueError, match=re.escape(said)):
            Card.parse(damaged)


def test_nothing_of_it_is_shown_by_chance() -> None:
    assert repr(CARD) == "Card()"
