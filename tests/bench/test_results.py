from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import page
from bench.results import Results, Sample, middle, percentile
from hypothesis import given
from hypothesis import strategies as st

from knockgate.errors import Unavailable

ASKED = {"quick": True, "day": "2026-11-23", "rounds": 2, "load_before": 0.1}
MACHINE = {
    "cpu": "a processor",
    "cores": 2,
    "virtual": True,
    "memory_GB": 8.0,
    "kernel": "Linux",
    "system": "Debian",
    "python": "3.11.2",
    "rights": "root",
}


def results(*samples: Sample) -> Results:
    return Results(MACHINE, ASKED, {"knockd": "0.8"}, list(samples))


def latency(subject: str, number: int, times: list[float | None]) -> Sample:
    return Sample("latency", subject, "", number, {"first_ms": times})


def idle(subject: str, memory: float, wakeups: float, number: int = 1) -> Sample:
    return Sample("idle", subject, "", number, {"pss_MB": memory, "wakeups_per_minute": wakeups})


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_so_many_are_at_or_below(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(each <= found for each in values) >= share * len(values) - 1e-3
    below = [each for each in values if each < found]
    assert not below or len(below) < share * len(values) + 1e-3


def test_what_never_opened_is_the_slowest_of_all() -> None:
    assert percentile([1.0, 2.0, None, None], 0.5) == 2.0
    assert percentile([1.0, None, None], 0.5) is None
    assert percentile([], 0.5) is None


def test_the_middle_of_rounds_that_have_a_value() -> None:
    assert middle([None, 3, 1.0, 2]) == (middle([3, 1, 2]))
    found = middle([3, 1, 2])
    assert found and (found.median, found.least, found.most) == (2, 1, 3)
    assert middle([None]) is None


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    found = results(latency("knockd", 1, [30.5, None]), idle("kernel", 0, 0))
    path = tmp_path / "out.json"
    found.save(path)
    assert Results.load(path) == found
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "cannot be read"), ("{}", "cannot be read"), (json.dumps({"format": 1}), "format 1, not 2")],
)
def test_what_is_no_file_of_samples(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "out.json"
    path.write_text(text)
    with pytest.raises(Unavailable, match=says):
        Results.load(path)


def test_a_cell_shows_the_spread_of_the_rounds_and_a_knock_that_never_opened() -> None:
    text = page.tables(results(latency("kernel", 1, [1.0, 1.0]), latency("kernel", 2, [3.0, None])))
    assert "| knockgate: sequence in the kernel | 4 | 3 | 1 | - | 1 to 3 |" in text


def test_a_cell_has_the_median_and_the_spread_where_rounds_differ() -> None:
    rounds = [idle("kernel", memory, 7, number) for number, memory in enumerate((3, 1, 2), 1)]
    assert "| - | - | 2 (1 to 3) | - | 7 |" in page.tables(results(*rounds))
