"""The gate is killed at each point of a claim and of what follows it; then the next one opens the file.

Points are taken from the source: each statement that reaches the file, just before it and just after it,
and each write and flush of the kernel's that one claim and one settling make.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.knockgate.store.killing import Course, copied, statements_in_source
from tests.knockgate.store.replay_conformance import FRESH, Stage, at, token

from knockgate.model import Claim
from knockgate.store import base, sqlite
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
    base._HALF = 1
    store.tidy()


COURSE = Course(opened, claim_and_settle)


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
    points, told = COURSE.killed(copied(full, tmp_path), 0)
    assert told == "cs"
    passed = {point.partition(" ")[2] for point in points}
    but = "__init__", "_lay_out", "_take", "do", "be_ready"
    assert passed | {"ROLLBACK"} == statements_in_source(sqlite, (SqliteStore, PrivateBase), *but)
    assert "ROLLBACK" not in passed
    assert judge(tmp_path / "store", told) == "settled"


def test_killed_at_each_statement(full: Path, tmp_path: Path) -> None:
    """Until the claim is committed it is as if nothing had come; then it is told of, until it is settled."""
    number = len(COURSE.killed(copied(full, tmp_path), 0)[0])
    states, turns = ["new"], []
    for at_point in range(1, number + 1):
        file = copied(full, tmp_path / str(at_point))
        points, told = COURSE.killed(file, at_point)
        assert len(points) == at_point
        states.append(judge(file, told))
        if states[-1] != states[-2]:
            turns.append((points[-1], states[-1]))
    assert turns == [("after COMMIT", "told of"), ("after COMMIT", "settled")]


def test_killed_at_each_write(full: Path, tmp_path: Path) -> None:
    """In the middle of a transaction's pages, and before they are flushed, as strace(1) can stop it."""
    for call, most in (("pwrite64", 30), ("fdatasync", 6)):
        killed = COURSE.killed_at_calls(call, most, full, tmp_path, __file__)
        states = [judge(file, told) for file, told in killed]
        assert set(states) == {"new", "told of", "settled"} and states[-1] == "settled", states
        assert "cs" in [told for _, told in killed] and killed[0][1] == "", killed


if __name__ == "__main__":
    COURSE.run_under_strace(*sys.argv[1:])
