"""The process that keeps a trial's time: the table may change once it needs nobody any more, not before."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from knockgate.cli import trial
from knockgate.errors import Unavailable


def _session_of(process: int) -> int:
    return os.getsid(process)


def _handled(process: int) -> int:
    """Signals that it has a handler for, or ignores, as a mask (proc(5))."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["SigCgt"], 16) | int(fields["SigIgn"], 16)


def test_when_it_has_begun_neither_the_terminals_end_nor_a_signal_takes_it(tmp_path: Path) -> None:
    undone: list[bool] = []
    begun = trial.begin(str(tmp_path), 60, lambda: undone.append(True))
    keeper = begun._keeper
    assert _session_of(keeper) == keeper != _session_of(0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        assert _handled(keeper) >> (number - 1) & 1, number
    begun.answer("keep")
    assert begun.outcome() == trial.Outcome(kept=True, why="confirmed")


def test_where_it_ends_before_that_there_is_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trial, "_detach", lambda: os._exit(9))
        with pytest.raises(Unavailable, match="keep the time has ended"):
            trial.begin(str(tmp_path), 60, lambda: None)
    begun = trial.begin(str(tmp_path), 60, lambda: None)  # and the next one may
    begun.answer("none")
    begun.outcome()
