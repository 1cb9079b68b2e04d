"""A run that broke off keeps what it has measured, and is gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from bench import run
from bench.results import Results, Turn

from knockgate.errors import Unavailable

Told = Callable[[Mapping[str, object]], None]
TURNS = [("idle", 1, "knockd"), ("idle", 1, "kernel"), ("idle", 2, "knockd"), ("idle", 2, "kernel")]


def inside(breaks_in: int | None) -> Callable[[Sequence[str], Told], None]:
    """What ``bench.rounds`` tells; in that turn it breaks off, with a sample of it told already."""

    def enter(argv: Sequence[str], on_event: Told) -> None:
        done = [tuple(each) for each in json.loads(argv[-1])["done"]]
        on_event({"event": "turns", "of": len(TURNS)})
        for at, (figure, number, subject) in enumerate(TURNS):
            if (figure, number, subject) in done:
                continue
            sample = {"figure": figure, "subject": subject, "case": "", "round": number, "values": {"at": at}}
            on_event({"event": "sample", **sample})
            if at == breaks_in:
                raise Unavailable("measurement failed: knockd ended", hint="why")
            on_event({"event": "turn", "figure": figure, "round": number, "subject": subject})

    return enter


def test_it_goes_on_with_the_turn_in_which_it_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "build/bench.json"
    monkeypatch.setattr(run, "enter", inside(breaks_in=2))
    with pytest.raises(Unavailable, match="knockd ended") as told:
        run.measure(run.begun({"rounds": 2}), kept)
    assert told.value.hint == f"why; 2 of 4 turns are kept: --go-on {kept}"
    broken = Results.load(kept)
    assert [each.values["at"] for each in broken.samples] == [0, 1] and broken.missing == 2
    monkeypatch.setattr(run, "enter", inside(breaks_in=None))
    run.measure(broken, kept)
    whole = Results.load(kept)
    assert [each.values["at"] for each in whole.samples] == [0, 1, 2, 3] and whole.missing == 0
    assert whole.turns == [Turn(*each, whole.turns[at].seconds) for at, each in enumerate(TURNS)]


def test_what_was_measured_elsewhere_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "enter", inside(breaks_in=None))
    for change in ("machine", "versions"):
        found = run.begun({"rounds": 2})
        found.turns.append(Turn("idle", 1, "knockd", 1.0))
        run.measure(found, tmp_path / "bench.json")  # the control
        setattr(found, change, {**getattr(found, change), "kernel": "Linux 1", "knockd": "0.7"})
        with pytest.raises(Unavailable, match="another machine"):
            run.measure(found, tmp_path / "bench.json")


def test_one_of_which_nothing_was_measured_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "enter", inside(breaks_in=0))
    with pytest.raises(Unavailable) as told:
        run.measure(run.begun({}), tmp_path / "bench.json")
    assert told.value.hint == "why" and not list(tmp_path.iterdir())
