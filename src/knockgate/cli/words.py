"""The words of a command line, those about a gate among them: which one, which door, whom to let in."""

from __future__ import annotations

import contextlib
import difflib
import functools
import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from knockgate.cli.word import FILE, Word, seconds
from knockgate.config.doors import DEFAULT_PATH, Configuration, Door
from knockgate.config.toml import Reader, Wrong, shown
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError, KnockgateError
from knockgate.model import NETWORK_SIZE

__all__ = [
    "FILE",
    "Word",
    "address",
    "address_or_network",
    "complete_door",
    "configuration",
    "door_argument",
    "door_named",
    "doors_argument",
    "seconds",
]

F = TypeVar("F", bound=Callable[..., Any])


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _source(value: str) -> bytes:
    text = value.strip("[]")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        hint = "an IPv4 or IPv6 address such as 192.0.2.7 or 2001:db8::7"
        raise Wrong(f"{shown(value)} is no address", hint) from None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        hint = f"without %{found.scope_id}: a lease counts on every interface"
        raise Wrong(f"{shown(value)} names an interface", hint)
    # Such a source sends IPv4 packets, and its lease must be one for those.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    found = mapped or found
    if found.is_unspecified or found.is_multicast or found == _BROADCAST:
        raise Wrong(f"{shown(value)} is the address of no host", "nothing comes from there")
    return found.packed


def _source_or_network(value: str) -> bytes:
    """Of a /64 the first half, as ``model.Source`` has it."""
    if "/" not in value:
        return _source(value)
    try:
        found = ipaddress.IPv6Network(value, strict=False)
    except ValueError:
        found = None
    if found is None or found.prefixlen != _ZEROS.prefixlen or "%" in value:
        hint = (
            "a lease is for one address, or for an IPv6 network such as 2001:db8:1:2::/64, and for no other"
        )
        raise Wrong(f"{shown(value)} is no network that can be let in", hint)
    packed = found.network_address.packed
    if ipaddress.IPv6Address(value.partition("/")[0]).packed != packed:
        raise Wrong(f"{shown(value)} is an address in a network", f"the network itself is {found}")
    if found.is_multicast or found == _ZEROS:
        raise Wrong(f"{shown(value)} is the network of no host", "nothing comes from there")
    return packed[:NETWORK_SIZE]


#: The one that begins with zeros, of which are ``::``, ``::1`` and IPv4 addresses in IPv6 clothes.
_ZEROS = ipaddress.IPv6Network("::/64")

address = Word("SOURCE", Reader("address", _source))
address_or_network = Word("SOURCE", Reader("address or network", _source_or_network))


# --- which configuration ------------------------------------------------------------------------------


def configuration(*, file: bool) -> Callable[[F], F]:
    """``--config FILE`` or ``--knockd FILE [-i IF]``, and with ``file`` also ``[FILE]``: gives ``origin``."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_one(
            *,
            config: str | None,
            knockd: str | None,
            interface: str,
            file: str | None = None,
            **others: object,
        ) -> object:
            given = [name for name in (file, config, knockd) if name is not None]
            if "" in given:
                raise click.UsageError("the name of the configuration is empty", _context())
            if len(given) > 1:
                raise click.UsageError(f"there are two configurations: {given[0]} and {given[1]}", _context())
            if interface and not knockd:
                raise click.UsageError("-i goes with --knockd; a gate.toml names its interface", _context())
            path = given[0] if given else str(DEFAULT_PATH)
            origin = Origin(path, knockd=knockd is not None, interface=interface)
            return command(origin=origin, **others)

        changed: Callable[..., object] = with_one
        for words, more in reversed(_CONFIGURATION):
            changed = click.option(*words, **more)(changed)
        if file:
            changed = click.argument("file", metavar="[FILE]", required=False, type=FILE)(changed)
        return cast("F", changed)

    return decorate


_CONFIGURATION: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (
        ("--config",),
        {"metavar": "FILE", "type": FILE, "help": f"The configuration (default: {DEFAULT_PATH})."},
    ),
    (("--knockd",), {"metavar": "FILE", "type": FILE, "help": "A knockd.conf instead, as it is."}),
    (
        ("-i", "--interface"),
        {"metavar": "IF", "default": "", "help": "Instead of the one that knockd.conf names."},
    ),
]


def _context() -> click.Context:
    return click.get_current_context()


# --- doors --------------------------------------------------------------------------------------------


def door_named(known: Configuration, name: str) -> Door:
    """The door of that name; raises ConfigError with the nearest one."""
    names = [door.name for door in known.doors]
    if name in names:
        return known.doors[names.index(name)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names[:20])}"
    raise ConfigError(f"there is no door {shown(name)}", file=known.file or None, hint=hint)


def complete_door(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The doors of the configuration; none where that cannot be read."""
    with contextlib.suppress(KnockgateError):
        knockd = ctx.params.get("knockd")
        found = Origin(knockd or ctx.params.get("config") or str(DEFAULT_PATH), knockd=bool(knockd)).load()
        return [door.name for door in found.doors if door.name.startswith(incomplete)]
    return []


def door_argument(command: F) -> F:
    """``DOOR``, given to the command as ``name``; a shell completes it out of the configuration."""
    return click.argument("name", metavar="DOOR", shell_complete=complete_door)(command)


def doors_argument(command: F) -> F:
    """``[DOOR]...``, any number of them, given to the command as ``names``."""
    return click.argument("names", metavar="[DOOR]...", nargs=-1, shell_complete=complete_door)(command)
