"""Carrying bytes: all of them, both ways, whoever ends first, and nothing left behind on the files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from tests.netns import DEADLINE, until

from knockgate.client.carry import carry

PIPES, SOCKETS = "pipes", "sockets"
MUCH = 50_000_000


class Way:
    """A carrying that goes on: we are who writes and reads at its near end, and the peer at the far one."""

    def __init__(self, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.connection = socket.create_connection(listener.getsockname())
            self.connection.setblocking(False)  # as a probe is
            self.peer, _ = listener.accept()
        self.peer.settimeout(DEADLINE)
        if kind == PIPES:
            self.source, self.near_in = os.pipe()
            self.near_out, self.sink = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            self.near_in, self.source = ours.detach(), theirs.detach()
            self.near_out, self.sink = os.dup(self.near_in), os.dup(self.source)
        self.kind = kind
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def _carry(self) -> None:
        try:
            carry(self.connection, source=self.source, sink=self.sink)
        except OSError as error:
            self.error = error

    def start(self) -> None:
        self._thread.start()

    def end_input(self) -> None:
        """As a program does that has nothing more to say."""
        if self.kind == PIPES:
            self.close("near_in")
        else:
            with socket.socket(fileno=os.dup(self.near_in)) as ours:
                ours.shutdown(socket.SHUT_WR)

    def end_reading(self) -> None:
        """As a program does that was killed: with a pair of sockets that is both at once."""
        self.close("near_out")
        if self.kind == SOCKETS:
            self.close("near_in")

    def close(self, name: str) -> None:
        os.close(getattr(self, name))
        setattr(self, name, -1)

    def ended(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def clean_up(self) -> None:
        self.connection.close()
        self.peer.close()
        for name in ("near_in", "near_out"):
            with contextlib.suppress(OSError):
                os.close(getattr(self, name))
        # What the thread may still read from stays open: its number must not become another file's.


@pytest.fixture(params=[PIPES, SOCKETS])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    found = Way(request.param)
    yield found
    found.clean_up()


def _send(file: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]


def _digest_of(file: int, length: int) -> str:
    digest = hashlib.sha256()
    while length:
        octets = os.read(file, min(length, 1 << 20))
        assert octets
        digest.update(octets)
        length -= len(octets)
    return digest.hexdigest()


def test_much_goes_both_ways_at_once(way: Way) -> None:
    there, back = os.urandom(MUCH), os.urandom(MUCH)
    found: dict[str, str] = {}
    way.start()
    work = [
        threading.Thread(target=_send, args=(way.near_in, there)),
        threading.Thread(target=way.peer.sendall, args=(back,)),
        threading.Thread(target=lambda: found.update(there=_digest_of(way.peer.fileno(), MUCH))),
        threading.Thread(target=lambda: found.update(back=_digest_of(way.near_out, MUCH))),
    ]
    way.peer.setblocking(True)
    for each in work:
        each.start()
    for each in work:
        each.join(DEADLINE)
    assert found == {"there": hashlib.sha256(there).hexdigest(), "back": hashlib.sha256(back).hexdigest()}


def test_the_end_of_the_input_is_told_and_the_peer_may_go_on(way: Way) -> None:
    way.start()
    _send(way.near_in, b"all that there is")
    way.end_input()
    assert b"".join(iter(lambda: way.peer.recv(99), b"")) == b"all that there is"
    way.peer.sendall(b"an answer")
    assert os.read(way.near_out, 99) == b"an answer"
    assert way.goes_on
    way.peer.close()
    way.ended()
    assert way.error is None


def test_the_end_of_the_peer_is_the_end(way: Way) -> None:
    """Though somebody could still type."""
    way.start()
    way.peer.sendall(b"goodbye")
    way.peer.close()
    way.ended()
    assert os.read(way.near_out, 99) == b"goodbye"
    assert way.error is None


def test_a_connection_that_breaks_is_an_error(way: Way) -> None:
    way.start()
    way.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    way.peer.close()  # with that, a reset
    way.ended()
    assert isinstance(way.error, ConnectionResetError)


def test_who_started_it_is_gone(way: Way) -> None:
    """And the peer says nothing; where only the input has ended it goes on, as another test shows."""
    way.start()
    _send(way.near_in, b"hello")
    assert way.peer.recv(99) == b"hello"
    way.end_reading()
    if way.kind == PIPES:
        way.end_input()
    assert way.peer.recv(99) == b""
    way.ended()
    assert way.error is None


@pytest.mark.parametrize("way", [PIPES], indirect=True)
def test_nobody_reads_what_the_peer_says(way: Way) -> None:
    way.start()
    way.end_reading()
    way.peer.sendall(b"is anybody there?")
    way.ended()
    assert way.error is None


@pytest.mark.parametrize("way", [PIPES], indirect=True)
def test_a_reader_that_left_does_not_cut_short_what_is_written(way: Way) -> None:
    """As in `knockgate connect HOST PORT <file | true`."""
    way.peer.setblocking(True)
    way.start()
    way.end_reading()
    octets = os.urandom(5_000_000)
    writing = threading.Thread(target=_send, args=(way.near_in, octets))
    writing.start()
    assert _digest_of(way.peer.fileno(), len(octets)) == hashlib.sha256(octets).hexdigest()
    writing.join(DEADLINE)
    way.end_input()
    way.ended()


def test_who_is_not_read_has_to_wait_and_nobody_is_busy_meanwhile(way: Way) -> None:
    way.start()
    os.set_blocking(way.near_in, False)
    taken = 0
    while select.select([], [way.near_in], [], 0.3)[1]:
        with contextlib.suppress(BlockingIOError):
            taken += os.write(way.near_in, bytes(65536))
        assert taken < 50_000_000, "it is all kept somewhere"
    began = time.process_time()
    select.select([way.near_out], [], [], 0.3)
    assert time.process_time() - began < 0.1
    way.peer.setblocking(True)
    left = taken
    while left:
        left -= len(way.peer.recv(left))


def test_nothing_is_made_non_blocking_and_what_is_so_already_will_do(way: Way) -> None:
    def flags() -> list[int]:
        return [fcntl.fcntl(file, fcntl.F_GETFL) & os.O_NONBLOCK for file in (way.source, way.sink)]

    assert flags() == [0, 0]
    way.start()
    way.peer.sendall(b"a")
    assert os.read(way.near_out, 1) == b"a"
    assert flags() == [0, 0]
    os.set_blocking(way.source, False)
    os.set_blocking(way.sink, False)
    back = os.urandom(5_000_000)
    writing = threading.Thread(target=way.peer.sendall, args=(back,))
    writing.start()
    until(lambda: select.select([way.near_out], [], [], 0)[0], "something comes")
    assert _digest_of(way.near_out, len(back)) == hashlib.sha256(back).hexdigest()
    writing.join(DEADLINE)
    for octets in (b"there", b"and more"):
        _send(way.near_in, octets)
        assert way.peer.recv(99) == octets
    assert flags() == [os.O_NONBLOCK] * 2


def test_the_connection_is_as_ssh_would_have_it(way: Way) -> None:
    way.start()
    way.peer.sendall(b"a")
    assert os.read(way.near_out, 1) == b"a"
    for level, option in ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
        assert way.connection.getsockopt(level, option) == 1
        assert way.peer.getsockopt(level, option) == 0  # the control
