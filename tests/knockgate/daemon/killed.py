"""Killing a listener at each line of what it does, for the tests of what outlives it.

Lines are read out of the source, so a new one that no course comes by is noticed.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

from knockgate.config.doors import Door
from knockgate.daemon import hearing
from knockgate.daemon.hearing import Hearing
from knockgate.daemon.log import NOTE, Record
from knockgate.model import Source

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Who is killed leaves the same on any disk, and in memory none is waited for."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as name:
        yield Path(name)


class Heard:
    """Ears that hear what they are told, so that no network is needed."""

    def __init__(self, *_: object) -> None:
        self.waiting: list[bytes] = []

    def take(self) -> list[bytes]:
        taken, self.waiting = self.waiting, []
        return taken

    def opened(self, sender: Source) -> None:
        """Which networks are known is none of our business."""


@dataclasses.dataclass
class Hands:
    """What the listener does to the world, in files, which outlive it. ``opens``: whether doors can be."""

    folder: Path
    opens: bool = True

    def add(self, name: str, line: str) -> None:
        file = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:  # noqa: ARG002 - of PacketHands
        self.add("opened" if self.opens else "said", door.name)
        return self.opens

    def run_commands(self, door: Door, source: Source, seconds: float | None = None) -> None:  # noqa: ARG002
        self.add("ran", door.name)

    def complain(self, line: str, kind: str = "", record: Record = NOTE) -> None:  # noqa: ARG002
        self.add("said", line)

    def count(self, name: str, text: str = "") -> int:
        path = self.folder / name
        return sum(text in line for line in path.read_text().splitlines()) if path.exists() else 0


def hear(grants: Hearing, packet: bytes) -> None:
    assert isinstance(grants.ears, Heard)
    grants.ears.waiting.append(packet)
    grants.hear()


Steps = dict[CodeType, set[int]]


def steps(kind: type, *classes: tuple[ModuleType, str]) -> Steps:
    """Each method that ``hear`` and ``__init__`` come by, with its lines, as the compiler counts them."""
    methods = {
        node.name: node
        for module, name in classes
        for tree in ast.parse(inspect.getsource(module)).body
        if isinstance(tree, ast.ClassDef) and tree.name == name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    reached, waiting = set[str](), ["__init__", "hear"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += [
            node.attr
            for node in ast.walk(methods[name])
            if isinstance(node, ast.Attribute) and node.attr in methods
        ]
    codes = [_code(inspect.getattr_static(kind, name)) for name in reached]
    return {code: {line for _, _, line in code.co_lines() if line} - {code.co_firstlineno} for code in codes}


def _code(method: Any) -> CodeType:  # noqa: ANN401 - whatever a class has
    function = getattr(method, "fget", method)  # of a property
    code: CodeType = function.__code__
    return code


def run(hands: Hands, take: Callable[[], None], codes: Steps, at: int) -> list[int]:
    """``take`` in a process of its own, killed at its ``at``-th step; the lines that it came by."""
    child = os.fork()
    if child == 0:
        try:
            _traced(hands, take, codes, at)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (-signal.SIGKILL if at else 0)
    path = hands.folder / "points"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def _traced(hands: Hands, take: Callable[[], None], codes: Steps, at: int) -> None:
    passed = 0
    hearing._TURN = 600.0  # on a busy machine a turn may end a step sooner

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:  # noqa: ANN401
        nonlocal passed
        if frame.f_code not in codes:
            return None
        if event == "line":
            passed += 1
            if not at:
                hands.add("points", str(frame.f_lineno))
            elif passed == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    take()
    os._exit(0)
