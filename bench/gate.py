#!/usr/bin/env python3
"""The gate's figures, with knockd and iptables beside it in the same run.

Everything happens in namespaces made for it, which end with it; the outside only starts them, collects
and prints. ``README.md`` says what is measured and what was found.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.gate_figures import FIGURES
from bench.report import Arguments, Report, stage_command, two_cores
from knockdemo import terminal

PROGRAM = "gate"
_QUICK = {"seconds": 3.0, "knocks": 30, "connects": 100, "reloads": 40, "flushes": 10, "rate": 50_000}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Arguments(PROGRAM, __doc__.splitlines()[0], FIGURES, _QUICK)
    parser.add_argument("--rate", type=int, default=150_000, help="flood: packets a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a flood lasts (%(default)g)")
    parser.add_argument("--knocks", type=int, default=300, help="genuine knocks in a flood (%(default)s)")
    parser.add_argument("--connects", type=int, default=1000, help="connects after a knock (%(default)s)")
    parser.add_argument("--reloads", type=int, default=200, help="reloads under load (%(default)s)")
    parser.add_argument("--flushes", type=int, default=50, help="flushes by somebody else (%(default)s)")
    return parser.read(argv)


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    cores = two_cores("the rest")
    report = Report(PROGRAM, args.json, (10, 28))
    stage = stage_command("gate_stage")
    for name in ("rate", "seconds", "knocks", "connects", "reloads", "flushes"):
        stage += [f"--{name}", str(getattr(args, name))]
    report.fill([*stage, "--cores", *map(str, cores), "--figures", *args.only])
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, lambda: _main(None)))
