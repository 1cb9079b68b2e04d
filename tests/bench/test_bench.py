from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.figures.all import FIGURES
from bench.results import Results

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bench", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)


def test_a_figure_that_there_is_not() -> None:
    done = bench("--only", "speed")
    assert done.returncode == 2 and "invalid choice: 'speed'" in done.stderr


def test_a_subject_that_there_is_not() -> None:
    done = bench("--subjects", "sealedd")
    assert done.returncode == 2 and "invalid choice: 'sealedd'" in done.stderr


def test_a_report_of_samples_that_are_not_there() -> None:
    done = bench("--again", "/nonexistent/out.json")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "  hint: make bench writes it"


def test_a_report_to_where_none_can_be_written(tmp_path: Path) -> None:
    """That is told before anything is measured; a folder that is missing is made."""
    (tmp_path / "file").touch()
    done = bench("--quick", "--report", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "cannot write there: File exists" in done.stderr and "Traceback" not in done.stderr
    Results({}, {"quick": True, "figures": [], "subjects": []}, {}).save(tmp_path / "none.json")
    done = bench("--again", str(tmp_path / "none.json"), "--report", str(tmp_path / "new" / "one"))
    assert "cannot write there" not in done.stderr
    assert (tmp_path / "new" / "one").is_dir()


@pytest.mark.long
def test_all_is_measured(tmp_path: Path) -> None:
    """Small numbers, measured whole: ours opens where peers do not, and nobody slips in."""
    done = bench("--quick", "--json", str(tmp_path / "out.json"))
    if "does not let ordinary users make namespaces" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = Results.load(tmp_path / "out.json")
    for name, figure in FIGURES.items():
        assert found.subjects(name) == list(figure.subjects)
    for each in (each for each in found.samples if each.figure == "latency"):
        times = each.values["first_ms"]
        assert isinstance(times, list) and None not in times, each.subject
    assert _opened(found, "kernel") == _opened(found, "sealed") == 1 > _opened(found, "knockd")
    (ours,), (crude,) = (
        found.of("reloads", "kernel", case) for case in ("reload", "reload by delete and add")
    )
    assert ours.values["strangers_passed"] == ours.values["holders_lost"] == 0
    assert crude.values["holders_lost"]
    (owned,), (watched,) = (
        found.of("reloads", "kernel", f"flush, {how} table") for how in ("owned", "watched")
    )
    assert owned.values["strangers_passed"] == 0
    assert watched.values["strangers_passed"]
    assert all(each.values["refused_per_core_s"] for each in found.samples if each.figure == "refused")


def _opened(found: Results, subject: str) -> float:
    (sample,) = found.of("flood", subject)
    tried, opened = sample.values["tried"], sample.values["opened"]
    assert isinstance(tried, int) and isinstance(opened, int)
    return opened / tried
