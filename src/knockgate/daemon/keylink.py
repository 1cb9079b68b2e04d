"""What is said to the keeper, which opens the files that keys name for a listener that may not.

Fixed-size messages over a SOCK_SEQPACKET socket, all numbers in network order. A file is named by its number
among those that gate.toml names (``config.places``), which both sides have read, never by a path::

    request, 24     "KK" version verb | index | checksum 16
    reply, 616      "KK" version status | index | changed 128 | says 240 | hint 240

``KEYS`` and ``SECRETS`` are answered with the open file's descriptor: the keeper reads nothing out of it.
``LOOK`` is answered with a bit for each file of ssh keys that may have changed since it was handed out over
this connection, the first in the lowest bit of the first byte. So whoever is taken out of a file comes in no
more from that moment on, as if the listener looked itself.

What does not decode raises ``Surprise``, as in ``link``.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass

from knockgate.config.places import Places
from knockgate.daemon.link import Surprise

__all__ = ["MOST_FILES", "REPLY_SIZE", "REQUEST_SIZE", "Reply", "Request", "Status", "Verb", "checksum_of"]

_MAGIC, _VERSION = b"KK", 1
_REQUEST, _REPLY = struct.Struct("!2sBBI16s"), struct.Struct("!2sBBI128s240s240s")
REQUEST_SIZE, REPLY_SIZE = _REQUEST.size, _REPLY.size
#: Files of ssh keys that there are bits for.
MOST_FILES = 128 * 8
_SAYS = 240


class Verb(enum.IntEnum):
    """All that the keeper can be asked for."""

    LOOK = 1  #: which files of ssh keys may have changed
    KEYS = 2  #: that file of ssh keys
    SECRETS = 3  #: that file of fwknop's secrets


class Status(enum.IntEnum):
    """How it went."""

    DONE = 0
    OTHER_CONFIGURATION = 1  #: gate.toml names other files than the one who asks thinks
    TROUBLE = 2  #: the file cannot be used; ``says`` why
    MISSING = 3  #: the same: it is not there


def checksum_of(places: Places) -> bytes:
    """The same on both sides where they mean the same files; 16 bytes."""
    return hashlib.sha256(repr(tuple(places)).encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class Request:
    """One file, or a look at all."""

    verb: Verb
    index: int
    checksum: bytes

    def encode(self) -> bytes:
        """24 bytes."""
        return _REQUEST.pack(_MAGIC, _VERSION, self.verb, self.index, self.checksum)

    @classmethod
    def decode(cls, message: bytes) -> Request:
        """Raises Surprise for anything that ``encode`` does not make."""
        if len(message) != _REQUEST.size:
            raise Surprise(f"a request of {len(message)} bytes")
        magic, version, verb, index, checksum = _REQUEST.unpack(message)
        if (magic, version) != (_MAGIC, _VERSION) or verb not in set(Verb):
            raise Surprise("a request of another make")
        return cls(Verb(verb), index, checksum)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request."""

    status: Status
    index: int = 0
    changed: frozenset[int] = frozenset()
    says: str = ""
    hint: str = ""

    def encode(self) -> bytes:
        """616 bytes; texts are cut to what fits."""
        bits = sum(1 << index for index in self.changed).to_bytes(MOST_FILES // 8, "little")
        return _REPLY.pack(
            _MAGIC, _VERSION, self.status, self.index, bits, _octets(self.says), _octets(self.hint)
        )

    @classmethod
    def decode(cls, message: bytes) -> Reply:
        """Raises Surprise for anything that ``encode`` does not make."""
        if len(message) != _REPLY.size:
            raise Surprise(f"a reply of {len(message)} bytes")
        magic, version, status, index, bits, says, hint = _REPLY.unpack(message)
        if (magic, version) != (_MAGIC, _VERSION) or status not in set(Status):
            raise Surprise("a reply of another make")
        number = int.from_bytes(bits, "little")
        changed = (
            frozenset(index for index in range(MOST_FILES) if number >> index & 1) if number else frozenset()
        )
        try:
            texts = [text.rstrip(b"\0").decode() for text in (says, hint)]
        except ValueError:
            raise Surprise("a reply that cannot be read") from None
        if not all(map(str.isprintable, texts)):
            raise Surprise("a reply that cannot be printed")
        return cls(Status(status), index, changed, *texts)


def _octets(text: str) -> bytes:
    line = "".join(each if each.isprintable() else " " for each in text)
    return line.encode(errors="replace")[:_SAYS].decode(errors="ignore").encode()
