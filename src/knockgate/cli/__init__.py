"""The command ``knockgate``: ``main`` is its entry point, and each group of commands has a file here.

A command imports what it drives when it runs, so that help and completion are quick, and so that
knocking works where the gate's own parts are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from knockgate.cli.commands import knockgate
from knockgate.cli.terminal import PROGRAM, run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; returns the exit status."""
    return run(lambda: knockgate.main(arguments, PROGRAM, standalone_mode=False) or 0)
