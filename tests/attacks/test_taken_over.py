"""Somebody runs code of theirs in the listener, and the admin asks it what happened.

Its answers are the real ones with something in them changed: each text, each number, each key, and answers
that never end. The admin's commands must end, with what they can say, and nothing may move their terminal.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import (
    DAEMON,
    FWKNOP_PORT,
    SEALED_PORT,
    SPA,
    Lanes,
    lanes,
    let_in,
    steps,
    udp_ip,
    wire,
)
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, until

from knockgate.daemon import control

_ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e\r\n"
_WRONG: tuple[object, ...] = (
    _ESCAPES, "\ud800", None, -1, 10**400, 1e308, float("nan"), float("-inf"), True, [], {}, [[]], {"x": {}},
)  # fmt: skip
_MISSING = object()
_PATIENCE, _LONGEST = 0.5, 5.0  # seconds; the first instead of 30
_COMMANDS = {
    control.STATUS_SOCKET: (["status"], ["status", "--json"], ["metrics"]),
    control.EXPLAIN_SOCKET: (["explain"], ["explain", "--json"], ["device", "list"]),
}


Answer = Callable[[socket.socket], object]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    seconds: float


def _says(octets: bytes) -> Answer:
    return lambda connection: connection.sendall(octets)


class Taken:
    """A listener's socket whose answers are ours from now on."""

    def __init__(self, path: Path) -> None:
        path.unlink()
        self._doorbell = socket.socket(socket.AF_UNIX)
        self._doorbell.bind(str(path))
        self._doorbell.listen(16)
        self.answer: Answer = lambda _: None
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.over.is_set():
            connection, _ = self._doorbell.accept()
            with connection, contextlib.suppress(OSError):
                self.answer(connection)

    def says(self, octets: bytes) -> None:
        self.answer = _says(octets)

    def pours(self, connection: socket.socket) -> None:
        while True:
            connection.sendall(b"[" * (1 << 16))

    def drips(self, connection: socket.socket) -> None:
        while not self.over.wait(0.05):
            connection.sendall(b" ")

    def hangs(self, _: socket.socket) -> None:
        self.over.wait(_LONGEST)


def _never_ends(taken: Taken) -> list[Answer]:
    deep = b"[" * 1_000_000
    said = [b"", b"\xff", b"[1]", b"{", deep, b'{"format": 1, "x": ' + deep, b'{"format": ' + b"9" * 10_000]
    return [taken.pours, taken.drips, taken.hangs, *(_says(each) for each in said)]


def _changed(document: Any, every: int) -> Iterator[Answer]:  # noqa: ANN401 - whatever JSON has
    """The document, each time with one thing in it that is another one, or missing."""
    for number, (path, wrong) in enumerate(itertools.product(_paths(document), [*_WRONG, _MISSING])):
        if number % every:
            continue
        one = copy.deepcopy(document)
        within = _at(one, path[:-1])
        if wrong is _MISSING:
            del within[path[-1]]
        else:
            within[path[-1]] = wrong
        yield _says(json.dumps(one).encode())


def _paths(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    within: dict[Any, Any] = document if isinstance(document, dict) else {}
    if isinstance(document, list):
        within = dict(enumerate(document[:1]))
    for key, value in within.items():
        yield (*above, key)
        yield from _paths(value, (*above, key))


def _at(document: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401
    for key in path:
        document = document[key]
    return document


def _asked(gate: Lanes, words: list[str]) -> Ended:
    """What an admin's command says; an exception of it is the test's."""
    began = time.monotonic()
    done = knockgate(*words, "--config", str(gate.gate.file))
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1, 2) and len(said) < 1 << 20, (words, done)
    assert all(each.isprintable() or each == "\n" for each in said), (words, said)
    said.encode()
    return Ended(done.returncode, time.monotonic() - began)


def _something_happens() -> None:
    """So that there is something to be told."""
    with wire() as cable:
        for number, (port, knock) in enumerate(
            ((SEALED_PORT, SPA["X-Wing"]), (FWKNOP_PORT, SPA["fwknop"]), (SEALED_PORT, SPA["X25519"]))
        ):
            packet = udp_ip(port, f"10.0.1.{number}", knock.make(f"10.0.1.{number}"))
            for each in (packet, packet, packet[:-1] + b"\0"):
                cable.send(each)
        for each in steps(DAEMON, "10.0.1.9"):
            cable.send(each)
        until(lambda: let_in(DAEMON), "the last one opens")


@isolated
def test_what_a_listener_tells_the_admin(tmp_path: Path) -> None:
    """Things in it are changed; in the long run more of them, and there are answers without an end."""
    _told_to_the_admin(tmp_path, every=100)


@pytest.mark.long
@isolated
def test_whatever_a_listener_tells_the_admin(tmp_path: Path) -> None:
    _told_to_the_admin(tmp_path, every=3)


def _told_to_the_admin(folder: Path, *, every: int) -> None:
    with lanes(folder) as gate, mock.patch.object(control, "_PATIENCE", _PATIENCE):
        _something_happens()
        for name, ask in ((control.STATUS_SOCKET, control.ask), (control.EXPLAIN_SOCKET, control.explain)):
            document = json.loads(control._answer(gate.gate.run_directory, name))
            taken = Taken(Path(gate.gate.run_directory, name))
            taken.says(json.dumps(document).encode())
            assert ask(gate.gate.run_directory) == document  # the control
            said = [_asked(gate, words) for words in _COMMANDS[name]]
            assert all(told.status in (0, 1) for told in said), said
            changed = [*_changed(document, every), *(_never_ends(taken) if every == 3 else ())]
            slowest = 0.0
            for answer in changed:
                taken.answer = answer
                found = [_asked(gate, words) for words in _COMMANDS[name]]
                slowest = max(slowest, *(each.seconds for each in found))
            taken.over.set()
            assert slowest < _LONGEST
            figure(
                f"halves.answers of a listener to the admin's commands, {Path(name).stem}",
                tries=len(changed) * len(_COMMANDS[name]),
                wrongly=0,
                rightly=len(said),
                control="with the real answer the commands say what it says",
                slowest_s=round(slowest, 2),
                with_a_patience_of_s=_PATIENCE,
                longest_answer_kb=control._LONGEST_ANSWER >> 10,
            )
