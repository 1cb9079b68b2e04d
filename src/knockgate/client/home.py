"""Where the one who knocks is at home, as far as files of ours go; ssh looks elsewhere (``ssh_settings``)."""

from __future__ import annotations

import os
from pathlib import Path

from knockgate.errors import ConfigError

__all__ = ["below", "folder"]


def folder() -> Path:
    """What HOME says. Raises ConfigError where that is nothing, or depends on where one happens to be."""
    said = os.environ.get("HOME", "")
    if said.startswith("/"):
        return Path(said)
    what = f"is {said!r}, and not a path from /" if said else "is not set"
    hint = "HOME=/home/jo, with the name of your own home; a login sets it, cron and services may not"
    raise ConfigError(f"{what}, so it is not known where your files are", key="HOME", hint=hint)


def below(variable: str, *usual: str) -> Path:
    """``knockgate`` below the folder that an XDG variable names, or else below ``usual`` in the home."""
    given = os.environ.get(variable, "")
    # The specification takes a relative path for none at all.
    return (Path(given) if given.startswith("/") else folder().joinpath(*usual)) / "knockgate"
