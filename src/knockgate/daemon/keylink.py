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

import contextlib
import enum
import hashlib
import os
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from knockgate.config import private
from knockgate.config.places import LARGEST_SECRETS, KeyFile, Places
from knockgate.config.strictmodes import Seen, Trouble
from knockgate.daemon.link import Surprise
from knockgate.daemon.ward import BeginAnew, Gone
from knockgate.errors import ConfigError, Unavailable

__all__ = ["MOST_FILES", "REQUEST_SIZE", "Kept", "Reply", "Request", "Status", "Verb", "checksum_of"]

_MAGIC, _VERSION = b"KK", 1
_REQUEST, _REPLY = struct.Struct("!2sBBI16s"), struct.Struct("!2sBBI128s240s240s")
REQUEST_SIZE = _REQUEST.size
#: Files of ssh keys that there are bits for.
MOST_FILES = 128 * 8
_SAYS = 240
#: Seconds for an answer.
_PATIENCE = 15.0


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
        return cls(Status(status), index, changed, *texts)


def _octets(text: str) -> bytes:
    line = "".join(each if each.isprintable() else " " for each in text)
    return line.encode(errors="replace")[:_SAYS].decode(errors="ignore").encode()


class Kept:
    """The listener's end: satisfies ``keyfiles.Reading``, and reads files of secrets.

    Every verb raises Gone where the keeper is not there any more, and BeginAnew where gate.toml names other
    files by now.
    """

    def __init__(self, path: str, places: Places) -> None:
        """Raises Unavailable where there is no keeper, or more files than it looks at."""
        if len(places.keys) > MOST_FILES:
            raise Unavailable(f"{len(places.keys)} files of ssh keys", hint=f"{MOST_FILES} are possible")
        self._checksum = checksum_of(places)
        self._keys = {place: index for index, place in enumerate(places.keys)}
        self._secrets = {path: index for index, path in enumerate(places.secrets)}
        self._changed: Collection[int] = ()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            message = f"cannot reach the keeper at {path}: {error.strerror or error}"
            raise Unavailable(message, hint="systemctl status knockgate-keeper") from None

    def look(self) -> None:
        """Ask which files may have changed."""
        if self._keys:
            reply, _ = self._ask(Verb.LOOK, 0)
            self._changed = reply.changed

    def is_so(self, place: KeyFile, seen: Seen) -> bool:
        """Whether it is as it was handed out, or as missing; as of the last look."""
        return seen != Seen() and self._keys[place] not in self._changed

    def read(self, place: KeyFile) -> tuple[bytes, Seen]:
        """What is in it; raises Trouble."""
        from knockgate.spa.sshkeys.files import MOST_OCTETS  # noqa: PLC0415 - the keeper has no codec

        reply, file = self._ask(Verb.KEYS, self._keys[place])
        if file is None:
            raise Trouble(reply.says, reply.hint or None, is_missing=reply.status is Status.MISSING)
        try:
            # Whether it changes from now on is the keeper's to see.
            return os.read(file, MOST_OCTETS + 1), _HANDED_OUT
        except OSError as error:
            raise Trouble(f"cannot be read: {error.strerror}", None) from None
        finally:
            os.close(file)

    def contents(self, path: Path) -> bytes:
        """What is in a file of secrets; raises ConfigError."""
        reply, file = self._ask(Verb.SECRETS, self._secrets[str(path)])
        if file is None:
            raise ConfigError(reply.says, hint=reply.hint or None)
        try:
            return private.content_of(file, path, LARGEST_SECRETS)
        finally:
            os.close(file)

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def _ask(self, verb: Verb, index: int) -> tuple[Reply, int | None]:
        """The answer, and a descriptor where there is one."""
        try:
            self._socket.send(Request(verb, index, self._checksum).encode())
            message, files, _, _ = socket.recv_fds(self._socket, _REPLY.size + 1, 1)
        except OSError as error:
            raise Gone(f"the keeper is gone: {error.strerror or error}") from None
        file = files[0] if files else None
        try:
            if not message:
                raise Gone("the keeper is gone")
            reply = Reply.decode(message)
            if reply.status is Status.OTHER_CONFIGURATION:
                raise BeginAnew
            if reply.index != index or (file is None) != (
                verb is Verb.LOOK or reply.status is not Status.DONE
            ):
                raise Surprise("an answer of the keeper's to something else")
        except BaseException:
            with contextlib.suppress(TypeError):
                os.close(file)  # type: ignore[arg-type] # there may be none
            raise
        return reply, file


#: Stands for a file that the keeper watches.
_HANDED_OUT = Seen(is_missing=True)
