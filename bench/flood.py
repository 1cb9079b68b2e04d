#!/usr/bin/env python3
"""What a flood costs lane A's daemon, and whether a knock still opens meanwhile.

Everything happens in namespaces made for it, which end with it; the outside only starts them, adds up
and prints. ``README.md`` says what is measured and what was found.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.machine import machine, two_cores
from bench.scenarios import SCENARIOS
from knockdemo import terminal
from knockdemo.lab.space import enter
from knockgate.errors import Unavailable

PROGRAM = "flood"
#: The promise: packets that open no connection cost the daemon less than this part of a core.
PROMISE = 0.01
#: In these the knocks of honest clients must open; in ``syn-own`` they must not.
HONEST = ("quiet", "syn-one", "syn-made-up", "syn-first")

Medians = dict[str, dict[str, float | None]]


def measure(args: argparse.Namespace, names: list[str]) -> list[dict[str, Any]]:
    """All runs, in the order in which they were made."""
    cores = two_cores()
    root = Path(__file__).resolve().parents[1]
    stage = ["env", f"PYTHONPATH={root / 'src'}:{root}", sys.executable, "-m", "bench.stage"]
    stage += ["--rate", str(args.rate), "--seconds", str(args.seconds), "--repeat", str(args.repeat)]
    stage += ["--knocks", str(args.knocks), "--cores", str(cores[0]), str(cores[1]), "--scenarios", *names]
    runs: list[dict[str, Any]] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "progress":
            terminal.say(PROGRAM, event["text"])
        else:
            runs.append({key: value for key, value in event.items() if key != "event"})

    enter(stage, on_event)
    if len(runs) != len(names) * args.repeat:
        raise Unavailable(f"measurement failed: {len(runs)} runs came back")
    return runs


def medians(runs: list[dict[str, Any]]) -> Medians:
    """Of each figure over the runs of each scenario; knocks are added up instead."""
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        grouped[run["scenario"]].append(run)
    found: Medians = {}
    for name, same in grouped.items():
        figures: dict[str, float | None] = {}
        for key in ("arrived_per_s", "cpu", "kernel", "waited", "us_each", "latency_ms"):
            values = [run[key] for run in same if run[key] is not None]
            figures[key] = statistics.median(values) if values else None
        figures["lost"] = statistics.median(run["lost"] / max(1, run["queued"]) for run in same)
        for key in ("knocks", "opened", "opened6"):
            figures[key] = sum(run[key] for run in same)
        found[name] = figures
    return found


def broken(found: Medians) -> list[str]:
    """What does not hold of what is promised; empty when all of it does."""
    complaints = []
    for name, figures in found.items():
        if name == "no-opening" and (figures["cpu"] or 0) >= PROMISE:
            complaints.append(f"packets that open no connection cost {figures['cpu']:.1%} of a core")
        if name in HONEST and not figures["opened"]:
            complaints.append(f"{name}: no genuine knock opened")
        if name == "syn-own" and figures["opened"]:
            complaints.append(f"{name}: a knock opened that other packets should have reset")
    return complaints


def show(args: argparse.Namespace, found: Medians) -> None:
    """The table for people."""
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores; {about['kernel']}; Python {about['python']}")
    print(f"{args.rate} packets/s, {args.seconds:g} s at least, medians of {args.repeat}; {about['rights']}")
    print()
    titles = "arrived/s", "CPU", "kernel", "waited", "us each", "lost", "opened", "after"
    print("flood".ljust(36) + "".join(title.rjust(10) for title in titles))
    for name, figures in found.items():
        after = "" if figures["latency_ms"] is None else f"{figures['latency_ms']:.1f} ms"
        each = "" if figures["us_each"] is None else f"{figures['us_each']:.2f}"
        opened = f"{figures['opened']} of {figures['knocks']}" if figures["knocks"] else ""
        shares = [f"{figures[key]:.1%}" for key in ("cpu", "kernel", "waited", "lost")]
        cells = f"{figures['arrived_per_s']:.0f}", *shares[:3], each, shares[3], opened, after
        print(SCENARIOS[name].title.ljust(36) + "".join(cell.rjust(10) for cell in cells))


def bench(args: argparse.Namespace, output: TextIO | None) -> int:
    """Measure, print, judge; returns the exit status."""
    names = args.only or list(SCENARIOS)
    runs = measure(args, names)
    found = medians(runs)
    complaints = broken(found)
    if output:
        asked = {key: getattr(args, key) for key in ("rate", "seconds", "repeat", "knocks")}
        report = {"format": 1, "machine": machine(), "asked": asked, "ok": not complaints}
        json.dump({**report, "medians": found, "runs": runs}, output, indent=2)
        output.write("\n")
    show(args, found)
    for complaint in complaints:
        terminal.say(PROGRAM, complaint)
    return 1 if complaints else 0


def main() -> int:
    """Exits 0 when the promises hold, 1 when one does not, 2 when it could not be measured."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, allow_abbrev=False)
    parser.add_argument("--rate", type=int, default=200_000, metavar="N", help="packets a second")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each run, at least")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each flood")
    parser.add_argument("--knocks", type=int, default=20, metavar="N", help="genuine knocks in each run")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="FLOOD", help=", ".join(SCENARIOS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    limits = {"rate": (100, 2_000_000), "seconds": (1, 60), "repeat": (1, 20), "knocks": (1, 100)}
    for key, (low, high) in limits.items():
        if not low <= getattr(args, key) <= high:
            parser.error(f"--{key} is from {low} to {high}")
    if not args.json:
        return terminal.run(PROGRAM, lambda: bench(args, None))
    with args.json.open("w", encoding="utf-8") as output:  # before the first minute is spent
        return terminal.run(PROGRAM, lambda: bench(args, output))


if __name__ == "__main__":
    sys.exit(main())
