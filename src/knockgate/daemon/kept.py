"""The listener's end of its link to the keeper: files of keys, as if it read them itself."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection
from pathlib import Path

from knockgate.config import private
from knockgate.config.places import LARGEST_SECRETS, KeyFile, Places
from knockgate.config.strictmodes import Seen, Trouble
from knockgate.daemon.keylink import MOST_FILES, REPLY_SIZE, Reply, Request, Status, Verb, checksum_of
from knockgate.daemon.link import Surprise
from knockgate.daemon.ward import BeginAnew, Gone
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys.files import MOST_OCTETS

__all__ = ["Kept"]

#: Seconds for an answer.
_PATIENCE = 15.0


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
            message, files, _, _ = socket.recv_fds(self._socket, REPLY_SIZE + 1, 1)
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
