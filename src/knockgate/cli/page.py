"""How a command's help looks: its docstring as it stands, which is written like a page of a manual.

click would fill the lines of each paragraph anew, and tables and examples with them.
"""

from __future__ import annotations

import inspect

import click

__all__ = ["Page"]


class Page(click.Command):
    """A command whose help is its docstring, line by line."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the docstring below the usage line."""
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")
