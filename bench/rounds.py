"""What runs inside the namespaces for ``make bench``: one lab, and every figure, round by round.

Process 1 of its PID namespace. Each line on standard output is an event: ``turns`` (of: how many there are),
``progress`` (text, share of 1), ``sample`` (the fields of a ``Sample``), ``turn`` (figure, round, subject:
that is over), ``failed`` (message, hint). What cannot be trusted fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from bench.figures.all import FIGURES
from bench.lab import Lab
from bench.stage import emit, prefer_us, prepare
from knockgate.errors import KnockgateError

__all__ = ["main"]


def main() -> int:
    """Argument: what is asked, as JSON. Exits 1 when something could not be measured."""
    args = argparse.Namespace(**json.loads(sys.argv[1]))
    try:
        prefer_us()
        lab = Lab(prepare(), args)
        # Beside the sender: the core of who looks at packets is theirs alone.
        os.sched_setaffinity(0, {args.cores[0]})
        _measure(lab, args)
    except KnockgateError as error:
        emit("failed", message=str(error), hint=error.hint)
        return 1
    return 0


def _measure(lab: Lab, args: argparse.Namespace) -> None:
    turns = [
        (figure, number, subject)
        for figure in (FIGURES[name] for name in args.figures)
        for number in range(1, min(args.rounds, figure.rounds or args.rounds) + 1)
        for subject in figure.subjects
        if not args.subjects or subject in args.subjects
    ]
    emit("turns", of=len(turns))
    over = {tuple(each) for each in args.done}
    for done, (figure, number, subject) in enumerate(turns):
        if (figure.name, number, subject) in over:
            continue
        emit("progress", text=f"{figure.name}, round {number}: {subject}", share=done / len(turns))
        for finding in figure.measure(lab, subject):
            emit(
                "sample",
                figure=figure.name,
                subject=subject,
                case=finding.case,
                round=number,
                values=dict(finding.values),
            )
        emit("turn", figure=figure.name, round=number, subject=subject)


if __name__ == "__main__":
    sys.exit(main())
