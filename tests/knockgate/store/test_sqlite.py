from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.knockgate.store.replay_conformance import (
    CASES,
    FRESH,
    HELD,
    LIMIT,
    Life,
    Stage,
    at,
    token,
)
from tests.knockgate.store.small_disk import fill, small_disk
from tests.netns import isolated, own_mounts, run

from knockgate.errors import Unavailable
from knockgate.model import Claim, Token
from knockgate.store.sqlite import SqliteStore
from knockgate.world import ReplayStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "replay.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    store = opened(file)
    yield store
    store.close()


def opened(file: Path, limit: int = LIMIT) -> SqliteStore:
    return SqliteStore(file, fresh=FRESH, limit=limit)


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_every_store_promises(case: Callable[[Stage], None], store: SqliteStore) -> None:
    case(Stage(store))


class OnDisk(Life):
    def new_store(self, *, limit: int) -> SqliteStore:
        self.folder = tempfile.TemporaryDirectory()
        self.limit = limit
        return opened(Path(self.folder.name) / "store", limit)

    def restarted(self, store: ReplayStore) -> SqliteStore:
        assert isinstance(store, SqliteStore)
        store.close()
        store = opened(Path(self.folder.name) / "store", self.limit)
        assert list(store.unsettled()) == []
        return store

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            assert isinstance(self.store, SqliteStore)
            self.store.close()
            self.folder.cleanup()


TestOnDisk = OnDisk.TestCase
TestOnDisk.settings = settings(max_examples=20, stateful_step_count=40)


# --- lives ----------------------------------------------------------------------------------------------


def test_it_is_known_to_the_next_one(file: Path) -> None:
    """What is remembered, and what is forgotten; the number, and the mark."""
    store = opened(file)
    old, new = token(), token(1000)
    for one, moment in ((old, at()), (new, at(1000))):
        assert Stage(store).take(one, moment) is Claim.CLAIMED
    store.close()
    store = opened(file)
    assert (len(store), store.low(), store.limit) == (1, old.issued, LIMIT)
    assert store.claim(new, at(1000, boot="b")) is Claim.REPLAYED
    assert store.claim(old, at(1000, boot="b")) is Claim.FORGOTTEN
    assert store.claim(token(1000), at(1000, boot="b")) is Claim.CLAIMED
    store.close()


def test_what_was_not_answered_is_told_of(file: Path) -> None:
    """Until it has been told: who ends while telling of one tells of it again. What is new is not told."""
    store = opened(file)
    answered, first, second = token(), token(1)._replace(key="bob", source=bytes(16)), token(2)
    for one in (answered, first, second):
        assert store.claim(one, at()) is Claim.CLAIMED
    store.settle(answered)
    assert list(store.unsettled()) == []  # of its own life nothing is
    store.close()
    store = opened(file)
    new = token(3)
    assert store.claim(new, at()) is Claim.CLAIMED
    assert next(store.unsettled()) == first
    store.close()
    store = opened(file)
    told = iter(store.unsettled())
    assert [next(told), next(told)] == [first, second]  # so the first has been told of
    store.close()
    store = opened(file)
    assert list(store.unsettled()) == [second, new]
    assert store.claim(first, at()) is Claim.REPLAYED
    store.close()
    store = opened(file)
    assert list(store.unsettled()) == []
    store.close()


def test_it_forgets_a_few_at_a_time(file: Path) -> None:
    """The oldest first, so that no packet has to wait; and also where there is less room than there was."""
    store = opened(file, 100)
    claimed = [Stage(store).taken(token(since), at()) for since in range(50)]
    before = len(store)
    Stage(store).taken(token(1000), at(1000))
    assert before == 50 and 30 <= len(store) <= 40
    assert store.low() == claimed[before - len(store)].issued
    store.close()
    store = opened(file, 10)
    claims = [Stage(store).take(token(1000), at(1000)) for _ in range(4)]
    assert claims[0] is Claim.FULL and claims[-1] is Claim.CLAIMED
    assert len(store) < 10
    store.close()


# --- the file -------------------------------------------------------------------------------------------


def test_a_replay_writes_nothing(file: Path, store: SqliteStore) -> None:
    """A stranger can send one again and again; a new packet does write (control)."""
    old, new = token(), token(1000)
    Stage(store).taken(old, at())
    Stage(store).taken(new, at(1000))

    def state() -> list[tuple[int, int]]:
        return [(each.stat().st_size, each.stat().st_mtime_ns) for each in (file, log_of(file))]

    before = state()
    for moment in (at(1000), at(known=False), at(boot="b"), at(HELD * 10)):
        assert store.claim(new, moment) is Claim.REPLAYED
        assert store.claim(old, moment) is Claim.FORGOTTEN
    assert state() == before
    Stage(store).taken(token(1001), at(1001))
    assert state() != before


def test_what_waits_for_the_disk(file: Path) -> None:
    """As the kernel sees it: a claim does not return before fdatasync; settling writes, and nobody waits."""
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from knockgate.model import Moment, Token\nfrom knockgate.store.sqlite import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1]), fresh=120, limit=9)\n"
        "moment = Moment(1, True, 1, 'a')\n"
        "for number in range(2):\n"
        "    one = Token(bytes([number]) * 32, 1, 'alice', b'1234')\n"
        "    claim, settle = lambda: store.claim(one, moment), lambda: store.settle(one)\n"
        "    for act in (claim, settle, claim):\n"
        "        os.write(1, b'begin\\n'); act(); os.write(1, b'end\\n')\n"
    )
    trace = "trace=fdatasync,fsync,pwrite64,write"
    command = ["strace", "-e", trace, sys.executable, "-c", script, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    acts = [each.partition('write(1, "end')[0] for each in done.stderr.split('write(1, "begin')[1:]]
    does = [("pwrite64(" in act, act.count("sync(")) for act in acts]
    assert does == [(True, 1), (True, 0), (False, 0)] * 2, done.stderr


def test_the_files_are_ours_alone(file: Path) -> None:
    before = os.umask(0)
    try:
        store = opened(file)
        Stage(store).taken(token(), at())
    finally:
        os.umask(before)
    made = sorted(file.parent.iterdir())
    assert made == [file, log_of(file)]
    assert {each.stat().st_mode & 0o777 for each in made} == {0o600}
    store.close()
    opened(file).close()  # control
    file.chmod(0o640)
    with pytest.raises(Unavailable, match="must be of mode 0600"):
        opened(file)
    file.unlink()
    file.symlink_to("elsewhere")
    with pytest.raises(Unavailable, match="symbolic links"):
        opened(file)


def test_a_second_one_is_refused(file: Path) -> None:
    """Also in another process, for as long as the first one lives."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom knockgate.store.sqlite import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1]), fresh=1, limit=1)\n"
        "print('open', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match="another listener uses it") as caught:
            opened(file)
        assert caught.value.hint
        store = SqliteStore(file, fresh=FRESH, limit=1, patience=30, waits=other.kill)
    Stage(store).taken(token(), at())
    store.close()


@pytest.mark.parametrize("damage", ["no base", "a folder", "nothing there", "newer", "other tables"])
def test_what_it_cannot_read_it_does_not_start_on(file: Path, damage: str) -> None:
    if damage == "no base":
        file.touch(0o600)
        file.write_bytes(b"no base at all, but long enough to be taken for one by its length" * 20)
    elif damage == "a folder":
        file.mkdir(0o700)
    elif damage == "nothing there":
        file = file / "missing"
    else:
        opened(file).close()
        base = sqlite3.connect(file)
        base.execute("PRAGMA user_version = 2" if damage == "newer" else "DROP TABLE low")
        base.commit()
        base.close()
    with pytest.raises(Unavailable) as caught:
        opened(file)
    assert str(caught.value).startswith(str(file)) and caught.value.hint
    assert ("newer knockgate" in str(caught.value)) == (damage == "newer")


def test_a_file_that_is_damaged_under_way(file: Path) -> None:
    """It is told, with a hint, and nothing is claimed; a packet that is known is known on."""
    store = opened(file, 10_000)
    for _ in range(2000):
        store.claim(token(), at(known=False))
    store.close()
    store = opened(file, 10_000)
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (file.stat().st_size - 4096))
    for _ in range(3):
        with pytest.raises(Unavailable, match="malformed") as caught:
            store.claim(token(), at())
        assert caught.value.hint
    store.close()


def _claim_until_refused(store: SqliteStore) -> Token:
    """The first for which there is no room; there may be some left in the log."""
    for _ in range(100):
        one = token()
        try:
            assert store.claim(one, at()) is Claim.CLAIMED
        except Unavailable:
            return one
    raise AssertionError("the disk is not full")


@isolated
def test_a_full_disk() -> None:
    """Nothing is claimed while there is no room, and what was is known; then it goes on by itself."""
    small_disk()
    file, ballast = Path("/run/store"), Path("/run/ballast")
    store = opened(file, 10_000)
    first = Stage(store).taken(token(), at())
    refused: list[Token] = []
    for _ in range(3):
        fill(ballast)
        refused.append(_claim_until_refused(store))
        with pytest.raises(Unavailable, match="full") as caught:
            store.claim(refused[-1], at())
        assert caught.value.hint
        assert store.claim(first, at()) is Claim.REPLAYED
        ballast.unlink()
        for one in (refused[-1], token()):
            assert Stage(store).take(one, at()) is Claim.CLAIMED
    before = len(store)
    store.close()
    store = opened(file, 10_000)
    assert len(store) == before
    assert {store.claim(one, at()) for one in (first, *refused)} == {Claim.REPLAYED}
    store.close()


@isolated
def test_a_disk_that_is_not_to_be_written() -> None:
    own_mounts()
    file = Path("/run/store")
    opened(file).close()  # control
    run("mount", "-o", "remount,ro", "/run")
    with pytest.raises(Unavailable, match="Read-only") as caught:
        opened(file)
    assert caught.value.hint
