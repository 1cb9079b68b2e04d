"""How long a door stands open whose errand says a time: never for longer than the door allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.daemon.gates import CLIENT, Gate, step_until

from knockgate.daemon.errands import Errand


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.end()


@pytest.mark.parametrize(
    ("longest", "seconds", "lasts"),
    [
        (None, None, 10),
        (None, 4, 4),  # less than the door's own may be asked for
        (None, 3600, 10),
        (60, None, 10),
        (60, 40, 40),
        (60, 3600, 60),
    ],
)
def test_an_errand_asks_for_no_more_than_the_door_allows(
    gate: Gate, longest: float | None, seconds: float | None, lasts: float
) -> None:
    """So it is for the opening, and for a further knock, which renews."""
    now = [1000.0]
    door = dataclasses.replace(gate.door(lease=10), longest=longest)
    runner = gate.runner(door, now=lambda: now[0])
    runner.run(Errand("ssh", CLIENT, seconds, now[0]))
    step_until(runner, lambda: runner.is_idle and gate.rules, "it is open")
    assert [row.due for row in gate.rows()] == [1000 + lasts]
    now[0] += 2
    runner.run(Errand("ssh", CLIENT, seconds, now[0]))
    assert [row.due for row in gate.rows()] == [1002 + lasts]
    now[0] += lasts - 0.1
    runner.step(0)
    assert runner.is_idle and gate.rules == ["192.0.2.7"]
    now[0] += 0.1
    step_until(runner, lambda: not len(runner), "it is closed")
    assert gate.rules == []
