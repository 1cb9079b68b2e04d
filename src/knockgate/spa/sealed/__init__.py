"""Our packet, version 1: sealed to a gate, signed with an SSH key, one datagram. docs/spec/spa-v1.md.

::

    datagram   tag (16) | encapsulation, masked (1120 or 32) | sealed message (181 + 16)    ``sealing.py``

    message     0  kind of key (1)                                                          ``message.py``
                1  kind of source (1)
                2  era (2)
                4  lease in seconds (4)
                8  issued, in nanoseconds since 1970 (8)
               16  device (16)
               32  address (16)
               48  doors (32)
               80  SHA-256 of the SSH public key (32)
        head  -------------------------------------
              112  signature (64)
              176  flags of a token (1)
              177  counter of a token (4)
              181

What a client needs in order to knock is the gate's card, a line of text (``card.py``); who may come in, the
signature decides, over the head and the gate's id. Neither SSH keys nor signatures are looked into here.

A gate goes by steps, the cheap ones first, and has work of its own between them: ``CardKeys.is_of`` (one
hash, for each card), ``opened`` (public-key work), ``Message.decode``. ``unseal`` is all three.
"""

from __future__ import annotations

from knockgate.spa.sealed.card import Card, NewerCard, gate_fingerprint
from knockgate.spa.sealed.device import device_id, device_row
from knockgate.spa.sealed.keys import GateKey
from knockgate.spa.sealed.message import Head, KeyKind, Message, SourceKind, signed_bytes
from knockgate.spa.sealed.sealing import CardKeys, opened, seal, unseal
from knockgate.spa.sealed.suites import Suite

__all__ = [
    "Card",
    "CardKeys",
    "GateKey",
    "Head",
    "KeyKind",
    "Message",
    "NewerCard",
    "SourceKind",
    "Suite",
    "device_id",
    "device_row",
    "gate_fingerprint",
    "opened",
    "seal",
    "signed_bytes",
    "unseal",
]
