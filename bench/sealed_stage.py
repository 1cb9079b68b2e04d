"""What runs inside the namespaces for ``sealed.py``; its events are those of ``gate_stage``."""

from __future__ import annotations

import argparse
import sys

from bench.sealed_figures import FIGURES
from bench.sealed_lab import SealedLab
from bench.stage import measured, prepare

__all__ = ["main"]


def main() -> int:
    """Measure every figure that is asked for; exits 1 when one could not be measured."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.sealed_stage")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connects", type=int, required=True)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--authorised", nargs="+", type=int, required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--cores", nargs=2, type=int, required=True)
    args = parser.parse_args()
    # Beside the sender: the core of who looks at packets is theirs alone.
    return measured(FIGURES, args.figures, lambda: SealedLab(prepare(), args), args.cores[0])


if __name__ == "__main__":
    sys.exit(main())
