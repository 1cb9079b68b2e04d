"""What runs inside the namespaces for ``gate.py``.

Process 1 of its PID namespace. Each line on standard output is an event: ``progress`` (text), ``figure``
(what was measured), ``failed`` (message, hint). A measurement that cannot be trusted fails.
"""

from __future__ import annotations

import argparse
import sys

from bench.gate_figures import FIGURES
from bench.gate_lab import Bench
from bench.stage import measured, prepare

__all__ = ["main"]


def main() -> int:
    """Measure every figure that is asked for; exits 1 when one could not be measured."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.gate_stage")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--knocks", type=int, required=True)
    parser.add_argument("--connects", type=int, required=True)
    parser.add_argument("--reloads", type=int, required=True)
    parser.add_argument("--flushes", type=int, required=True)
    parser.add_argument("--cores", nargs=2, type=int, required=True)
    args = parser.parse_args()
    return measured(FIGURES, args.figures, lambda: Bench(prepare(), args), args.cores[1])


if __name__ == "__main__":
    sys.exit(main())
