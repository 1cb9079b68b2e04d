from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from tests.knockgate.daemon.test_told import TOLD
from tests.netns import until

from knockgate.daemon.control import STATUS_SOCKET, WardenClient, ask
from knockgate.daemon.status import Account, DocumentSocket
from knockgate.errors import Unavailable

LARGE = {**TOLD, "recent": [TOLD["recent"][0] | {"by": "x" * (4 << 20)}]}


class Server:
    """A status socket, and the loop that it is in."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.answer: dict[str, Any] = TOLD
        self.path = str(folder / STATUS_SOCKET)
        self._socket = DocumentSocket(str(folder), STATUS_SOCKET, self.selector, lambda: self.answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        assert not self.selector.get_map()
        self.selector.close()

    def turn(self) -> int:
        """One turn of the loop, which must never wait; how much there was to do."""
        events = self.selector.select(0)
        for key, _ in events:
            key.data()
        return len(events)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(self.path)
        self.turn()
        return sock


@contextlib.contextmanager
def asking(server: Server) -> Iterator[list[object]]:
    """``ask`` in another thread; what came of it."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(ask(str(Path(server.path).parents[1])))
        except Unavailable as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield found
    thread.join()


def test_everybody_is_told_however_much_it_is(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        assert stat.S_IMODE(Path(server.path).stat().st_mode) == 0o600
        for answer in (TOLD, LARGE):
            server.answer = answer
            with asking(server) as found:
                until(lambda: server.turn() == 0 and found, "an answer")
            assert found == [answer]


def test_slow_and_dead_clients_cost_nothing(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path))
        server.answer = LARGE
        slow = [stack.enter_context(server.connect()) for _ in range(8)]
        assert server.turn() == 0  # nobody reads, and nothing is busy with them
        for _ in range(3):
            server.connect().close()
        until(lambda: server.turn() == 0, "the dead are forgotten")
        server.answer = TOLD
        with asking(server) as found:
            until(lambda: server.turn() == 0 and found, "an answer")
        assert found == [TOLD]
        assert len(server.selector.get_map()) <= 1 + 8
        read = bytearray()
        while chunk := slow[-1].recv(1 << 16):
            read += chunk
            server.turn()
        assert json.loads(read) == LARGE  # slow, but not too slow
        part = bytearray()
        while chunk := slow[0].recv(1 << 16):  # to its end: it was dropped for the next ones
            part += chunk
        assert part.count(b"x") < 4 << 20


def test_without_room_for_one_more_it_is_tried_now_and_then(tmp_path: Path) -> None:
    """Who waits keeps the socket readable, and nobody may be busy with that."""
    with Server(tmp_path) as server, socket.socket(socket.AF_UNIX) as waiting:
        waiting.settimeout(10)
        waiting.connect(server.path)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            begin = time.monotonic()
            assert [server.turn() for _ in range(10)] == [1] * 10
            took = time.monotonic() - begin
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert took >= 0.1
        server.turn()
        assert json.loads(waiting.recv(5000)) == TOLD


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the daemon is not running") as caught:
        ask(str(tmp_path))
    assert caught.value.hint and "knockgate run" in caught.value.hint
    with pytest.raises(Unavailable, match="not running"):
        WardenClient(str(tmp_path / ("x" * 200)))
    with Server(tmp_path) as server:
        server.answer = {"format": 2}
        with asking(server) as found:
            until(lambda: server.turn() == 0 and found, "an answer")
    assert "another format" in str(found)
    with pytest.raises(Unavailable, match="the daemon is not running"):
        ask(str(tmp_path))  # a socket that nobody listens to any more


def test_an_account_is_bounded() -> None:
    account = Account(["ssh", "web"])
    for number in range(1000):
        account.opened(
            "ssh" if number % 2 else None, number.to_bytes(4, "big"), "kernel sequence", "kernel-sequence"
        )
    account.opened("ssh", None, "kernel sequence", "kernel-sequence")
    account.bounds["crowded"] += 1
    document = json.loads(json.dumps(account.document({"packets": 3}, owned=False, restored=2)))
    assert document["pid"] == os.getpid() and document["since"] >= 0
    assert document["doors"]["web"] == {"opened": 0, "by": {}, "last": None}
    assert document["doors"]["ssh"]["by"] == {"kernel-sequence": 501}
    assert document["doors"]["ssh"]["opened"] == 501 and document["doors"]["ssh"]["last"]["source"] is None
    assert len(document["recent"]) == 100
    assert document["recent"][1] == document["recent"][1] | {"door": "ssh", "source": "0.0.3.231"}
    assert document["recent"][2] == document["recent"][2] | {"door": None, "source": "0.0.3.230"}
    assert document["bounds"] == {"crowded": 1, "paced": 0, "leases_full": 0}
    assert document["heard"] == {"packets": 3} and document["warden"] == {"owned": False, "restored": 2}
