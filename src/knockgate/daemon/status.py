"""What the listener remembers of what happened, and the socket that tells it.

A stranger decides neither how long a line is nor how many there are: openings are kept to the last
hundred, all else is a number.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from knockgate.daemon.sockets import accepted, listen
from knockgate.firewall.names import BOUNDS
from knockgate.model import Source, address_text

__all__ = ["Account", "DocumentSocket"]

_REMEMBERED = 100
#: How many are told at the same time; for one more the first of them is dropped, read or unread.
_ASKING = 8


class _Opened(NamedTuple):
    door: str | None
    source: Source | None
    by: str
    at: float


class Account:
    """Openings and exhausted bounds since the start."""

    def __init__(self, doors: list[str]) -> None:
        self._since = time.monotonic()
        self._counts = {door: Counter[str]() for door in doors}
        self._last: dict[str, _Opened] = {}
        self._recent: deque[_Opened] = deque(maxlen=_REMEMBERED)
        self.bounds = dict.fromkeys(BOUNDS.values(), 0)

    def opened(self, door: str | None, source: Source | None, by: str, kind: str) -> None:
        """A door was opened by a ``kind`` of knock; None for what the kernel's report does not tell."""
        opened = _Opened(door, source, by, time.monotonic())
        self._recent.appendleft(opened)
        if door in self._counts:
            self._counts[door][kind] += 1
            self._last[door] = opened

    def document(self, heard: Mapping[str, int], *, owned: bool, restored: int) -> dict[str, object]:
        """What ``control.ask`` returns."""
        now = time.monotonic()
        return {
            "format": 1,
            "pid": os.getpid(),
            "since": round(now - self._since, 1),
            "doors": {
                name: {
                    "opened": counts.total(),
                    "by": dict(counts),
                    "last": _told(self._last[name], now) if name in self._last else None,
                }
                for name, counts in self._counts.items()
            },
            "recent": [{"door": opened.door, **_told(opened, now)} for opened in self._recent],
            "bounds": self.bounds,
            "heard": dict(heard),
            "warden": {"owned": owned, "restored": restored},
        }


def _told(opened: _Opened, now: float) -> dict[str, object]:
    source = None if opened.source is None else address_text(opened.source)
    return {"source": source, "by": opened.by, "seconds_ago": round(now - opened.at, 1)}


class DocumentSocket:
    """Gives one document to everybody who connects, and never waits for anybody to read it."""

    def __init__(
        self,
        directory: str,
        name: str,
        selector: selectors.BaseSelector,
        document: Callable[[], Mapping[str, object]],
    ) -> None:
        """Registers what it waits for with ``selector``, whose data are functions to be called."""
        self._document = document
        self._selector = selector
        self._unread: dict[socket.socket, memoryview] = {}  # in the order in which they came
        self._doorbell = listen(directory, name, socket.SOCK_STREAM)
        selector.register(self._doorbell, selectors.EVENT_READ, self._answer)

    def close(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._unread):
            self._drop(connection)
        self._selector.unregister(self._doorbell)
        self._doorbell.close()

    def _answer(self) -> None:
        connection = accepted(self._doorbell)
        if connection is None:
            return
        connection.settimeout(0)
        if len(self._unread) == _ASKING:
            self._drop(next(iter(self._unread)))
        answer = json.dumps(self._document()).encode() + b"\n"
        self._unread[connection] = memoryview(answer)
        self._selector.register(connection, selectors.EVENT_WRITE, partial(self._go_on, connection))
        self._go_on(connection)

    def _go_on(self, connection: socket.socket) -> None:
        """Send what the kernel has room for."""
        if connection not in self._unread:
            return  # dropped in this very round
        try:
            sent = connection.send(self._unread[connection])
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        self._unread[connection] = self._unread[connection][sent:]
        if not self._unread[connection]:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._unread[connection]
        self._selector.unregister(connection)
        connection.close()
