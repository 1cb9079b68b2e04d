"""Measure the gate, the tutorial's daemon, knockd and fwknopd in one lab, and write the report.

``bench/README.md`` says how each figure is measured. A whole run writes ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import page, plots, readme, run
from bench.behind import unexplained
from bench.figures.all import FIGURES
from bench.results import Results
from knockdemo import terminal
from knockgate.errors import ConfigError, Unavailable

PROGRAM = "bench"
_ROOT = Path(__file__).resolve().parents[1]
_DOCS, _README = _ROOT / "docs", _ROOT / "README.md"
#: What was measured so far, of the last run that measures all, and of any other one.
_KEPT, _KEPT_OF_PARTS = _ROOT / "build/bench.json", _ROOT / "build/bench-parts.json"
_WHOLE = {
    "rounds": 3,
    "connects": 200,
    "knocks": 100,
    "seconds": 5.0,
    "watched": 3.0,
    "rate": 150_000,
    "unrelated": 200_000,
    "keys": [1, 10, 100, 1000],
    "flooded": [1, 100],
    "leases": [0, 1000, 100_000],
    "idle": 10.0,
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
    "watched": 1.0,
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
        epilog="Exit status: 0 measured; 1 measured, but where we are behind something is not explained; "
        "2 not measured. Needs root (or user namespaces: all but sealed knocks), two cores, a quiet machine.",
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
    parser.add_argument("--rounds", type=int, help="repetitions, of all subjects in turn (3)")
    parser.add_argument("--seconds", type=float, help="how long a flood lasts (5, or 3)")
    parser.add_argument("--rate", type=int, help="junk, packets a second (150,000)")
    parser.add_argument("--json", metavar="FILE", help="all samples go there; - is standard output")
    parser.add_argument(
        "--report",
        metavar="FOLDER",
        help="write benchmarks.md, benchmarks.json and the plots there (docs, where nothing is left out)",
    )
    parser.add_argument(
        "--go-on",
        nargs="?",
        const=_KEPT,
        type=Path,
        metavar="FILE",
        help="a run that broke off: measure what is missing of it (build/bench.json)",
    )
    parser.add_argument("--again", metavar="FILE", help="measure nothing: the report of samples of before")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="measure nothing: README's figures anew, out of docs/benchmarks.json",
    )
    return parser.parse_args(argv)


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {"quick": args.quick, **(_QUICK if args.quick else _WHOLE)}
    if args.seconds:
        values["watched"] = args.seconds
    values |= {name: given for name in ("rounds", "seconds", "rate") if (given := getattr(args, name))}
    return {**values, "figures": args.only, "subjects": args.subjects}


def _is_whole(results: Results) -> bool:
    """All figures of all subjects, and no number less than it says in ``_WHOLE``, but more rounds."""
    asked = results.asked
    if asked["quick"] or asked["subjects"] or asked["figures"] != list(FIGURES):
        return False
    return asked["rounds"] >= _WHOLE["rounds"] and all(
        asked[name] == value for name, value in _WHOLE.items() if name != "rounds"
    )


def _make(folder: Path) -> None:
    """Raises ConfigError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"cannot write there: {error.strerror}", file=str(folder), key="--report") from None


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all was measured, and what is behind is explained."""
    args = _arguments(argv)
    if args.readme:
        readme.write(Results.load(_DOCS / f"{page.NAME}.json"), _README)
        return 0
    if args.report:
        _make(Path(args.report))
    known = args.again or args.go_on
    results = Results.load(Path(known)) if known else run.begun(_asked(args))
    whole = _is_whole(results)
    report = Path(args.report) if args.report else _DOCS if whole and not args.again else None
    if report:
        plots.library()  # what is missing is told before an hour is spent
    output = terminal.open_output(args.json)
    if not args.again:
        run.measure(results, args.go_on or (_KEPT if whole else _KEPT_OF_PARTS))
    if not results.samples:
        raise Unavailable("nothing was measured", hint="--subjects and --only fit nothing")
    if output:
        terminal.write_output(output, results.text())
    if args.json != "-":
        print(page.tables(results))
    if report:
        page.write(results, report)
        if report.resolve() == _DOCS:
            readme.write(results, _README)
    not_explained = unexplained(results)
    for line in not_explained:
        terminal.say(PROGRAM, f"not explained: {line}")
    return 1 if not_explained and whole else 0


if __name__ == "__main__":
    sys.exit(terminal.run(PROGRAM, main))
