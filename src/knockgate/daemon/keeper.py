"""The half that may read files of others, and nothing else: opens those that keys name, for the listener.

It has CAP_DAC_READ_SEARCH, which is every file of this host, and so it hears no stranger: it sees no network,
is asked for a file by its number among those that its own copy of gate.toml names, and hands out what is open
without reading it. Owners and modes are checked as ``config.strictmodes`` and ``config.private`` do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from knockgate.config import places, private, strictmodes
from knockgate.config.places import SECRETS
from knockgate.config.strictmodes import Seen, Trouble
from knockgate.daemon import notify
from knockgate.daemon.arguments import Parser
from knockgate.daemon.keylink import REQUEST_SIZE, Reply, Request, Status, Verb, checksum_of
from knockgate.daemon.link import Surprise, add_pause, admitted, cannot_start, number_of
from knockgate.daemon.log import Seldom, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.sockets import Signals
from knockgate.errors import ConfigError, KnockgateError, Unavailable

__all__ = ["PROGRAM", "main"]

PROGRAM = "knockgate-keeper"

#: A listener that begins anew may come before its forerunner is seen to be gone.
_PEERS = 4


class _Keeper:
    """Waits for requests and signals."""

    def __init__(self, path: str, doorbell: socket.socket, listener: int | None) -> None:
        """``doorbell`` is where one connects. Raises ConfigError."""
        self._path = path
        self._places = places.load(path)
        self._checksum = checksum_of(self._places)  # which each knock asks for, of however many files
        self._listener = listener
        self._doorbell = doorbell
        self._ending = False
        self._seldom = Seldom(PROGRAM)
        self._seen: dict[socket.socket, dict[int, Seen]] = {}  # what was handed out to whom, by the file
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._watchdog = notify.Watchdog()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ, self._obey)
        self._selector.register(doorbell, selectors.EVENT_READ, self._admit)

    def serve(self) -> None:
        """Until SIGTERM or SIGINT."""
        while not self._ending:
            for key, _ in self._selector.select(self._watchdog.wait(None)):
                key.data()

    def _obey(self) -> None:
        self._ending = bool(self._signals.take() & {signal.SIGTERM, signal.SIGINT})

    def _admit(self) -> None:
        peer = admitted(self._doorbell, self._listener)
        if peer is None:
            return
        if len(self._seen) == _PEERS:
            self._drop(next(iter(self._seen)))
        self._seen[peer] = {}
        self._selector.register(peer, selectors.EVENT_READ, partial(self._hear, peer))

    def _drop(self, peer: socket.socket) -> None:
        self._selector.unregister(peer)
        del self._seen[peer]
        peer.close()

    def _hear(self, peer: socket.socket) -> None:
        if peer not in self._seen:
            return  # dropped in this very round
        message = b""
        try:
            message = peer.recv(REQUEST_SIZE + 1)
            request = Request.decode(message)
            with self._answer(peer, request) as (reply, files):
                is_there = _sent(peer, reply, files)
            if not is_there:
                self._drop(peer)
        except BlockingIOError:
            pass
        except Surprise as surprise:
            if message:
                self._seldom.say("surprise", f"the listener sent {surprise}, and is dropped")
            self._drop(peer)
        except OSError:
            self._drop(peer)

    @contextlib.contextmanager
    def _answer(self, peer: socket.socket, request: Request) -> Iterator[tuple[Reply, list[int]]]:
        if not self._means_the_same(request.checksum):
            yield Reply(Status.OTHER_CONFIGURATION, request.index), []
        elif request.verb is Verb.LOOK:
            yield Reply(Status.DONE, 0, self._changed(self._seen[peer])), []
        elif request.verb is Verb.KEYS:
            with self._keys(self._seen[peer], request.index) as answer:
                yield answer
        else:
            with self._secrets(request.index) as answer:
                yield answer

    def _means_the_same(self, checksum: bytes) -> bool:
        """Whether it means the files that gate.toml names, as it was read last, or as it is now."""
        if checksum != self._checksum:
            with contextlib.suppress(ConfigError):
                self._places = places.load(self._path)
                self._checksum = checksum_of(self._places)
            for seen in self._seen.values():
                seen.clear()
        return checksum == self._checksum

    def _changed(self, seen: dict[int, Seen]) -> frozenset[int]:
        return frozenset(
            index
            for index, place in enumerate(self._places.keys)
            if index not in seen or not seen[index].is_so(place.path)
        )

    @contextlib.contextmanager
    def _keys(self, seen: dict[int, Seen], index: int) -> Iterator[tuple[Reply, list[int]]]:
        _expect(index, len(self._places.keys))
        try:
            with strictmodes.opened(self._places.keys[index], 0) as (file, seen[index]):
                yield Reply(Status.DONE, index), [file]
        except Trouble as trouble:
            seen[index] = Seen(is_missing=trouble.is_missing)
            status = Status.MISSING if trouble.is_missing else Status.TROUBLE
            yield Reply(status, index, says=trouble.message, hint=trouble.hint or ""), []

    @contextlib.contextmanager
    def _secrets(self, index: int) -> Iterator[tuple[Reply, list[int]]]:
        _expect(index, len(self._places.secrets))
        try:
            with private.opened(Path(self._places.secrets[index]), **SECRETS) as file:
                yield Reply(Status.DONE, index), [file]
        except ConfigError as error:
            yield Reply(Status.TROUBLE, index, says=error.message, hint=error.hint or ""), []


def _sent(peer: socket.socket, reply: Reply, files: list[int]) -> bool:
    """False where it is gone, or asks without reading: that is no fault of the file."""
    try:
        socket.send_fds(peer, [reply.encode()], files)
    except OSError:
        return False
    return True


def _expect(index: int, number: int) -> None:
    if index >= number:
        raise Surprise(f"a request for file {index} of {number}")


def serve(origin: Origin, descriptor: int, listener: str | None) -> None:
    """Hand out files until a signal; ``descriptor`` is the socket to be connected to."""
    try:
        doorbell = socket.socket(fileno=descriptor)
        doorbell.settimeout(0)
    except OSError as error:
        message = f"--doorbell {descriptor}: {error.strerror}"
        raise Unavailable(message, hint="knockgate-keeper.socket starts it") from None
    keeper = _Keeper(origin.path, doorbell, number_of(listener) if listener else None)
    notify.ready("reading files of keys, when it is asked")
    keeper.serve()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 after SIGTERM or SIGINT, 2 with a line and a hint where it cannot start."""
    parser = Parser(prog=PROGRAM, description="Open the files of keys for the listener.")
    Origin.add_arguments(parser)
    parser.add_argument("--doorbell", metavar="FD", type=int, required=True, help="a socket that listens")
    parser.add_argument("--listener-user", metavar="NAME", help="who may be the listener, beside root and us")
    add_pause(parser)
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    try:
        serve(Origin.of(arguments), arguments.doorbell, arguments.listener_user)
    except KnockgateError as error:
        say_why(PROGRAM, error)
        cannot_start(arguments.pause, error)
    sys.exit(0)
