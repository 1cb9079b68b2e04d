"""A word of a command line, and a time. ``words`` has those about a gate, which takes longer to import.

A word is read by the same ``Reader`` as the value of a configuration, so both take the same spellings
and give the same errors.
"""

from __future__ import annotations

import contextlib
from typing import Any

import click

from knockgate.config.toml import Reader, Wrong
from knockgate.errors import ConfigError

__all__ = ["FILE", "Word", "seconds"]

#: Whether it can be read says who reads it, with a hint; click has none.
FILE = click.Path(readable=False)


class Word(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """A word that a ``Reader`` understands; ``name`` is what help calls it."""

    def __init__(self, name: str, reader: Reader) -> None:
        self.name = name
        self._reader = reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401, ARG002 - click's
        """Read the word; raises ConfigError naming the option or argument."""
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._reader.read(value)
        except Wrong as wrong:
            key = param.opts[0] if isinstance(param, click.Option) else self.name
            raise ConfigError(wrong.message, key=key, hint=wrong.hint) from None


def seconds(reader: Reader) -> Word:
    """A time; on a command line a number alone is one of seconds."""

    def read(value: str) -> float:
        with contextlib.suppress(ValueError):
            return reader.read(float(value))  # type: ignore[no-any-return]
        return reader.read(value)  # type: ignore[no-any-return]

    return Word("TIME", Reader(reader.says, read))
