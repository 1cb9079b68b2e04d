from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_flood_measures(tmp_path: Path) -> None:
    """A small flood, measured whole: silent packets cost nothing, control and knocks are there."""
    output = tmp_path / "flood.json"
    argv = [sys.executable, str(ROOT / "bench/flood.py"), "--rate", "5000", "--seconds", "2", "--repeat", "1"]
    argv += ["--knocks", "2", "--json", str(output)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    if "does not let ordinary users make namespaces" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    found = report["medians"]
    assert report["ok"] is True
    assert all(figures["arrived_per_s"] >= 4500 for name, figures in found.items() if name != "quiet")
    assert found["no-opening"]["cpu"] < 0.01 < found["filter-off"]["cpu"]
    for name in ("quiet", "syn-one", "syn-made-up", "syn-first"):
        assert found[name]["opened"] == found[name]["knocks"] == 2
    assert found["syn-own"]["opened"] == 0
