"""Stanzas -> doors and keys.

In fwknopd a stanza is a key, and opens any of its ports by itself. So each port becomes a door of its own,
and a packet opens what it asks for and nothing else. Where a stanza runs commands, and they do not name the
port, its ports are one door: the commands are run once.

What follows from *a port belongs to one door* and *a secret belongs to one key* is settled here.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.config.doors import DOOR_NAME, Door
from knockgate.config.fwknop.commands import Cycle, commands_of
from knockgate.config.fwknop.findings import Findings
from knockgate.config.fwknop.stanza import Stanza
from knockgate.config.keys import FwknopKey
from knockgate.config.toml import spell
from knockgate.model import Port
from knockgate.spa.fwknop import Secret

__all__ = ["Plan", "plan"]

#: What each stanza may open, by its number.
_Ports = dict[int, tuple[Port, ...]]


class Plan(NamedTuple):
    """What a gate.toml says of doors and keys; ``stanzas`` are those that each key is made of."""

    doors: tuple[Door, ...]
    keys: tuple[FwknopKey, ...]
    stanzas: dict[str, tuple[Stanza, ...]]


def plan(
    stanzas: Sequence[Stanza], folder: Path, opened: Sequence[Port], found: Findings, heard: Port
) -> Plan:
    """Doors and keys, with refusals among ``found`` for what does not fit together.

    ``folder`` is where the secrets will lie; ``opened`` the ports of a stanza that names none; ``heard``
    where packets come to.
    """
    ports = {stanza.number: _ports(stanza, opened, found, heard) for stanza in stanzas}
    doors = _doors(stanzas, ports, found)
    groups = _groups(stanzas, found)
    names = _names(groups)
    keys = [
        _key(name, group, ports, [door for door in doors if _may(group, door, ports)], folder, found)
        for name, group in zip(names, groups, strict=True)
    ]
    return Plan(tuple(doors), tuple(keys), dict(zip(names, map(tuple, groups), strict=True)))


def _ports(stanza: Stanza, opened: Sequence[Port], found: Findings, heard: Port) -> tuple[Port, ...]:
    ports = stanza.open_ports
    if ports is None:
        if not opened:
            hint = "name the ports that are shut: --open tcp/22,tcp/443; or give the stanza OPEN_PORTS"
            found.refuse(
                stanza.place, "has no OPEN_PORTS: it opens any port, and a gate must know which", hint
            )
            return ()
        ports = tuple(opened)
        said = ", ".join(map(str, ports))
        found.note(stanza.place, f"has no OPEN_PORTS and may open {said}, in fwknopd any port")
    left = tuple(port for port in ports if port not in stanza.restricted)
    if not left:
        found.refuse(
            stanza.place, "opens nothing: RESTRICT_PORTS names all its ports", "take the stanza away"
        )
    if heard in left:
        hint = "nothing listens there but the gate; take the port away"
        found.refuse(stanza.place, f"opens {heard}, which is where packets come to", hint)
    return left


# --- doors --------------------------------------------------------------------------------------------


def _doors(stanzas: Sequence[Stanza], ports: _Ports, found: Findings) -> list[Door]:
    owners: dict[Port, list[Stanza]] = {}
    for stanza in stanzas:
        for port in ports[stanza.number]:
            owners.setdefault(port, []).append(stanza)
    together: dict[tuple[object, ...], list[Port]] = {}
    for port, those in owners.items():
        cycle = those[0].cycle
        for other in those[1:]:
            if other.cycle != cycle:
                message = (
                    f"opens {port} otherwise than stanza {those[0].number}: a door runs the same for all"
                )
                found.refuse(other.place, message, "give one of them another port")
        alone = () if cycle and not cycle.names_a_port else (port,)
        together.setdefault((*alone, *(each.number for each in those)), []).append(port)
    return [_door(tuple(group), owners[group[0]], found) for group in together.values()]


def _door(ports: tuple[Port, ...], owners: list[Stanza], found: Findings) -> Door:
    lease = min(each.lease for each in owners)
    most = max(each.most for each in owners)
    for each in owners:
        if each.lease > lease:
            message = f"gives {spell(each.lease)} to packets that ask for none; here they get {spell(lease)}"
            first = next(other.number for other in owners if other.lease == lease)
            found.note(each.place, message, f"as stanza {first} has it: {ports[0]} is one door")
    cycle: Cycle | None = owners[0].cycle
    if cycle and cycle.names_a_port:
        message = (
            f"runs its commands for each port that is asked for; fwknopd for the first alone ({ports[0]})"
        )
        found.note(owners[0].place, message)
    name = "-".join(str(port).replace("/", "-") for port in ports)
    if not DOOR_NAME.fullmatch(name):
        name = f"{str(ports[0]).replace('/', '-')}-and-{len(ports) - 1}"
    return Door(
        name=name,
        ports=ports,
        lease=float(lease),
        longest=float(most) if most > lease else None,
        commands=commands_of(cycle, ports[0]) if cycle else None,
        keyed=True,
    )


# --- keys ---------------------------------------------------------------------------------------------


def _groups(stanzas: Sequence[Stanza], found: Findings) -> list[list[Stanza]]:
    """Stanzas with one secret are one key: fwknopd tries each of them for the same packet."""
    groups: dict[Secret, list[Stanza]] = {}
    for stanza in stanzas:
        try:
            secret = stanza.secret
        except ValueError:  # refused already
            continue
        groups.setdefault(secret, []).append(stanza)
    for first, *others in groups.values():
        for other in others:
            differing = [
                name for name, what in _POLICY.items() if getattr(first, what) != getattr(other, what)
            ]
            if differing:
                hint = "make a pair of its own for one of them: knockgate key new --fwknop NAME"
                message = f"has the keys of stanza {first.number} and another {differing[0]}"
                found.refuse(other.place, message, hint)
            else:
                message = (
                    f"has the keys of stanza {first.number}: they are one key, which opens what either does"
                )
                found.note(other.place, message)
    return list(groups.values())


_POLICY = {
    "SOURCE": "senders",
    "REQUIRE_USERNAME": "username",
    "REQUIRE_SOURCE_ADDRESS": "observed",
    "ACCESS_EXPIRE": "expires",
}


def _names(groups: Sequence[Sequence[Stanza]]) -> list[str]:
    """The user's name, or the number under which fwknopd's log has the stanza."""
    names: dict[str, None] = {}
    for group in groups:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", group[0].username)[:50].lstrip(".-")
        name = plain if DOOR_NAME.fullmatch(plain) else f"stanza-{group[0].number}"
        names[name if name not in names else f"{name}-{group[0].number}"] = None
    return list(names)


def _may(group: Sequence[Stanza], door: Door, ports: _Ports) -> bool:
    return any(door.ports[0] in ports[stanza.number] for stanza in group)


def _most(group: Sequence[Stanza], door: Door, ports: _Ports) -> int:
    return max(each.most for each in group if door.ports[0] in ports[each.number])


def _key(
    name: str, group: Sequence[Stanza], ports: _Ports, doors: Sequence[Door], folder: Path, found: Findings
) -> FwknopKey:
    stanza = group[0]
    longest = None
    for door in doors:
        most = _most(group, door, ports)
        if most < door.most:  # others may have more of it
            longest = min(most, longest or most)
    for door in doors:
        if longest and _most(group, door, ports) > longest:
            message = (
                f"gives at most {spell(_most(group, door, ports))} of {door.ports[0]}; here {spell(longest)}"
            )
            hint = "a key has one longest time, and others share a door of this one"
            found.note(stanza.place, message, hint)
    return FwknopKey(
        name=name,
        fwknop=str(folder / name),
        doors=tuple(door.name for door in doors),
        hmac=stanza.secret.hmac,
        mode=stanza.mode,
        insecure=not stanza.hmac_key,
        senders=stanza.senders,
        observed=stanza.observed,
        username=stanza.username,
        longest=float(longest) if longest else None,
        expires=dt.datetime.fromtimestamp(stanza.expires, dt.UTC) if stanza.expires else None,
        secret=stanza.secret,
    )
