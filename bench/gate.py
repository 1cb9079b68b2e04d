#!/usr/bin/env python3
"""The gate's figures, with knockd and iptables beside it in the same run.

Everything happens in namespaces made for it, which end with it; the outside only starts them, collects
and prints. ``README.md`` says what is measured and what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.flood import machine
from bench.gate_figures import FIGURES
from knockdemo import terminal
from knockdemo.lab.space import enter
from knockgate.errors import Unavailable

PROGRAM = "gate"
_QUICK = {"seconds": 3.0, "knocks": 30, "connects": 100, "reloads": 40, "flushes": 10, "rate": 50_000}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/gate.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=FIGURES,
        default=list(FIGURES),
        metavar="FIGURE",
        help=f"one or more of: {', '.join(FIGURES)}",
    )
    parser.add_argument("--rate", type=int, default=150_000, help="flood: packets a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a flood lasts (%(default)g)")
    parser.add_argument("--knocks", type=int, default=300, help="genuine knocks in a flood (%(default)s)")
    parser.add_argument("--connects", type=int, default=1000, help="connects after a knock (%(default)s)")
    parser.add_argument("--reloads", type=int, default=200, help="reloads under load (%(default)s)")
    parser.add_argument("--flushes", type=int, default=50, help="flushes by somebody else (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small numbers, in about a minute")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there; - is standard output")
    args = parser.parse_args(argv)
    if args.quick:
        vars(args).update(_QUICK)
    return args


def _show(event: Mapping[str, object]) -> None:
    words = [f"{key}={value}" for key, value in event.items() if key not in ("event", "figure", "subject")]
    print(f"{event['figure']:<10} {event['subject']:<28} {' '.join(words)}", flush=True)


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("a flood needs two cores", hint="one for the sender, one for the rest")
    output = terminal.open_output(args.json)
    root = Path(__file__).resolve().parents[1]
    stage = ["env", f"PYTHONPATH={root / 'src'}:{root}", sys.executable, "-m", "bench.gate_stage"]
    for name in ("rate", "seconds", "knocks", "connects", "reloads", "flushes"):
        stage += [f"--{name}", str(getattr(args, name))]
    stage += ["--cores", str(cores[0]), str(cores[1]), "--figures", *args.only]
    figures: list[Mapping[str, object]] = []

    def take(event: Mapping[str, object]) -> None:
        if event["event"] == "progress":
            terminal.say(PROGRAM, str(event["text"]))
            return
        figures.append(event)
        if output is not sys.stdout:
            _show(event)

    enter(stage, take)
    if output:
        report = {"format": 1, "machine": machine(), "figures": figures}
        terminal.write_output(output, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, lambda: _main(None)))
