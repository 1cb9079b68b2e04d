"""The gate is killed at each point of a claim and of what follows it; then the next one opens the file.

Points are taken from the source: each statement that reaches the file, just before it and just after it,
and each write and flush of the kernel's that one claim and one settling make.
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
from pathlib import Path

import pytest
from tests.knockgate.store.replay_conformance import FRESH, Stage, at, token

from knockgate.model import Claim
from knockgate.store import sqlite
from knockgate.store.base import PrivateBase
from knockgate.store.sqlite import SqliteStore

# The children run nothing of whatever threads the process of the tests has.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

#: More than are forgotten at once: the claim has to make room, and settling forgets some more.
LIMIT = 20
OLD = [token() for _ in range(LIMIT)]
NEW = token(1000)._replace(digest=b"new" + bytes(29))  # alike in all processes


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without room, in which all could be forgotten."""
    file = tmp_path_factory.mktemp("full") / "store"
    store = opened(file)
    for one in OLD:
        Stage(store).taken(one, at())
    store.close()
    return file


def opened(file: Path) -> SqliteStore:
    return SqliteStore(file, fresh=FRESH, limit=LIMIT)


def claim_and_settle(store: SqliteStore) -> None:
    """In the child: the course. ``c`` is told once the claim was answered, ``s`` once it was settled."""
    assert store.claim(NEW, at(1000)) is Claim.CLAIMED
    os.write(1, b"c")
    store.settle(NEW)
    os.write(1, b"s")


def course(file: Path, at_point: int) -> tuple[list[str], str]:
    """The points that a child passed, and what it told, before it was killed at that one; 0: it is not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 1)
            store = opened(file)
            _count_and_kill(file.with_name("points"), at_point)
            claim_and_settle(store)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (-signal.SIGKILL if at_point else 0)
    return file.with_name("points").read_text().split("\0")[:-1], told


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


def statements_in_source() -> set[str]:
    """What the verbs hand to ``do``, out of their source; making and opening the file is not among them."""
    found = set()
    for owner in (SqliteStore, PrivateBase):
        for name, function in inspect.getmembers(owner, inspect.isfunction):
            if name in ("__init__", "_lay_out", "_take", "do"):
                continue
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "do":
                    text = node.args[0]
                    found.add(
                        str(text.value) if isinstance(text, ast.Constant) else vars(sqlite)[ast.unparse(text)]
                    )
    return found


def copied(full: Path, folder: Path) -> Path:
    return Path(shutil.copy2(full, folder / "store"))


def judge(file: Path, told: str) -> str:
    """What the next one finds: ``new``, ``told of`` or ``settled``. Nothing is ever claimed twice."""
    store = opened(file)
    unsettled = list(store.unsettled())
    assert unsettled in ([], [NEW])
    claim = store.claim(NEW, at(1000))
    assert claim in (Claim.CLAIMED, Claim.REPLAYED)
    assert not (told and claim is Claim.CLAIMED), "what was answered is claimed again"
    assert not (unsettled and claim is Claim.CLAIMED)
    assert not ("s" in told and unsettled), "what was settled is told of"
    for moment in (at(1000), at(1000, known=False), at(0)):
        assert {store.claim(one, moment) for one in OLD} <= {Claim.REPLAYED, Claim.FORGOTTEN}
    assert len(store) <= LIMIT
    store.close()
    return "new" if claim is Claim.CLAIMED else "told of" if unsettled else "settled"


def test_the_points_are_all_there_are(full: Path, tmp_path: Path) -> None:
    """Each statement in the source of these verbs is passed, but for what undoes a failed transaction."""
    points, told = course(copied(full, tmp_path), 0)
    assert told == "cs"
    passed = {point.partition(" ")[2] for point in points}
    assert passed | {"ROLLBACK"} == statements_in_source() and "ROLLBACK" not in passed
    assert judge(tmp_path / "store", told) == "settled"


def test_killed_at_each_statement(full: Path, tmp_path: Path) -> None:
    """Until the claim is committed it is as if nothing had come; then it is told of, until it is settled."""
    number = len(course(copied(full, tmp_path), 0)[0])
    states, turns = ["new"], []
    for at_point in range(1, number + 1):
        folder = tmp_path / str(at_point)
        folder.mkdir()
        points, told = course(copied(full, folder), at_point)
        assert len(points) == at_point
        states.append(judge(folder / "store", told))
        if states[-1] != states[-2]:
            turns.append((points[-1], states[-1]))
    assert turns == [("after COMMIT", "told of"), ("after COMMIT", "settled")]


def test_killed_at_each_write(full: Path, tmp_path: Path) -> None:
    """In the middle of a transaction's pages, and before they are flushed, as strace(1) can stop it.

    strace kills at the same count each time; a child that is to die at an earlier call makes others before.
    """
    for call, most in (("pwrite64", 30), ("fdatasync", 4)):
        folders = []
        for number in range(most):
            folders.append(tmp_path / f"{call}{number}")
            folders[-1].mkdir()
            copied(full, folders[-1])
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=KILL:when={most + 1}", sys.executable, __file__, call]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        try:
            done = subprocess.run(
                [*command, *map(str, folders)], env=environment, capture_output=True, check=False, timeout=120
            )
        except FileNotFoundError:
            pytest.skip("strace is not installed")
        assert done.returncode == 0, done.stderr
        told = done.stdout.decode().splitlines()
        states = [judge(folder / "store", each) for folder, each in zip(folders, told, strict=True)]
        assert set(states) == {"new", "told of", "settled"} and states[-1] == "settled", states
        assert "cs" in told and told[0] == "", told


def _be_killed_at_each_call(call: str, folders: list[str]) -> None:
    """Run under strace. The child of the number n dies at its call n + 1."""
    for number, folder in enumerate(folders):
        child = os.fork()
        if child == 0:
            store = opened(Path(folder) / "store")
            with (Path(folder) / "spent").open("wb") as file:
                for _ in range(len(folders) - number):
                    os.pwrite(file.fileno(), b"", 0) if call == "pwrite64" else os.fdatasync(file.fileno())
            claim_and_settle(store)
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"\n")


if __name__ == "__main__":
    _be_killed_at_each_call(sys.argv[1], sys.argv[2:])
