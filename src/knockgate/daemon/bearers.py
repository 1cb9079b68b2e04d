"""The keys of a configuration -> what the mechanism judges packets by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knockgate.config import secrets
from knockgate.config.doors import Configuration
from knockgate.config.keys import FwknopKey, SshKeys, load, load_ssh
from knockgate.config.secrets import Contents
from knockgate.daemon.hours import hours_of
from knockgate.daemon.origin import Origin
from knockgate.model import Port

if TYPE_CHECKING:
    from knockgate.mechanisms.packet import Bearer, Way

__all__ = ["bearers_of", "ssh_keys_of"]


def bearers_of(
    origin: Origin, configuration: Configuration, contents: Contents | None = None
) -> list[Bearer]:
    """Reads the secrets; ``configuration`` is what ``origin`` has loaded. Raises ConfigError.

    A knockd.conf has no keys. ``contents`` reads a file of secrets, where it is not we.
    """
    if origin.knockd:
        return []
    return [
        _bearer(key, configuration) for key in load(origin.path, configuration, contents or secrets.contents)
    ]


def ssh_keys_of(origin: Origin, configuration: Configuration) -> tuple[SshKeys, ...]:
    """Who may knock with a sealed packet; their files are not looked at here. Raises ConfigError."""
    return () if origin.knockd else load_ssh(origin.path, configuration)


def _bearer(key: FwknopKey, configuration: Configuration) -> Bearer:
    from knockgate.mechanisms.packet import Bearer, Way  # noqa: PLC0415 - not where all knocks are sealed

    ways: dict[Port, Way] = {}
    for door in configuration.doors:
        if door.name in key.doors:
            way = Way(door.name, door.lease, door.most, runs_commands=door.commands is not None)
            ways |= dict.fromkeys(door.ports, way)
    return Bearer(
        key.name,
        key.secret,
        ways,
        sources=key.sources,
        senders=key.senders,
        observed=key.observed,
        username=key.username,
        longest=key.longest,
        leases=key.leases,
        expires=key.expires.timestamp() if key.expires else None,
        hours=hours_of(key),
        revoked=key.revoked,
    )
