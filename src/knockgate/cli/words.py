"""The words of a command line: how each kind is read, and what a shell may complete it with.

A word is read by the same ``Reader`` as the value of a configuration, so both take the same spellings
and give the same errors.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from knockgate.config import doors
from knockgate.config.doors import DEFAULT_PATH, Configuration, Door
from knockgate.config.toml import Reader, Wrong
from knockgate.errors import ConfigError, KnockgateError

__all__ = ["Word", "address", "config_option", "door_argument", "door_named", "file_argument", "seconds"]

F = TypeVar("F", bound=Callable[..., Any])


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


def _source(value: str) -> bytes:
    text = value.strip("[]")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        hint = "an IPv4 or IPv6 address such as 192.0.2.7 or 2001:db8::7"
        if "/" in text:
            hint = "one address, not a network: a lease is for one source"
        raise Wrong(f"{value!r} is no address", hint) from None
    # Such a source sends IPv4 packets, and its lease must be one for those.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).packed


address = Word("SOURCE", Reader("address", _source))


# --- which configuration ------------------------------------------------------------------------------

_CONFIG_HELP = f"The configuration (default: {DEFAULT_PATH})."


def config_option(command: F) -> F:
    """``--config FILE``, given to the command as ``config``."""
    option = click.option(
        "--config", "config", metavar="FILE", default=str(DEFAULT_PATH), help=_CONFIG_HELP, type=click.Path()
    )
    return option(command)


def file_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """``[FILE]`` or ``--config FILE``, given to the command as ``config``."""

    @functools.wraps(command)
    def with_one(*, file: str | None, option: str | None, **others: object) -> object:
        if file and option and file != option:
            raise click.UsageError(f"there are two configurations: {file} and {option}")
        return command(config=file or option or str(DEFAULT_PATH), **others)

    option = click.option("--config", "option", metavar="FILE", help=_CONFIG_HELP, type=click.Path())
    argument = click.argument("file", metavar="[FILE]", required=False, type=click.Path())
    return argument(option(with_one))


# --- doors --------------------------------------------------------------------------------------------


def door_named(configuration: Configuration, name: str) -> Door:
    """The door of that name; raises ConfigError with the nearest one."""
    names = [door.name for door in configuration.doors]
    if name in names:
        return configuration.doors[names.index(name)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names[:20])}"
    raise ConfigError(f"there is no door {name!r}", file=configuration.file, hint=hint)


def _complete_door(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    with contextlib.suppress(KnockgateError):
        configuration = doors.load(Path(ctx.params.get("config") or DEFAULT_PATH))
        return [door.name for door in configuration.doors if door.name.startswith(incomplete)]
    return []


def door_argument(command: F) -> F:
    """``DOOR``, given to the command as ``name``; a shell completes it out of the configuration."""
    return click.argument("name", metavar="DOOR", shell_complete=_complete_door)(command)
