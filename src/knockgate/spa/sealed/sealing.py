"""Around the message: HPKE, the mask that makes it look random, the tag that makes junk cheap.

A datagram is for one gate and of one of its cards. What is masked is the encapsulation alone: without it, an
X25519 share or an ML-KEM ciphertext is told from random bytes by anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from hmac import compare_digest

from knockgate.errors import Reason, Refused
from knockgate.spa.sealed.card import SECRET, Card
from knockgate.spa.sealed.keys import GateKey
from knockgate.spa.sealed.message import Message
from knockgate.spa.sealed.suites import TAG, Suite

__all__ = ["CardKeys", "opened", "seal", "unseal"]


class CardKeys:
    """What a card's secret is used for, on both sides. ValueError where it has not 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET:
            raise ValueError(f"a card's secret has {len(secret)} bytes; it must have {SECRET}")
        tag_key = hashlib.blake2s(key=secret, person=b"kg1-tagk").digest()
        # The key's block is hashed once, and the state is copied for each datagram.
        self._begin = hashlib.blake2s(key=tag_key, person=b"kg1-tag\0", digest_size=TAG).copy
        self._mask_key = hashlib.blake2s(key=secret, person=b"kg1-mskk").digest()

    def is_of(self, datagram: bytes) -> bool:
        """Whether somebody with this card made the datagram, all of it."""
        return compare_digest(self._tag(datagram[TAG:]), datagram[:TAG])

    def _tag(self, rest: bytes) -> bytes:
        state = self._begin()
        state.update(rest)
        return state.digest()

    def masked(self, encapsulation: bytes, message: bytes) -> bytes:
        """The encapsulation with its mask, or without it if it has one: the mask is of the sealed message."""
        size = len(encapsulation)
        mask = hashlib.shake_256(self._mask_key + message).digest(size)
        return (int.from_bytes(encapsulation) ^ int.from_bytes(mask)).to_bytes(size)

    def datagram(self, suite: Suite, sealed: bytes) -> bytes:
        """What goes on the wire for what HPKE has made."""
        encapsulation, message = sealed[: suite.encapsulation], sealed[suite.encapsulation :]
        rest = self.masked(encapsulation, message) + message
        return self._tag(rest) + rest


def seal(message: Message, card: Card, suite: Suite = Suite.XWING) -> bytes:
    """The datagram to send: 1,333 bytes, or 245 with X25519.

    Never the same twice, and no argument can make it so: the library draws HPKE's ephemeral keys itself. This
    is the one place under ``spa`` where randomness does not come in from outside.
    """
    sealed = suite.hpke.encrypt(message.encode(), card.recipient(suite), suite.info(card.gate))
    return CardKeys(card.secret).datagram(suite, sealed)


def opened(datagram: bytes, card: CardKeys, key: GateKey) -> bytes:
    """The 181 bytes of the message, whatever they say. Raises Refused.

    Public-key work: only for what ``CardKeys.is_of`` has found to be the card's.
    """
    suite = Suite.of(datagram)
    if suite is None:
        raise Refused(Reason.NOT_OURS)
    end = TAG + suite.encapsulation
    message = datagram[end:]
    return key.opened(suite, card.masked(datagram[TAG:end], message) + message)


def unseal(datagram: bytes, card: CardKeys, key: GateKey, suites: Container[Suite] = tuple(Suite)) -> Message:
    """Everything but the signature: length, tag, HPKE, fields. Raises Refused."""
    if Suite.of(datagram) not in suites or not card.is_of(datagram):
        raise Refused(Reason.NOT_OURS)
    return Message.decode(opened(datagram, card, key))
