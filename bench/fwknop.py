#!/usr/bin/env python3
"""The gate's figures with fwknop's packet, and fwknopd's beside them in the same run.

Everything happens in namespaces made for it, which end with it; the outside only starts them, collects
and prints. ``README.md`` says what is measured and what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.flood import machine
from bench.fwknop_figures import FIGURES
from knockdemo import terminal
from knockdemo.lab.space import enter
from knockgate.errors import Unavailable

PROGRAM = "fwknop"
_QUICK = {"seconds": 2.0, "knocks": 20, "connects": 50, "keys": [1, 100], "rate": 50_000}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/fwknop.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=FIGURES,
        default=list(FIGURES),
        metavar="FIGURE",
        help=f"one or more of: {', '.join(FIGURES)}",
    )
    parser.add_argument("--rate", type=int, default=143_000, help="junk: packets a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a flood lasts (%(default)g)")
    parser.add_argument("--knocks", type=int, default=100, help="genuine knocks in a flood (%(default)s)")
    parser.add_argument("--connects", type=int, default=1000, help="knocks without one (%(default)s)")
    parser.add_argument(
        "--keys",
        nargs="+",
        type=int,
        choices=(1, 10, 100, 1000),
        default=[1, 10, 100, 1000],
        help="junk: numbers of keys",
    )
    parser.add_argument(
        "--flooded",
        nargs="+",
        type=int,
        choices=range(1, 1001),
        default=[1, 100],
        metavar="N",
        help="flood: numbers of keys",
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, in about two minutes")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there; - is standard output")
    args = parser.parse_args(argv)
    if args.quick:
        vars(args).update(_QUICK)
    return args


def _show(event: Mapping[str, object]) -> None:
    words = [f"{key}={value}" for key, value in event.items() if key not in ("event", "figure", "subject")]
    print(f"{event['figure']:<17} {event['subject']:<36} {' '.join(words)}", flush=True)


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("a flood needs two cores", hint="one for the sender, one for who looks at it")
    output = terminal.open_output(args.json)
    root = Path(__file__).resolve().parents[1]
    stage = ["env", f"PYTHONPATH={root / 'src'}:{root}", sys.executable, "-m", "bench.fwknop_stage"]
    for name in ("rate", "seconds", "knocks", "connects"):
        stage += [f"--{name}", str(getattr(args, name))]
    for name, values in (("keys", args.keys), ("flooded", args.flooded), ("cores", cores[:2])):
        stage += [f"--{name}", *map(str, values)]
    figures: list[Mapping[str, object]] = []

    def take(event: Mapping[str, object]) -> None:
        if event["event"] == "progress":
            terminal.say(PROGRAM, str(event["text"]))
            return
        figures.append(event)
        if output is not sys.stdout:
            _show(event)

    # Claims must be durable, so they lie on a disk; /run, like everything else of the lab, does not.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="knockgate-bench-") as state:
        enter([*stage, "--state", state, "--figures", *args.only], take)
    if output:
        report = {"format": 1, "machine": machine(), "figures": figures}
        terminal.write_output(output, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, lambda: _main(None)))
