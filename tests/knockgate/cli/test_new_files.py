"""Files for a block that needs them. What ``write_new`` does is in the tests of those who write with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from knockgate.cli.new_files import written
from knockgate.errors import Unavailable


def test_they_are_there_for_the_block_and_stay(tmp_path: Path) -> None:
    secret, plain = tmp_path / "one" / "two" / "secret", tmp_path / "three" / "plain"
    with written({secret: "a\n", plain: "b\n"}, private=frozenset([secret])):
        assert (secret.read_text(), plain.read_text()) == ("a\n", "b\n")
    assert {each.name: each.stat().st_mode & 0o777 for each in tmp_path.rglob("*") if each.is_file()} == {
        "secret": 0o600,
        "plain": 0o644,
    }


def test_where_the_block_raises_they_go_with_their_folders(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").touch()
    files = {tmp_path / "one" / "two" / "file": "a", mine / "file": "b"}

    def fails() -> None:
        with written(files, private=frozenset()):
            assert all(file.exists() for file in files)
            raise Unavailable("not today")

    with pytest.raises(Unavailable, match="not today"):
        fails()
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["kept", "mine"]


def test_one_that_is_there_keeps_the_block_from_beginning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(Unavailable, match="is there already"),
        written({tmp_path / "other": "a", tmp_path / "file": "b"}, private=frozenset()),
    ):
        raise AssertionError("it began")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"
