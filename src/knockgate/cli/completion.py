"""``knockgate completion``: what a shell needs to complete commands, options, doors and profiles."""

from __future__ import annotations

import contextlib
import io

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

    Or keep it where the shell looks for it by itself: for zsh as _knockgate in a folder of $fpath, for
    fish as ~/.config/fish/completions/knockgate.fish.

    Exit status: 0; 2 where bash is missing, or too old for it.
    """
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click has these three
        raise Unavailable(f"no completion for {shell}")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):  # click says what is wrong, and goes on
        text = kind(ctx.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    if said.getvalue():
        raise Unavailable("no completion for this bash", hint="it needs bash 4.4 or later on the PATH")
    if shell == "zsh":
        # The file _knockgate of a package: what zsh has loaded it calls by the file's name from then on, and
        # by another name every second Tab would only declare the function again.
        text = text.replace(f"_{PROGRAM}_completion", f"_{PROGRAM}")
    click.echo(text)
    return 0
