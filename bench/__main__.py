"""Measure the gate, the tutorial's daemon, knockd and fwknopd in one lab, and write the report.

``bench/README.md`` says how each figure is measured. A whole run writes ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import knockgate
from bench import page, plots
from bench.figures.all import FIGURES
from bench.machine import machine, two_cores
from bench.results import Results, Sample
from knockdemo import terminal
from knockdemo.lab.hosts import PATH
from knockdemo.lab.space import enter
from knockdemo.show import Progress
from knockgate.errors import ConfigError, Unavailable

PROGRAM = "bench"
_ROOT = Path(__file__).resolve().parents[1]
#: How each program says its version.
_VERSIONS = {
    "knockd": ["knockd", "-V"],
    "fwknopd": ["fwknopd", "-V"],
    "nft": ["nft", "--version"],
    "iptables": ["iptables", "--version"],
}
_WHOLE = {
    "rounds": 5,
    "connects": 200,
    "knocks": 100,
    "seconds": 10.0,
    "rate": 150_000,
    "unrelated": 200_000,
    "keys": [1, 10, 100, 1000],
    "flooded": [1, 100],
    "leases": [0, 1000, 100_000],
    "idle": 20.0,
    "remembered": [0, 1_000_000],
    "authorised": [1, 1000, 100_000],
    "batches": 10,
    "reloads": 200,
    "flushes": 50,
}
_QUICK = {
    "rounds": 1,
    "connects": 20,
    "knocks": 10,
    "seconds": 1.0,
    "rate": 50_000,
    "unrelated": 50_000,
    "keys": [1, 10],
    "flooded": [1],
    "leases": [0, 1000],
    "idle": 2.0,
    "remembered": [0, 10_000],
    "authorised": [1, 100],
    "batches": 2,
    "reloads": 10,
    "flushes": 3,
}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__.partition("\n")[0],
        epilog="Exit status: 0 measured, 2 not. Needs root or user namespaces, two cores, a quiet machine.",
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, once: a check")
    names = list(FIGURES)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="FIGURE", help=f"of: {', '.join(names)}"
    )
    subjects = sorted({each for figure in FIGURES.values() for each in figure.subjects})
    parser.add_argument(
        "--subjects",
        nargs="+",
        choices=subjects,
        metavar="NAME",
        default=[],
        help=f"some alone, of: {', '.join(subjects)}",
    )
    parser.add_argument("--rounds", type=int, help="repetitions, of all subjects in turn (5)")
    parser.add_argument("--seconds", type=float, help="how long a flood lasts (10)")
    parser.add_argument("--rate", type=int, help="junk, packets a second (150,000)")
    parser.add_argument("--json", metavar="FILE", help="all samples go there; - is standard output")
    parser.add_argument(
        "--report",
        metavar="FOLDER",
        help="write benchmarks.md, benchmarks.json and the plots there (docs, where nothing is left out)",
    )
    parser.add_argument("--again", metavar="FILE", help="measure nothing: the report of samples of before")
    return parser.parse_args(argv)


def _versions() -> dict[str, str]:
    found = {"knockgate": knockgate.__version__}
    for name, argv in _VERSIONS.items():
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": PATH})
        number = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        number = number or re.search(r"\b\d+\.\d+\b", done.stdout)
        found[name] = number.group() if number else "unknown"
    return found


def _stage() -> list[str]:
    return ["env", f"PYTHONPATH={_ROOT / 'src'}:{_ROOT}", sys.executable, "-m", "bench.rounds"]


def _measured(args: argparse.Namespace) -> Results:
    values: dict[str, Any] = dict(_QUICK if args.quick else _WHOLE)
    values |= {name: given for name in ("rounds", "seconds", "rate") if (given := getattr(args, name))}
    values |= {"cores": two_cores(), "figures": args.only, "subjects": args.subjects}
    when = dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)
    before = os.getloadavg()[0]
    results = Results(machine(), {"quick": args.quick, "day": f"{when:%Y-%m-%d}", **values}, _versions())
    with Progress() as progress:

        def on_event(event: Mapping[str, Any]) -> None:
            if event["event"] == "sample":
                results.samples.append(Sample(**{key: each for key, each in event.items() if key != "event"}))
            else:
                share = event.get("share")
                progress.tell(event["text"] if share is None else f"{share:4.0%}  {event['text']}", None)

        # Marks must be durable, so they lie on a disk; /run, like everything else of the lab, does not.
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="knockgate-bench-") as state:
            enter([*_stage(), json.dumps({**values, "state": state})], on_event)
    results.asked = {**results.asked, "load_before": round(before, 2)}
    return results


def _make(folder: Path) -> None:
    """Raises ConfigError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"cannot write there: {error.strerror}", file=str(folder), key="--report") from None


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all was measured."""
    args = _arguments(argv)
    whole = not (args.quick or args.subjects or args.only != list(FIGURES) or args.again)
    report = args.report or (_ROOT / "docs" if whole else None)
    if report:  # what is missing is told before an hour is spent
        _make(Path(report))
        plots.library()
    output = terminal.open_output(args.json)
    results = Results.load(Path(args.again)) if args.again else _measured(args)
    if not results.samples:
        raise Unavailable("nothing was measured", hint="--subjects and --only fit nothing")
    if output:
        terminal.write_output(output, results.text())
    if args.json != "-":
        print(page.tables(results))
    if report:
        page.write(results, Path(report))
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, main))
