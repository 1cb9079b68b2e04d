"""The listener's end of the link to its warden: asks, waits for the answer, and takes notices."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from pathlib import Path

from knockgate.config.doors import Configuration, Door
from knockgate.daemon.control import LINK_SOCKET
from knockgate.daemon.link import REPLY_SIZE, Reply, Request, Status, Surprise, Verb
from knockgate.errors import Unavailable
from knockgate.model import Source

__all__ = ["BeginAnew", "Gone", "Ward"]

#: Seconds for an answer. It comes in a fraction of a millisecond, unless the warden is reloading, or
#: counting a hundred thousand leases for somebody.
_PATIENCE = 15.0


class Gone(Exception):
    """The warden ended, or does not answer."""


class BeginAnew(Exception):
    """The warden has put another configuration in force than the one we have read."""


class Ward:
    """Who is in the warden's care. Every verb raises Gone and BeginAnew.

    ``owned`` and ``restored`` are what the warden last said of its table.
    """

    def __init__(self, configuration: Configuration) -> None:
        """Raises Unavailable where there is no warden."""
        self.owned, self.restored = False, 0
        self._configuration = configuration
        self._numbers = {door.name: number for number, door in enumerate(configuration.doors)}
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = Path(configuration.gate.run_directory, LINK_SOCKET)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            message = f"cannot reach the warden at {path}: {error.strerror or error}"
            raise Unavailable(message, hint="it is started first") from None

    def fileno(self) -> int:
        """Readable when there are notices, or the warden is gone."""
        return self._socket.fileno()

    def ping(self) -> None:
        """Returns once the warden has let us in. From then on it tells of reloads."""
        self._ask(Request(Verb.PING), [])

    def hear(self) -> socket.socket:
        """The socket on which the kernel reports; raises Unavailable where the warden has none."""
        descriptors: list[int] = []
        reply = self._ask(Request(Verb.HEAR, checksum=self._configuration.checksum), descriptors)
        if reply.status is not Status.DONE or len(descriptors) != 1:
            raise Unavailable(reply.says or "the warden has no reports")
        self.owned, self.restored = reply.owned, reply.value
        return socket.socket(fileno=descriptors[0])

    def open(self, door: Door, source: Source, seconds: float | None = None) -> str | None:
        """Open a door of ours for ``seconds``, which are a key's, or its lease; None, or why it is not."""
        request = Request(
            Verb.OPEN,
            door=self._numbers[door.name],
            source=source,
            milliseconds=0 if seconds is None else max(1, round(seconds * 1000)),
            checksum=self._configuration.checksum,
        )
        reply = self._ask(request, [])
        return None if reply.status is Status.DONE else reply.says

    def take_notices(self) -> None:
        """Those that are waiting."""
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notice(self._receive([]))

    def _ask(self, request: Request, descriptors: list[int]) -> Reply:
        self._number = self._number % 0xFFFFFFFF + 1  # 0 is for notices
        request = dataclasses.replace(request, number=self._number)
        until = time.monotonic() + _PATIENCE
        self._socket.settimeout(_PATIENCE)
        try:
            self._socket.send(request.encode())
            while True:
                reply = self._receive(descriptors)
                if reply.number == self._number:
                    break
                self._notice(reply)
                self._socket.settimeout(max(0.001, until - time.monotonic()))
        except TimeoutError:
            raise Gone("the warden does not answer") from None
        except OSError as error:
            self.take_notices()  # it may have said why
            raise Gone(f"the warden is gone: {error.strerror}") from None
        if reply.status is Status.OTHER_CONFIGURATION:
            raise BeginAnew
        return reply

    def _receive(self, descriptors: list[int]) -> Reply:
        try:
            try:
                message, received, _, _ = socket.recv_fds(self._socket, REPLY_SIZE + 1, 1)
            except ConnectionResetError:
                # It has left with a request of ours unread. What it said before that is told only now.
                message, received, _, _ = socket.recv_fds(self._socket, REPLY_SIZE + 1, 1)
        except ConnectionError as error:
            raise Gone(f"the warden is gone: {error.strerror}") from None
        descriptors += received
        if not message:
            raise Gone("the warden is gone")
        return Reply.decode(message)

    def _notice(self, reply: Reply) -> None:
        if reply.number:
            raise Surprise(f"an answer to nothing, number {reply.number}")
        if reply.status is Status.OTHER_CONFIGURATION:
            raise BeginAnew
        self.owned, self.restored = reply.owned, reply.value
