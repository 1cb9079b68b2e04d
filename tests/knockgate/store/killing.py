"""Stores killed at each point of a course, for the tests that open the file afterwards.

Points are taken from the source: each statement that reaches the file, just before it and just after it; and
each write and flush that the kernel is asked for.
"""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

import pytest

from knockgate.store import base
from knockgate.store.base import PrivateBase

__all__ = ["Course", "copied", "statements_in_source"]

Store = TypeVar("Store")


def copied(file: Path, folder: Path) -> Path:
    """A copy of a store that nobody uses, in a folder that is there or is made."""
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy2(file, folder / "store"))


class Course(Generic[Store]):
    """What a child does that is to be killed: it opens the file, and then acts on the store.

    To act is also to tell: it writes single letters to the descriptor 1.
    """

    def __init__(self, opened: Callable[[Path], Store], act: Callable[[Store], None]) -> None:
        self.opened, self.act = opened, act

    def killed(self, file: Path, at_point: int) -> tuple[list[str], str]:
        """The points that a child passed and what it told until it was killed at that one; 0: it is not."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.dup2(writer, 1)
                store = self.opened(file)
                _count_and_kill(file.with_name("points"), at_point)
                self.act(store)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            told = stream.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (-signal.SIGKILL if at_point else 0)
        return file.with_name("points").read_text().split("\0")[:-1], told

    def killed_at_calls(
        self, call: str, most: int, file: Path, folder: Path, script: str
    ) -> list[tuple[Path, str]]:
        """Copies of the file, one killed at each of so many calls of that name, and what was told each time.

        ``script`` is the test's file, which hands its arguments to ``run_under_strace`` where it is run.
        strace kills at the same count each time; a child that is to die earlier makes other calls before.
        """
        files = [copied(file, folder / f"{call}{number}") for number in range(most)]
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=KILL:when={most + 1}", sys.executable, script, call]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        try:
            done = subprocess.run(
                [*command, *map(str, files)], env=environment, capture_output=True, check=False, timeout=120
            )
        except FileNotFoundError:
            pytest.skip("strace is not installed")
        assert done.returncode == 0, done.stderr
        return list(zip(files, done.stdout.decode().splitlines(), strict=True))

    def run_under_strace(self, call: str, *files: str) -> None:
        """The child of the number n dies at its call n + 1."""
        for number, each in enumerate(files):
            child = os.fork()
            if child == 0:
                file = Path(each)
                store = self.opened(file)
                with file.with_name("spent").open("wb") as spent:
                    for _ in range(len(files) - number):
                        os.pwrite(spent.fileno(), b"", 0) if call == "pwrite64" else os.fdatasync(
                            spent.fileno()
                        )
                self.act(store)
                os._exit(0)
            os.waitpid(child, 0)
            os.write(1, b"\n")


def _count_and_kill(log: Path, at_point: int) -> None:
    passed = 0
    do = PrivateBase.do

    def point(name: str) -> None:
        nonlocal passed
        passed += 1
        with log.open("a") as stream:
            stream.write(f"{name}\0")
        if passed == at_point:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self: PrivateBase, statement: str, *values: object) -> object:
        point(f"before {statement}")
        answer = do(self, statement, *values)
        point(f"after {statement}")
        return answer

    log.unlink(missing_ok=True)
    PrivateBase.do = watched  # type: ignore[assignment, method-assign]


def statements_in_source(module: ModuleType, owners: Iterable[type], *but: str) -> set[str]:
    """What the verbs hand to ``do``, out of their source; ``but`` are those that only open the file."""
    found = set()
    for owner in owners:
        for name, function in inspect.getmembers(owner, inspect.isfunction):
            if name in but:
                continue
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "do":
                    text = node.args[0]
                    names = vars(base) | vars(module)
                    found.add(str(text.value) if isinstance(text, ast.Constant) else names[ast.unparse(text)])
    return found
