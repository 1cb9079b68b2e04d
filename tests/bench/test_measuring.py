"""Floods that were none are made again, and never become a figure."""

from __future__ import annotations

import pytest
from bench.__main__ import _arguments, _asked, _is_whole
from bench.measuring import again, checked
from bench.results import Results

from knockgate.errors import Unavailable


def test_a_flood_of_which_a_part_is_missing_is_no_figure() -> None:
    assert checked(90_000.4, 100_000) == 90_000
    with pytest.raises(Unavailable, match="only 89999 packets/s arrived"):
        checked(89_999.4, 100_000)


def test_it_is_made_again_twice_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    rates = iter([10.0, 20.0, 95.0])
    assert again(lambda: checked(next(rates), 100)) == 95
    assert capsys.readouterr().out.count("thrown away") == 2
    rates = iter([10.0, 20.0, 30.0, 95.0])
    with pytest.raises(Unavailable, match="only 30 packets"):
        again(lambda: checked(next(rates), 100))
    assert next(rates) == 95


def test_another_failure_is_not_tried_again() -> None:
    def fails() -> None:
        tries.append(1)
        raise Unavailable("measurement failed: it ended")

    tries: list[int] = []
    with pytest.raises(Unavailable, match="it ended"):
        again(fails)
    assert tries == [1]


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ([], True),
        (["--rounds", "5"], True),
        (["--rounds", "1"], False),
        (["--rate", "1000"], False),
        (["--seconds", "1"], False),
        (["--quick"], False),
        (["--only", "idle"], False),
        (["--subjects", "kernel"], False),
    ],
)
def test_what_is_written_into_docs_unasked_is_a_whole_run(words: list[str], whole: bool) -> None:
    assert _is_whole(Results({}, _asked(_arguments(words)), {})) is whole
