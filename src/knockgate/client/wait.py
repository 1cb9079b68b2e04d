"""Whether a TCP port answers, and after how long: probes that overlap and never live long enough to repeat.

A SYN that came a moment before the door opened is lost, and its own retransmission is a second away. So
a new probe starts after each short gap, and a far host's late answer to an older one still counts.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable
from typing import Literal, NamedTuple, Self

from knockgate.client.send import begin, unsent
from knockgate.model import Port

__all__ = ["Answer", "State", "connected", "probe", "wait_connected", "wait_open"]

#: ``filtered`` is silence, or an ICMP error from somewhere on the way.
State = Literal["open", "closed", "filtered"]

_FIRST_GAP, _GAP_GROWTH, _LAST_GAP = 0.001, 1.1, 0.2
"""The gap grows with the time waited, so "open after" is late by a tenth of itself (and a millisecond)
at most, for 70 packets in 5 s."""
_PROBE_LIFE = 0.9
"""Seconds that a probe lives, so that a slow path's answer counts; from 1 s on the system repeats it."""


class Answer(NamedTuple):
    """What a watched port is, and how many seconds after the starting point that was seen."""

    state: State
    after: float


def probe(address: str, port: Port, *, source: str | None = None, timeout: float = 0.3) -> State:
    """Try a TCP port once, with a single SYN; ``timeout`` is below 1 s. Unavailable when it cannot leave."""
    state, connection = connected(address, port, source=source, timeout=timeout)
    if connection is not None:
        connection.close()
    return state


def connected(
    address: str, port: Port, *, source: str | None = None, timeout: float = 0.3
) -> tuple[State, socket.socket | None]:
    """The same; where the port is open also the connection, non-blocking, which the caller closes."""
    sock = _begin_probe(address, port, source)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            state = _verdict(sock) if selector.select(timeout) else "filtered"
    except BaseException:
        sock.close()
        raise
    if state == "open":
        return state, sock
    sock.close()
    return state, None


def wait_open(
    address: str,
    port: Port,
    *,
    since: float,
    timeout: float,
    source: str | None = None,
    on_wait: Callable[[float], None] | None = None,
) -> Answer:
    """Probe a TCP port until it is open or ``timeout`` has passed; then the newest answer counts.

    ``since`` is the monotonic time from which ``Answer.after`` is counted. ``on_wait`` gets the seconds
    waited, several times a second. Raises Unavailable when a probe cannot leave.
    """
    answer, connection = wait_connected(
        address, port, since=since, timeout=timeout, source=source, on_wait=on_wait
    )
    if connection is not None:
        connection.close()
    return answer


def wait_connected(
    address: str,
    port: Port,
    *,
    since: float,
    timeout: float,
    source: str | None = None,
    on_wait: Callable[[float], None] | None = None,
) -> tuple[Answer, socket.socket | None]:
    """The same; where the port is open also the probe that got in, non-blocking, for the caller to close.

    The service sees that connection and hardly another one: the probes that are still on their way are
    dropped at once, and what the host answers to those is reset before the service gets it.
    """
    start = time.monotonic()
    with _Probes(address, port, source) as probes:
        next_at, gap = start, _FIRST_GAP
        while (now := time.monotonic()) < start + timeout:
            if now >= next_at:
                probes.begin(now)
                next_at, gap = now + gap, min(gap * _GAP_GROWTH, _LAST_GAP)
            if probes.settle(min(next_at, start + timeout)) == "open":
                break
            if on_wait is not None:
                on_wait(now - start)
        return Answer(probes.newest, time.monotonic() - since), probes.take()


class _Probes:
    """The probes on their way, each with the time of its start."""

    def __init__(self, address: str, port: Port, source: str | None) -> None:
        self._asked = (address, port, source)
        self._selector = selectors.DefaultSelector()
        self._newest_start = 0.0
        self._open: socket.socket | None = None
        self.newest: State = "filtered"  #: what the probe that started last, of those settled, says

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for key in list(self._selector.get_map().values()):
            self._end(key)
        self._selector.close()
        if self._open is not None:
            self._open.close()

    def take(self) -> socket.socket | None:
        """The probe that found the port open, from now on the caller's."""
        found, self._open = self._open, None
        return found

    def begin(self, now: float) -> None:
        self._selector.register(_begin_probe(*self._asked), selectors.EVENT_WRITE, now)

    def settle(self, until: float) -> State:
        """Wait for answers until that time at most; returns ``newest``."""
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            sock: socket.socket = key.fileobj  # type: ignore[assignment] # since _begin_probe makes them
            state = _verdict(sock)
            if state == "open":
                self._selector.unregister(sock)
                self._open, self.newest = sock, "open"
                return "open"
            self._note(key, state)
        for key in list(self._selector.get_map().values()):
            if time.monotonic() - key.data > _PROBE_LIFE:
                self._note(key, "filtered")
        return self.newest

    def _note(self, key: selectors.SelectorKey, state: State) -> None:
        if key.data >= self._newest_start:
            self._newest_start, self.newest = key.data, state
        self._end(key)

    def _end(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr] # a socket


def _begin_probe(address: str, port: Port, source: str | None) -> socket.socket:
    try:
        return begin(address, port, source)
    except OSError as error:
        raise unsent(f"the probe of {port}", address, error) from None


def _verdict(sock: socket.socket) -> State:
    """What a probe that has been answered says about its port."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code not in (0, errno.ECONNREFUSED, errno.ECONNRESET):
        return "filtered"  # an ICMP error: something on the way said no
    try:
        # A refusal that connect() itself reported has left no SO_ERROR, but there is no peer either.
        # And on loopback a probe can be given the very port it asks for and connect to itself.
        return "closed" if code or sock.getpeername() == sock.getsockname() else "open"
    except OSError:
        return "closed"
