"""What a key of somebody's may have: the line that it stands on, and the configuration above it.

A line only narrows what its party may. Where a key stands on several lines the first one that lets it in
counts, as with sshd; where none does, the first one's reason is told.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from knockgate.errors import Reason
from knockgate.mechanisms.hours import Hours, lasting
from knockgate.model import Source
from knockgate.spa.sealed import Head, SourceKind
from knockgate.spa.sshkeys import Authorized

__all__ = ["Asked", "Denial", "Entrance", "Grant", "Line", "Observed", "Party", "granted"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Observed(enum.Enum):
    """Whether a knock that names no address lets in whoever has sent it."""

    NEVER = "never"
    CLOCK = "clock"  #: while the gate is sure of the time, so that one held back soon is worth nothing
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Entrance:
    """A door, as far as a sealed knock is concerned."""

    door: str
    lease: float  #: seconds, where none are asked for
    most: float  #: seconds that may be asked for
    runs_commands: bool = False
    observed: Observed = Observed.CLOCK
    touch: bool = False  #: the key must be a token's, and it must have been touched
    known_only: bool = False  #: the device must be one that the admin knows


@dataclass(frozen=True, slots=True)
class Party:
    """Those who stand in the files of one ``[keys.NAME]``."""

    name: str
    entrances: Mapping[str, Entrance]  #: by the door's name
    sources: Sequence[_Network] = ()  #: who may be let in; none: anybody
    longest: float | None = None  #: seconds of a lease, at most
    leases: int = 8  #: live ones of one key, at most
    leases_in_all: int = 1000  #: live ones of all its keys together, at most
    expires: float | None = None  #: seconds since 1970
    hours: Hours | None = None  #: when its keys are good; None: always
    revoked: bool = False


class Line(NamedTuple):
    """A line with a key, and whose it is."""

    party: Party
    file: str
    entry: Authorized


@dataclass(frozen=True, slots=True)
class Asked:
    """What an authentic knock wants."""

    head: Head
    sender: Source
    touched: bool
    time: float | None  #: seconds since 1970; None: the gate does not know

    @property
    def source(self) -> Source:
        """Who is to be let in; 8 bytes are an IPv6 /64."""
        if self.head.source is SourceKind.OBSERVED:
            return self.sender
        return self.head.address[:8] if self.head.source is SourceKind.V6_NETWORK else self.head.address


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a line does not let somebody in."""

    reason: Reason
    what: str = ""  #: that was asked for


@dataclass(frozen=True, slots=True)
class Grant:
    """What it does let somebody have."""

    line: Line
    leases: tuple[tuple[Entrance, float], ...]  #: with seconds


def granted(asked: Asked, lines: Iterable[Line]) -> Grant | Denial:
    """What the first line that has no objection gives. There must be one."""
    denial: Denial | None = None
    for line in lines:
        found = _denied(asked, line)
        if found is None:
            return Grant(line, tuple(_leases(asked, line)))
        denial = denial or found
    if denial is None:
        raise AssertionError("a key that is known stands on a line")
    return denial


def _denied(asked: Asked, line: Line) -> Denial | None:
    return _denied_by_time(asked, line) or _denied_by_source(asked, line) or _denied_by_door(asked, line)


def _denied_by_time(asked: Asked, line: Line) -> Denial | None:
    ends, hours = _ends(line), line.party.hours
    if line.party.revoked:
        return Denial(Reason.KEY_REVOKED)
    if asked.time is None:
        return Denial(Reason.CLOCK_UNKNOWN) if ends or hours else None
    if any(asked.time >= end for end in ends):
        return Denial(Reason.KEY_EXPIRED)
    if hours and not hours.has(asked.time):
        return Denial(Reason.OUTSIDE_HOURS, hours.shown(asked.time))
    return None


def _ends(line: Line) -> list[float]:
    """A line's time is the last second in which it holds; a party's is the first in which it does not."""
    of_line = line.entry.options.expires
    ends = (line.party.expires, None if of_line is None else of_line + 1)
    return [end for end in ends if end is not None]


def _denied_by_source(asked: Asked, line: Line) -> Denial | None:
    source, sources = asked.source, line.entry.options.sources
    if len(source) == 8:
        admitted = sources is None or sources.admit_all(source + bytes(8), 64)
    else:
        admitted = sources is None or sources.admit(source)
    return None if admitted and _within(source, line.party.sources) else Denial(Reason.SOURCE_DENIED)


def _denied_by_door(asked: Asked, line: Line) -> Denial | None:
    entrances, allowed = line.party.entrances, line.entry.options.doors
    denied = [
        door
        for door in asked.head.doors
        if door not in entrances or (allowed is not None and door not in allowed)
    ]
    if denied:
        return Denial(Reason.DOOR_DENIED, ", ".join(denied))
    wanted = [entrances[door] for door in asked.head.doors]
    if asked.head.source is SourceKind.OBSERVED and (shy := _unobserving(wanted, asked.time)):
        return Denial(Reason.UNSTATED_SOURCE, ", ".join(shy))
    if not asked.touched and (demanding := [each.door for each in wanted if each.touch]):
        return Denial(Reason.NO_TOUCH, ", ".join(demanding))
    return None


def _unobserving(wanted: Iterable[Entrance], time: float | None) -> list[str]:
    """The doors that want an address to be named."""
    fine = {Observed.ALWAYS} if time is None else {Observed.ALWAYS, Observed.CLOCK}
    return [each.door for each in wanted if each.observed not in fine]


def _leases(asked: Asked, line: Line) -> Iterable[tuple[Entrance, float]]:
    most = [each for each in (line.party.longest, line.entry.options.longest) if each is not None]
    for door in asked.head.doors:
        entrance = line.party.entrances[door]
        seconds = float(min(asked.head.lease or entrance.lease, entrance.most, *most))
        yield entrance, lasting(seconds, asked.time, line.party.hours, _ends(line))


def _within(source: Source, networks: Sequence[_Network]) -> bool:
    """Whether all of the source is."""
    if not networks:
        return True
    place = ipaddress.ip_network((source + bytes(8), 64) if len(source) == 8 else source)
    return any(place.version == each.version and place.subnet_of(each) for each in networks)  # type: ignore[arg-type]
