"""``python -m tools.attacks [--again FILE] [--report FOLDER] [PYTEST OPTION...]``; `make attacks`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench.machine import machine
from tests.attacks.figures import VARIABLE

import knockgate
from tools.attacks import page
from tools.attacks.results import Results, Wrong, read

_ROOT = Path(__file__).resolve().parents[2]
_FIGURES = _ROOT / "build" / "attacks.jsonl"
_SUITE = "tests/attacks"
#: How each program says its version.
_VERSIONS = {"knockd": ["knockd", "-V"], "fwknopd": ["fwknopd", "-V"], "nft": ["nft", "--version"]}


class Outcomes:
    """What pytest says of each test."""

    def __init__(self) -> None:
        self.passed = 0
        self.left_out: dict[str, str] = {}

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """By an option."""
        self.left_out |= {each.nodeid: "was not asked for" for each in items}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Of a file; it may be left out as a whole."""
        self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After each step of each test."""
        if report.when == "call" and report.passed:
            self.passed += 1
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.left_out[report.nodeid] = why.removeprefix("Skipped: ")


def _attacked(options: Sequence[str]) -> Results:
    """Run them all; Wrong where a test fails."""
    _FIGURES.unlink(missing_ok=True)
    os.environ[VARIABLE] = str(_FIGURES)
    outcomes, began = Outcomes(), time.monotonic()
    now = dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)
    status = pytest.main(["-q", "-p", "no:cacheprovider", _SUITE, *options], plugins=[outcomes])
    if status != pytest.ExitCode.OK:
        failed = status == pytest.ExitCode.TESTS_FAILED
        raise Wrong(
            f"{'a test failed' if failed else 'the tests did not run to their end'}, so there is no page"
        )
    return Results(
        machine=machine(),
        versions=_versions(),
        day=f"{now:%Y-%m-%d}",
        took_s=round(time.monotonic() - began),
        passed=outcomes.passed,
        left_out=dict(sorted(outcomes.left_out.items())),
        attacks=read(_FIGURES),
    )


def _versions() -> dict[str, str]:
    found = {"knockgate": knockgate.__version__}
    for name, argv in _VERSIONS.items():
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": path})
        except OSError:
            continue
        number = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        found[name] = number.group() if number else "unknown"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing came through, and the page is written; 2: there is none."""
    parser = argparse.ArgumentParser(
        prog="make attacks",
        description="attack the gate in all the ways of tests/attacks, and write docs/attacks.md",
        epilog="Exit status: 0 the page is written, 2 a test failed or something opened: there is none.",
        allow_abbrev=False,  # what is not ours is pytest's
    )
    parser.add_argument("--again", metavar="FILE", type=Path, help="attack nothing: the page of such a file")
    parser.add_argument("--report", metavar="FOLDER", type=Path, default=_ROOT / "docs", help="(docs)")
    given, options = parser.parse_known_args(arguments)
    try:
        found = Results.load(given.again) if given.again else _attacked(options)
    except Wrong as wrong:
        print(f"attacks: {wrong}", file=sys.stderr)
        return 2
    given.report.mkdir(parents=True, exist_ok=True)
    found.save(given.report / f"{page.NAME}.json")
    (given.report / f"{page.NAME}.md").write_text(page.page(found))
    print(f"attacks: {len(found.attacks)} attacks; {given.report / page.NAME}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
