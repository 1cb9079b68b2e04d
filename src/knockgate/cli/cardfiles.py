"""A card on its way to a client: as a line, in a file, on a screen."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.new_files import written
from knockgate.cli.qr import drawing
from knockgate.cli.terminal import advise, say
from knockgate.config.doors import DEFAULT_PATH, Configuration

if TYPE_CHECKING:
    from knockgate.config.gatekeys import CardEntry, KeyEntry

__all__ = ["card_text", "drawing_cards", "file_for", "fingerprint_of", "handed_out", "how_to_trust"]


def card_text(one: KeyEntry, card: CardEntry) -> str:
    """The line, with its end."""
    return one.gate_key().card(card.secret).text() + "\n"


def fingerprint_of(one: KeyEntry) -> str:
    """What the gate is called for people who compare, by this key."""
    from knockgate.spa.sealed import gate_fingerprint  # noqa: PLC0415 - see cli

    return gate_fingerprint(one.gate_key().gate)


def file_for(output: str | None, default: str) -> Path | None:
    """Where a card is to go; None: to standard output."""
    if output == "":
        raise click.UsageError("the name of the file is empty", click.get_current_context())
    return None if output == "-" else Path(output or default).absolute()


def handed_out(cards: Mapping[Path, str]) -> AbstractContextManager[None]:
    """Files with cards, for their owner alone; they go again where the block raises. Raises Unavailable."""
    return written(cards, private=frozenset(cards))


def drawing_cards() -> Callable[[str], str]:
    """What draws a card's line as a code; Unavailable where there is nothing to draw with."""
    draw = drawing("l")  # at q there is no room for it

    def drawn(line: str) -> str:
        code = draw(line)
        say("whoever sees this code has the card; clear the screen afterwards")
        width, room = len(code.partition("\n")[0]), shutil.get_terminal_size().columns
        if sys.stdout.isatty() and width > room:
            say(f"the code is {width} columns wide, and the terminal has {room}")
            advise("make the window wider, or the letters smaller")
        return code

    return drawn


def how_to_trust(name: str, found: Configuration, door: str = "ssh", *, again: bool = False) -> str:
    """What is to be typed at a client to have a card of this gate; ``again``: it has a profile already."""
    host = socket.gethostname()
    there = "" if found.file == str(DEFAULT_PATH) else f" --config {Path(found.file).absolute()}"
    here = "" if door == "ssh" else f" --door {door}"
    trust = "knockgate trust --replace" if again else "knockgate trust"
    fetched = f"ssh {host} sudo knockgate card show {name}{there}"
    return f"at the client: {fetched} | {trust} {host} {host} -{here}"
