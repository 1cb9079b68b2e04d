"""The outside of the lab: starts the stage, shows its progress and prints its report."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from typing import Any

from knockdemo.lab.hosts import PYTHON
from knockdemo.lab.space import enter
from knockdemo.lanes import choose
from knockdemo.report import LaneReport, Report, to_json
from knockdemo.show import Progress, show_report
from knockdemo.terminal import open_output, write_output
from knockgate.errors import Unavailable

__all__ = ["command"]


def command(args: argparse.Namespace) -> int:
    """``knockdemo lab``: returns 0 if every lane hides, opens and closes as promised, else 1."""
    lanes = ",".join(lane.NAME for lane in choose(args.lanes))
    for lane in "EF":
        if lane in lanes:
            _expect_libraries(lane)
    # Opened before the first minute is spent.
    output = open_output(args.json)
    found: list[Report] = []
    with Progress() as progress:

        def on_event(event: Mapping[str, Any]) -> None:
            if event["event"] == "progress":
                progress.tell(event["text"], event["left"])
            elif event["event"] == "report":
                notes = event["notes"].values()
                lane_reports = [LaneReport.of(measured) for measured in notes]
                found.append(Report(event["window"], event["sweep"], lane_reports))

        stage = [*PYTHON, "-m", "knockdemo.lab.stage"]
        options = ["--window", str(args.window), "--lanes", lanes, "--python", sys.executable]
        enter([*stage, *options], on_event)
    if not found:
        raise Unavailable("the lab ended without a report")
    report = found[0]
    if "".join(lane.lane for lane in report.lanes) != lanes.replace(",", ""):
        raise Unavailable("the lab did not report on every lane that was asked for")
    if args.json != "-":
        show_report(report)
    if output:
        write_output(output, to_json(report))
    return 0 if report.ok else 1


def _expect_libraries(lane: str) -> None:
    """The gate's daemon runs on the Python that we run on, and needs libraries there."""
    try:
        for name in ("knockgate.cli", "knockgate.daemon.packets", "knockgate.daemon.sealed"):
            importlib.import_module(name)
    except ImportError as error:
        hint = "`make demo` brings what is missing; or leave the lane out, with --lanes A,B,C,D"
        raise Unavailable(f"lane {lane} cannot run: {error}", hint=hint) from None
