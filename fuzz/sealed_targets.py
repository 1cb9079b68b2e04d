"""What is fuzzed of our own packet: the message that somebody with a card has sealed, and the card's text.

As in ``targets``, a target takes any bytes, and what it raises is a mistake of ours.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa.sealed_messages import shown

from fuzz.targets import Mistake
from knockgate.errors import Reason, Refused
from knockgate.spa.sealed import Card, GateKey, Message

__all__ = ["CARD", "TARGETS"]

CARD = GateKey(xwing_seed=bytes(32), x25519_key=bytes(32)).card(bytes(range(32)))
_FIRST, _, _REST = CARD.text().partition(" ")
_OCTETS = base64.b64decode(_REST)


def message(octets: bytes) -> None:
    """What HPKE has opened, beside what the second reader says of it."""
    try:
        opened = Message.decode(octets)
    except Refused as refused:
        if refused.reason is not Reason.MALFORMED:
            raise Mistake("another reason than there is") from refused
        if _second(octets) is not None:
            raise Mistake("the second reader takes it") from refused
        return
    if opened.encode() != octets:
        raise Mistake("there are two spellings for one message")
    if _second(octets) != shown(opened):
        raise Mistake("the second reader says otherwise")


def _second(octets: bytes) -> dict[str, object] | None:
    if len(octets) != 181:  # which it is never given
        return None
    try:
        return oracle.parse(octets)
    except oracle.No:
        return None


def card(octets: bytes) -> None:
    """A text; or a right card in which something was changed somewhere, as text or as octets."""
    if len(octets) < 3:
        return
    how, at, new = octets[0] % 3, int.from_bytes(octets[1:3]), octets[3:]
    if how == 0:
        text = new.decode("utf-8", "surrogateescape")
    elif how == 1:
        right = CARD.text().encode()
        text = (right[:at] + new + right[at + len(new) :]).decode("utf-8", "surrogateescape")
    else:
        changed = _OCTETS[:at] + new + _OCTETS[at + len(new) :]
        text = f"{_FIRST} {base64.b64encode(changed).decode()}"
    _read(text)


def _read(text: str) -> None:
    try:
        found = Card.parse(text)
    except ValueError as error:
        if CARD.text()[18:50] in str(error):
            raise Mistake("the text of a card is repeated") from error
        return
    if found.text() != text.strip():
        raise Mistake("there are two spellings for one card")


TARGETS: dict[str, Callable[[bytes], None]] = {"message": message, "card": card}
