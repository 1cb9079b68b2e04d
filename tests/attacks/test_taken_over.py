"""Somebody runs code of theirs in the listener, and the admin asks it what happened.

Its answers are the real ones with something in them changed: each text, each number, each key, and answers
that never end. The admin's commands must end, with what they can say, and nothing may move their terminal.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import re
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
from tests.knockgate.daemon.test_runner import Process, write
from tests.netns import DEADLINE, isolated, until

from knockgate.daemon import control
from knockgate.daemon.errands import Answer, Errand, boottime

_ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e\r\n"
_WRONG: tuple[object, ...] = (
    _ESCAPES, "\ud800", None, -1, 10**400, 1e308, float("nan"), float("-inf"), True, [], {}, [[]], {"x": {}},
)  # fmt: skip
_MISSING = object()
_EVERY = 3  # of the changes that there are
_PATIENCE, _LONGEST = 0.5, 5.0  # seconds; the first instead of 30
_COMMANDS = {
    control.STATUS_SOCKET: (["status"], ["status", "--json"], ["metrics"]),
    control.EXPLAIN_SOCKET: (["explain"], ["explain", "--json"], ["device", "list"]),
}


Says = Callable[[socket.socket], object]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    seconds: float


def _says(octets: bytes) -> Says:
    return lambda connection: connection.sendall(octets)


class Taken:
    """A listener's socket whose answers are ours from now on."""

    def __init__(self, path: Path) -> None:
        path.unlink()
        self._doorbell = socket.socket(socket.AF_UNIX)
        self._doorbell.bind(str(path))
        self._doorbell.listen(16)
        self.answer: Says = lambda _: None
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


def _never_ends(taken: Taken) -> list[Says]:
    deep = b"[" * 1_000_000
    said = [b"", b"\xff", b"[1]", b"{", deep, b'{"format": 1, "x": ' + deep, b'{"format": ' + b"9" * 10_000]
    return [taken.pours, taken.drips, taken.hangs, *(_says(each) for each in said)]


def _changed(document: Any) -> Iterator[Says]:  # noqa: ANN401 - whatever JSON has
    """The document, each time with one thing in it that is another one, or missing."""
    for number, (path, wrong) in enumerate(itertools.product(_paths(document), [*_WRONG, _MISSING])):
        if number % _EVERY:
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


@pytest.mark.long
@isolated
def test_what_a_listener_tells_the_admin(tmp_path: Path) -> None:
    """Quick tests of what is taken for a document: ``tests/knockgate/daemon/test_told.py``."""
    with lanes(tmp_path) as gate, mock.patch.object(control, "_PATIENCE", _PATIENCE):
        _something_happens()
        for name, ask in ((control.STATUS_SOCKET, control.ask), (control.EXPLAIN_SOCKET, control.explain)):
            document = json.loads(control._answer(gate.gate.run_directory, name))
            taken = Taken(Path(gate.gate.run_directory, name))
            taken.says(json.dumps(document).encode())
            assert ask(gate.gate.run_directory) == document  # the control
            said = [_asked(gate, words) for words in _COMMANDS[name]]
            assert all(told.status in (0, 1) for told in said), said
            changed = [*_never_ends(taken), *_changed(document)]
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


_ERRANDS = 4_000


class Runner(Process):
    """The process."""

    def takes_one(self) -> bool:
        """Of somebody's, behind answers that nobody has read."""
        errand = Errand("ssh", bytes((192, 0, 2, 1)), date=boottime())
        self.near.send(errand.encode())
        while (answer := Answer.decode(self.near.recv(100))).date != errand.date:
            pass
        return answer.taken

    def memory_kb(self) -> int:
        said = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(said.partition("VmRSS:")[2].split()[0])


@pytest.mark.long
def test_what_a_listener_asks_of_the_runner(tmp_path: Path) -> None:
    """Errands for more addresses than it has room for, and no answer is read; some are for no door."""
    write(tmp_path)
    with Runner(tmp_path, "--config", str(tmp_path / "gate.toml")) as runner:
        runner.ready()
        assert runner.knock(source=bytes(4))
        before, began = runner.memory_kb(), time.monotonic()
        for number in range(_ERRANDS):
            door = ("ssh", "no such door", "\ud800\x1b[2J")[number % 3]
            runner.near.settimeout(DEADLINE)
            runner.near.send(Errand(door, number.to_bytes(4), date=boottime()).encode())
        until(runner.takes_one, "an honest one is taken", 120)
        until(lambda: any("192.0.2.1" in line for line in runner.log), "it has run", 120)
        took = time.monotonic() - began
        more = runner.memory_kb() - before
        lines = runner.log
        assert all(re.fullmatch(r"open [0-9.]+ first ssh", line) for line in lines)
        said = runner.said()
        assert all(each.isprintable() or each == "\n" for each in said) and more < 32 << 10
    figure(
        "halves.errands of a listener to the runner",
        tries=_ERRANDS,
        wrongly=sum(" ssh" not in line for line in lines),
        known=len(lines) - 2,
        rightly=2,
        control="an honest one is run before, and behind them",
        took_s=round(took, 1),
        memory_more_kb=more,
        log_bytes=len(said),
    )
