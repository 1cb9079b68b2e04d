"""The command ``knockgate``: ``main`` is its entry point, and each group of commands has a file here.

A command is imported when it is asked for, and imports what it drives when it runs: so each starts quickly,
and knocking works where the gate's own parts are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from knockgate.cli import commands, terminal

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; returns the exit status."""
    return terminal.run(
        lambda: commands.knockgate.main(arguments, terminal.PROGRAM, standalone_mode=False) or 0
    )
