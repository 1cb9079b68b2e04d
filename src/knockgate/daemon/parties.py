"""The ssh keys of a configuration -> what the mechanism judges sealed knocks by."""

from __future__ import annotations

from collections.abc import Sequence

from knockgate.config.doors import Configuration, Door
from knockgate.config.keys import SshKeys
from knockgate.config.readers import Devices
from knockgate.daemon.hours import hours_of
from knockgate.mechanisms.parties import Entrance, Observed, Party

__all__ = ["parties_of"]


def parties_of(configuration: Configuration, keys: Sequence[SshKeys]) -> dict[str, Party]:
    """By the names of the keys."""
    doors = {door.name: door for door in configuration.doors}
    return {each.name: _party(each, doors) for each in keys}


def _party(keys: SshKeys, doors: dict[str, Door]) -> Party:
    return Party(
        keys.name,
        {name: _entrance(doors[name]) for name in keys.doors},
        sources=keys.sources,
        longest=keys.longest,
        leases=keys.leases,
        leases_in_all=keys.leases_in_all,
        expires=keys.expires.timestamp() if keys.expires else None,
        hours=hours_of(keys),
        revoked=keys.revoked,
    )


def _entrance(door: Door) -> Entrance:
    return Entrance(
        door.name,
        door.lease,
        door.most,
        runs_commands=door.commands is not None,
        observed=Observed(door.sealed.observed.value),
        touch=door.sealed.touch,
        known_only=door.sealed.devices is Devices.KNOWN,
    )
