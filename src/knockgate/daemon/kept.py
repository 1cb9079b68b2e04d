"""The listener's end of its link to the keeper: files of keys, as if it read them itself."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection
from pathlib import Path

from knockgate.config import private
from knockgate.config.places import LARGEST_SECRETS, KeyFile, Places
from knockgate.config.strictmodes import Seen, Trouble
from knockgate.daemon.keylink import MOST_FILES, REPLY_SIZE, Reply, Request, Status, Verb, checksum_of
from knockgate.daemon.link import Surprise
from knockgate.daemon.sockets import connected
from knockgate.daemon.ward import BeginAnew, Gone
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys.files import MOST_OCTETS

__all__ = ["Kept"]

#: Seconds for an answer.
_PATIENCE = 15.0


class Kept:
    """The listener's end: satisfies ``keyfiles.Reading``, and reads files of secrets.

    A keeper that was started again is taken for the one before: it has handed nothing out yet, so all files
    are read again. Every verb raises Gone where there is none any more, and BeginAnew where gate.toml names
    other files by now.
    """

    def __init__(self, path: str, places: Places) -> None:
        """Raises Unavailable where there is no keeper, or more files than it looks at."""
        if len(places.keys) > MOST_FILES:
            raise Unavailable(f"{len(places.keys)} files of ssh keys", hint=f"{MOST_FILES} are possible")
        self._checksum = checksum_of(places)
        self._keys = {place: index for index, place in enumerate(places.keys)}
        self._secrets = {path: index for index, path in enumerate(places.secrets)}
        self._changed: Collection[int] = ()
        self._path = path
        try:
            self._socket = connected(path, socket.SOCK_SEQPACKET, _PATIENCE)
        except OSError as error:
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
        message, file = self._answer(Request(verb, index, self._checksum).encode())
        try:
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

    def _answer(self, request: bytes) -> tuple[bytes, int | None]:
        """What it says, or the next keeper where this one has ended."""
        try:
            try:
                return _told(self._socket, request)
            except ConnectionError:
                self._socket.close()
                # The socket is systemd's, who starts the next one.
                self._socket = connected(self._path, socket.SOCK_SEQPACKET, _PATIENCE)
                return _told(self._socket, request)
        except OSError as error:
            raise Gone(f"the keeper is gone: {error.strerror or error}") from None


def _told(link: socket.socket, request: bytes) -> tuple[bytes, int | None]:
    """A message, and a descriptor where there is one; ConnectionError where the other end is gone."""
    link.send(request)
    message, files, _, _ = socket.recv_fds(link, REPLY_SIZE + 1, 1)
    if not message:
        raise ConnectionResetError(errno.ECONNRESET, "it has hung up")
    return message, files[0] if files else None


#: Stands for a file that the keeper watches.
_HANDED_OUT = Seen(is_missing=True)
