#!/usr/bin/env python3
"""The gate's figures with fwknop's packet, and fwknopd's beside them in the same run.

Everything happens in namespaces made for it, which end with it; the outside only starts them, collects
and prints. ``README.md`` says what is measured and what was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.fwknop_figures import FIGURES
from bench.report import Arguments, Report, stage_command, two_cores
from knockdemo import terminal

PROGRAM = "fwknop"
_QUICK = {"seconds": 2.0, "knocks": 20, "connects": 50, "keys": [1, 100], "rate": 50_000}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Arguments(PROGRAM, __doc__.splitlines()[0], FIGURES, _QUICK)
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
    return parser.read(argv)


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    cores = two_cores("who looks at it")
    report = Report(PROGRAM, args.json, (17, 36))
    stage = stage_command("fwknop_stage")
    for name in ("rate", "seconds", "knocks", "connects"):
        stage += [f"--{name}", str(getattr(args, name))]
    for name, values in (("keys", args.keys), ("flooded", args.flooded), ("cores", cores)):
        stage += [f"--{name}", *map(str, values)]
    # Claims must be durable, so they lie on a disk; /run, like everything else of the lab, does not.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="knockgate-bench-") as state:
        report.fill([*stage, "--state", state, "--figures", *args.only])
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, lambda: _main(None)))
