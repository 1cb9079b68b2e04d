"""What is said to the warden: fixed-size messages, closed verbs, over a SOCK_SEQPACKET socket.

A request names a door by its number in the configuration that both sides have read, never a port, a rule
or a command, and carries that configuration's checksum. All numbers are in network order::

    request, 48     "KG" version verb | number | door length 0 | milliseconds | checksum 16 | source 16
    reply, 256      "KG" version status | number | value | owned 0 0 0 | says 240

``length`` is that of the source: 4, 16, 8 for an IPv6 /64, or 0 for none; what is left of a field is zero. A
reply repeats its request's number. Number 0 is a notice, which the warden sends unasked.

What does not decode raises ``Surprise``: the two sides are of one make, so it is a bug or an attack, and
whoever meets it ends the conversation.
"""

from __future__ import annotations

import enum
import os
import pwd
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from knockgate.daemon import notify
from knockgate.daemon.arguments import Parser
from knockgate.daemon.sockets import accepted
from knockgate.errors import Unavailable

__all__ = [
    "ANY_CHECKSUM",
    "BEGIN_ANEW",
    "COULD_NOT_START",
    "EVERY_DOOR",
    "LONGEST_BY_HAND",
    "LONGEST_PAUSE",
    "REPLY_SIZE",
    "REQUEST_SIZE",
    "Reply",
    "Request",
    "Status",
    "Surprise",
    "Verb",
    "add_pause",
    "admitted",
    "cannot_start",
    "is_ours",
    "number_of",
]

_MAGIC, _VERSION = b"KG", 1
_REQUEST = struct.Struct("!2sBBIHBBI16s16s")
_REPLY = struct.Struct("!2sBBIIB3s240s")
_UCRED = struct.Struct("=iII")  # pid, uid, gid (unix(7))
REQUEST_SIZE, REPLY_SIZE = _REQUEST.size, _REPLY.size
_SAYS = 240

#: Exit status of a half that cannot do its work here, and has said why.
COULD_NOT_START = 2
#: Exit status of a half that wants to be started again, to read the configuration that is in force.
BEGIN_ANEW = 75
#: For ``reload``: whatever the file says now is wanted.
ANY_CHECKSUM = bytes(16)
#: In place of a door's number, for ``close`` and ``pause``.
EVERY_DOOR = 0xFFFF
#: Seconds that a lease given by hand may last.
LONGEST_BY_HAND = 30 * 86400
#: Seconds that a door may be paused: who wants it open for longer says so in its configuration.
LONGEST_PAUSE = 86400


class Surprise(Exception):
    """A message that the other side never sends."""


class Verb(enum.IntEnum):
    """All that the warden can be asked for. Of these its listener has ping, leases, open and hear."""

    PING = 1  #: is it there; the reply tells the facts about the table
    LEASES = 2  #: how many are live: ``value``
    OPEN = 3  #: begin or renew ``source``'s leases for a door
    CLOSE = 4  #: end leases, of ``source`` or (none given) of everybody; ``value`` tells how many
    RELOAD = 5  #: read the configuration again and put it in force, if it has the checksum
    HEAR = 6  #: the reply brings the descriptor that the kernel reports to
    PAUSE = 7  #: let everybody in for ``milliseconds``, or (0) no longer; ``value`` tells at how many ports


class Status(enum.IntEnum):
    """How it went; ``says`` has more for people."""

    DONE = 0
    OTHER_CONFIGURATION = (
        1  #: the checksum differs; nothing was done. As a notice: begin anew and read it again
    )
    NO_SUCH_DOOR = 2
    NOT_ALLOWED = 3  #: not over this socket, not this door, or not for so long
    KERNEL = 4  #: the kernel refused
    BAD_CONFIGURATION = 5  #: what was to be reloaded is wrong; nothing changed


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to be done by the warden."""

    verb: Verb
    number: int = 0  #: 0 to 2**32 - 1
    door: int = EVERY_DOOR
    source: bytes = b""  #: 4, 8 (an IPv6 /64) or 16 bytes, or none
    milliseconds: int = 0  #: how long the lease lasts: by hand, or for a key; 0 is the door's own
    checksum: bytes = ANY_CHECKSUM

    def encode(self) -> bytes:
        """48 bytes."""
        return _REQUEST.pack(
            _MAGIC,
            _VERSION,
            self.verb,
            self.number,
            self.door,
            len(self.source),
            0,
            self.milliseconds,
            self.checksum,
            self.source,
        )

    @classmethod
    def decode(cls, message: bytes) -> Request:
        """Raises Surprise for anything that ``encode`` does not make."""
        if len(message) != _REQUEST.size:
            raise Surprise(f"a request of {len(message)} bytes")
        magic, version, verb, number, door, length, zero, milliseconds, checksum, source = _REQUEST.unpack(
            message
        )
        if (magic, version, zero) != (_MAGIC, _VERSION, 0):
            raise Surprise("a request of another make")
        if length not in (0, 4, 8, 16) or any(source[length:]):
            raise Surprise("a request for no address")
        try:
            return cls(Verb(verb), number, door, source[:length], milliseconds, checksum)
        except ValueError:
            raise Surprise(f"a request with verb {verb}") from None


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request, or a notice."""

    status: Status
    number: int = 0
    value: int = 0  #: a count, where the verb has one; for ping and notices: how often the table was put back
    owned: bool = False  #: whether nobody else can change the table
    says: str = ""  #: one line, cut to what fits

    def encode(self) -> bytes:
        """256 bytes."""
        line = "".join(character if character.isprintable() else " " for character in self.says)
        says = line.encode(errors="replace")[:_SAYS].decode(errors="ignore").encode()
        return _REPLY.pack(_MAGIC, _VERSION, self.status, self.number, self.value, self.owned, bytes(3), says)

    @classmethod
    def decode(cls, message: bytes) -> Reply:
        """Raises Surprise for anything that ``encode`` does not make."""
        if len(message) != _REPLY.size:
            raise Surprise(f"a reply of {len(message)} bytes")
        magic, version, status, number, value, owned, zeros, says = _REPLY.unpack(message)
        if (magic, version, zeros) != (_MAGIC, _VERSION, bytes(3)) or owned > 1:
            raise Surprise("a reply of another make")
        try:
            text = says.rstrip(b"\0").decode()
            known = Status(status)
        except ValueError:
            raise Surprise("a reply that cannot be read") from None
        if not text.isprintable():
            raise Surprise("a reply that cannot be printed")
        return cls(known, number, value, bool(owned), text)


def admitted(doorbell: socket.socket, also: int | None = None) -> socket.socket | None:
    """Who has connected, if it is ours (``is_ours``) and still there; it does not block."""
    connection = accepted(doorbell)
    if connection is None:
        return None
    if not is_ours(connection, also):
        connection.close()
        return None
    connection.settimeout(0)
    return connection


def is_ours(connection: socket.socket, also: int | None = None) -> bool:
    """Whether the other end belongs to root or to the user that we are (SO_PEERCRED: who connected).

    ``also``: the number of one more user, who runs the other half.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, user, _ = _UCRED.unpack(credentials)
    return user in (0, os.geteuid(), also)


def add_pause(parser: Parser) -> None:
    """``--pause``, for ``cannot_start``."""
    text = "wait so long before ending where it cannot start, for who starts it again at once"
    parser.add_argument("--pause", metavar="SECONDS", type=float, default=0.0, help=text)


def cannot_start(pause: float, why: Exception) -> NoReturn:
    """End, as a half that cannot do its work here and has said ``why``. SIGTERM ends it sooner."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    notify.status(f"cannot start: {why}")
    time.sleep(pause)
    sys.exit(COULD_NOT_START)


def number_of(user: str) -> int:
    """A user's number; raises Unavailable where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise Unavailable(f"there is no user {user}", hint="knockgate install makes the users") from None
