"""The outside of a bench that measures inside namespaces: starts it, shows and keeps its figures."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.flood import machine
from knockdemo import terminal
from knockdemo.lab.space import enter
from knockgate.errors import Unavailable

__all__ = ["Arguments", "Report", "stage_command", "two_cores"]


def two_cores(whose: str) -> list[int]:
    """The cores of the flood and of whom it is aimed at; raises Unavailable where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("a flood needs two cores", hint=f"one for the sender, one for {whose}")
    return cores[:2]


def stage_command(module: str) -> list[str]:
    """What runs ``bench.MODULE`` inside."""
    root = Path(__file__).resolve().parents[1]
    return ["env", f"PYTHONPATH={root / 'src'}:{root}", sys.executable, "-m", f"bench.{module}"]


class Arguments(argparse.ArgumentParser):
    """What every bench asks: which figures, small numbers or not, and a file."""

    def __init__(self, program: str, says: str, figures: Iterable[str], quick: Mapping[str, object]) -> None:
        """``quick``: what other options are with ``--quick``."""
        super().__init__(prog=f"bench/{program}.py", description=says)
        self._quick = quick
        known = list(figures)
        text = f"one or more of: {', '.join(known)}"
        self.add_argument("--only", nargs="+", choices=known, default=known, metavar="FIGURE", help=text)
        self.add_argument("--quick", action="store_true", help="small numbers, in a minute or two")
        text = "also write all figures there; - is standard output"
        self.add_argument("--json", metavar="FILE", help=text)

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """The values; of a mistake it says what is wrong, and ends."""
        args = self.parse_args(argv)
        if args.quick:
            vars(args).update(self._quick)
        return args


class Report:
    """Figures, shown as they come and kept for a file. ``columns``: widths of a figure's two names."""

    def __init__(self, program: str, file: str | None, columns: tuple[int, int]) -> None:
        """``file`` may be ``-``; it is opened now. Raises Unavailable where it cannot be."""
        self._program, self._columns = program, columns
        self._output = terminal.open_output(file)
        self._figures: list[Mapping[str, object]] = []

    def fill(self, stage: Sequence[str]) -> None:
        """Run the stage to its end; raises Unavailable with what it says where it fails."""
        enter(list(stage), self._take)

    def write(self) -> None:
        """Into the file, if there is one."""
        if self._output:
            report = {"format": 1, "machine": machine(), "figures": self._figures}
            terminal.write_output(self._output, json.dumps(report, indent=1) + "\n")

    def _take(self, event: Mapping[str, object]) -> None:
        if event["event"] == "progress":
            terminal.say(self._program, str(event["text"]))
            return
        self._figures.append(event)
        if self._output is not sys.stdout:
            words = [f"{key}={value}" for key, value in event.items() if key not in _NAMES]
            first, second = self._columns
            print(f"{event['figure']:<{first}} {event['subject']:<{second}} {' '.join(words)}", flush=True)


_NAMES = ("event", "figure", "subject")
