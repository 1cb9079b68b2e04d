"""The salt of a store of marks, for who only looks: also while a gate has it, and without a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from knockgate.errors import Unavailable
from knockgate.mechanisms.certainty import Span
from knockgate.spa.sealed.dates import Date
from knockgate.store.marks import SqliteMarks

INCARNATION, SALT = bytes(16), bytes(range(32))


def test_it_is_read_beside_the_one_who_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    SqliteMarks.create(path, INCARNATION, salt=SALT)
    assert SqliteMarks.peek_salt(path) == SALT
    store = SqliteMarks(path, incarnation=INCARNATION, devices=2)
    for number in range(1, 100):
        store.claim(number.to_bytes(32, "big"), bytes(16), Date(0, number), Span(), None)
        if not number % 10:
            before = sorted((each.name, each.stat().st_mtime_ns) for each in tmp_path.iterdir())
            assert SqliteMarks.peek_salt(path) == SALT
            assert sorted((each.name, each.stat().st_mtime_ns) for each in tmp_path.iterdir()) == before
    with pytest.raises(Unavailable, match="uses it"):  # the control: whoever wants more is refused
        SqliteMarks(path, incarnation=INCARNATION, devices=2)
    store.close()
    assert SqliteMarks.peek_salt(path) == SALT


@pytest.mark.parametrize("content", [b"", b"spoilt" * 1000, None])
def test_a_file_that_has_none(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "100% odd? #name"
    SqliteMarks.create(path, INCARNATION, salt=SALT)
    assert SqliteMarks.peek_salt(path) == SALT
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unavailable, match="its salt cannot be read"):
        SqliteMarks.peek_salt(path)
