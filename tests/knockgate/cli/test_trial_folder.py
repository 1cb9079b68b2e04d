"""The run directory that a trial makes is one that the units can use afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knockgate.cli import trial


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_others_may_enter_it_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = os.umask(mask)
    try:
        begun = trial.begin(str(folder), 20.0, lambda: None)
    finally:
        os.umask(before)
    begun.answer("none")
    assert folder.stat().st_mode & 0o777 == 0o755
    begun.outcome()
