"""How a command's help looks: its docstring as it stands, which is written like a page of a manual.

click would fill the lines of each paragraph anew, and tables and examples with them.
"""

from __future__ import annotations

import difflib
import inspect

import click

__all__ = ["Page", "PageGroup"]


class Page(click.Command):
    """A command whose help is its docstring, line by line."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the docstring below the usage line."""
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")


class PageGroup(click.Group, Page):
    """A group of commands with a page of its own; a mistyped command is answered with the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` begin with; UsageError where there is none."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            error = click.UsageError(f"no such command: {args[0]}", ctx)
            error.possibilities = difflib.get_close_matches(args[0], self.commands)  # type: ignore[attr-defined]
            raise error
        return super().resolve_command(ctx, args)
