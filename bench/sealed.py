#!/usr/bin/env python3
"""The gate's figures with sealed knocks, and those of fwknopd and knockd beside them in the same run.

Everything happens in namespaces made for it, as with ``fwknop.py``. ``README.md`` says what is measured and
what was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `bench` itself, run as a file

from bench.report import Arguments, Report, stage_command, two_cores
from bench.sealed_figures import FIGURES
from knockdemo import terminal

PROGRAM = "sealed"
_QUICK = {"seconds": 2.0, "connects": 50, "rate": 50_000, "batches": 5, "authorised": [1, 1000]}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Arguments(PROGRAM, __doc__.splitlines()[0], FIGURES, _QUICK)
    parser.add_argument("--rate", type=int, default=120_000, help="junk: packets a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a flood lasts (%(default)g)")
    parser.add_argument("--connects", type=int, default=1000, help="knocks without one (%(default)s)")
    parser.add_argument("--batches", type=int, default=20, help="valid: of 100 knocks each (%(default)s)")
    parser.add_argument(
        "--authorised",
        nargs="+",
        type=int,
        default=[1, 1000, 100_000],
        metavar="N",
        help="valid: numbers of keys",
    )
    return parser.read(argv)


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    cores = two_cores("who looks at it")
    report = Report(PROGRAM, args.json, (17, 32))
    stage = stage_command("sealed_stage")
    for name in ("rate", "seconds", "connects", "batches"):
        stage += [f"--{name}", str(getattr(args, name))]
    for name, values in (("authorised", args.authorised), ("cores", cores)):
        stage += [f"--{name}", *map(str, values)]
    # Marks must be durable, so they lie on a disk; /run, like everything else of the lab, does not.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="knockgate-bench-") as state:
        report.fill([*stage, "--state", state, "--figures", *args.only])
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, lambda: _main(None)))
