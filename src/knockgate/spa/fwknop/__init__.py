"""fwknop's packet, protocol 3.0.0, both ways.

::

    fields  nonce : user : seconds : version : type : message [: nat] [: server auth] [: timeout]
    plain   fields : hash of fields                             ``fields.py``
    sealed  "Salted__", salt (8 bytes), AES-256 of plain        ``sealing.py``
    wire    base64 of sealed without its first 10 characters, then base64 of their HMAC

    8BAgMEBQYHCCS9gyDLUSX7RXY0...gGHZlI7CinsIsNlmsH9ks7/8i/Nneh6obc0fjmAkBPolMmRyApwL9x33cxTrPY7DVB/0q9I99R6ohY
    ^ 8, 9, + or /                          sealed              here ^ begins the HMAC

A packet does not say whose it is, nor with which hash and mode it was made: those belong to the secret, and
a gate with many secrets tries them all (``keyring.py``).

Wherever fwknop takes two spellings for one thing, here is one: docs/reference/fwknop-packet.md has the list.
Base64 is without padding throughout, and without bits that say nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from knockgate.spa.fwknop.secret import Hash, Mode, Secret

if TYPE_CHECKING:
    from knockgate.spa.fwknop.fields import Message, MessageType
    from knockgate.spa.fwknop.keyring import Keyring
    from knockgate.spa.fwknop.layout import Shape
    from knockgate.spa.fwknop.sealing import Unsealed, seal, unseal
else:
    # Every command needs the names of hashes and modes, and few need the codec and `cryptography` under it.
    _HOMES = {
        "Keyring": "keyring",
        "Message": "fields",
        "MessageType": "fields",
        "Shape": "layout",
        "Unsealed": "sealing",
        "seal": "sealing",
        "unseal": "sealing",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "Hash",
    "Keyring",
    "Message",
    "MessageType",
    "Mode",
    "Secret",
    "Shape",
    "Unsealed",
    "seal",
    "unseal",
]
