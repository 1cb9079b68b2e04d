"""``knockgate completion``: what a shell needs to complete commands, options, doors and profiles."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from knockgate.cli.page import Page
from knockgate.cli.terminal import PROGRAM
from knockgate.errors import Unavailable

__all__ = ["completion"]


@click.command(cls=Page)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a completion script for a shell.

    Changes nothing. Load the script where your shell starts:

        bash   eval "$(knockgate completion bash)"     in ~/.bashrc
        zsh    eval "$(knockgate completion zsh)"      in ~/.zshrc
        fish   knockgate completion fish | source      in ~/.config/fish/config.fish

    Exit status: 0; 2 where the shell is too old for it.
    """
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click has these three
        raise Unavailable(f"no completion for {shell}")
    text = kind(ctx.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    click.echo(text)
    return 0
