"""A store of fwknop's packets that begins as if all until now had been taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.errors import Unavailable
from knockgate.model import Claim, Moment, Token
from knockgate.store.sqlite import SqliteStore

#: Half a minute after a full hour, where the hour before matters most.
LOW = 1_790_000_000 // 3600 * 3600 + 30


def token(issued: int) -> Token:
    return Token(issued.to_bytes(8, "big") * 4, issued, "alice", bytes(4))


def moment(now: float, *, synchronised: bool = True) -> Moment:
    return Moment(now=now, synchronised=synchronised, up=now - LOW + 1000.0, boot="boot")


def opened(path: Path, fresh: float) -> SqliteStore:
    return SqliteStore(path, fresh=fresh, limit=1000)


@given(
    fresh=st.sampled_from([1.0, 120.0, 3600.0, 86400.0]),
    low=st.integers(LOW, LOW + 7200),
    sent=st.lists(st.tuples(st.integers(0, 200_000), st.booleans(), st.integers(0, 4000)), max_size=12),
)
def test_nothing_of_before_is_ever_taken(
    fresh: float, low: int, sent: list[tuple[int, bool, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the clock does afterwards; what is new is taken, and is what makes the store forget."""
    path = tmp_path_factory.mktemp("store") / "replay.sqlite"
    SqliteStore.create(path, low=low, fresh=fresh)
    store, now = opened(path, fresh), low
    for before, synchronised, passed in sent:
        now += 1 + passed
        new = token(now)
        assert store.claim(new, moment(now, synchronised=synchronised)) is Claim.CLAIMED
        store.settle(new)
        # What is older than fresh is refused by its age alone, as long as there is a clock.
        oldest = max(0, low - before) if not synchronised else max(low - before, int(now - fresh) + 1)
        if oldest <= low:
            found = store.claim(token(oldest), moment(now, synchronised=synchronised))
            assert found is Claim.FORGOTTEN, (oldest - low, now - low)
    store.close()


def test_it_is_never_made_over_another(tmp_path: Path) -> None:
    path = tmp_path / "replay.sqlite"
    SqliteStore.create(path, low=LOW, fresh=120.0)
    assert [each.name for each in tmp_path.iterdir()] == ["replay.sqlite"]
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="is there already") as caught:
        SqliteStore.create(path, low=LOW + 1, fresh=120.0)
    assert str(caught.value.hint).startswith("move it away")
    assert path.read_bytes() == before
    path.unlink()
    path.with_name("replay.sqlite-wal").touch()
    with pytest.raises(Unavailable, match="-wal is there already"):
        SqliteStore.create(path, low=LOW, fresh=120.0)


def test_one_that_was_not_closed_takes_it(tmp_path: Path) -> None:
    """The control."""
    store = opened(tmp_path / "replay.sqlite", 120.0)
    assert store.claim(token(LOW), moment(LOW + 1)) is Claim.CLAIMED
    store.close()
