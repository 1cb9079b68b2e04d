"""``knockgate open``, ``extend`` and ``close``: leases by hand, through the daemon where one runs."""

from __future__ import annotations

from collections.abc import Iterable

import click

from knockgate.cli.gate import loaded, warden
from knockgate.cli.page import Page
from knockgate.cli.phrases import time_in_words
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import address_or_network, configuration, door_argument, door_named, seconds
from knockgate.config.doors import Configuration, Door
from knockgate.config.toml import duration, several
from knockgate.daemon.link import LONGEST_BY_HAND
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError
from knockgate.model import NETWORK_SIZE, Lease, Source, address_text

__all__ = ["close", "extend", "open_"]

_TIME = seconds(duration(1, LONGEST_BY_HAND))
_BY_HAND = "hand"


@click.command("open", cls=Page)
@door_argument
@click.argument("source", type=address_or_network)
@click.option("--for", "time", type=_TIME, default=3600.0, help="How long (default: 1h, at most 30d).")
@configuration(file=False)
def open_(origin: Origin, name: str, source: Source, time: float) -> int:
    """Open a door for an address or an IPv6 /64, without a knock.

    Begins a lease that ends by itself. A lease given by hand is kept apart from those that are knocked
    for: a knock never makes it shorter. Opening again begins the time anew.

    SOURCE is an address or, for a machine that changes its IPv6 address as it likes, the network of 64 bits
    that it is in: everybody there is let in.

    Exit status: 0 the door is open; 2 it could not be opened.

    For example:

        knockgate open ssh 192.0.2.7
        knockgate open ssh 2001:db8::7 --for 30m
        knockgate open ssh 2001:db8:1:2::/64
    """
    found = origin.load()
    door = _guarding(found, name)
    _open(found, door, source, time)
    tell(f"{name} is open for {address_text(source)}, for {time_in_words(time)}")
    return 0


@click.command(cls=Page)
@door_argument
@click.argument("source", type=address_or_network)
@click.argument("time", type=_TIME)
@configuration(file=False)
def extend(origin: Origin, name: str, source: Source, time: float) -> int:
    """Make a live lease last longer by a time, whoever gave it.

    What is left of the lease and TIME are the time of a new one, given by hand. An address's lease and that
    of its network are two.

    Exit status: 0 the door stays open for longer; 1 there is no lease to extend; 2 it could not be done.

    For example:

        knockgate extend ssh 192.0.2.7 1h
    """
    found = origin.load()
    door = _guarding(found, name)
    leases = _leases(door)
    left = max((each.left for each in leases if each.source == source), default=0.0)
    if not left:
        return _nothing_to_extend(name, source, _overlapping(leases, source))
    whole = min(left + time, LONGEST_BY_HAND)
    _open(found, door, source, whole)
    tell(f"{name} is open for {address_text(source)}, for {time_in_words(whole)}")
    return 0


@click.command(cls=Page)
@door_argument
@click.argument("source", type=address_or_network, required=False)
@click.option("--all", "everybody", is_flag=True, help="End the leases of all sources.")
@configuration(file=False)
def close(origin: Origin, name: str, source: Source | None, *, everybody: bool) -> int:
    """End the leases of a door before their time.

    For one address, for one IPv6 /64, or for all. Whoever has a connection keeps it; new ones need a new
    knock. The lease of a network and those of addresses in it are apart: to end the one leaves the others,
    which is said.

    Exit status: 0 the door is shut, also where it was before; 1 SOURCE can still come in, at least in part,
    by a lease of its network or of an address in it; 2 it could not be done.

    For example:

        knockgate close ssh 192.0.2.7
        knockgate close ssh 2001:db8:1:2::/64
        knockgate close ssh --all
    """
    if everybody is (source is not None):
        raise click.UsageError("give a SOURCE, or --all", click.get_current_context())
    found = origin.load()
    door = _guarding(found, name)
    with warden(found) as client:
        if client:
            number = client.close(found, door, [source] if source else [])
        else:
            number = _close(door, source)
    if source and (others := _overlapping(_leases(door), source)):
        return _still_open(name, source, others, number)
    whom = f"for {address_text(source)}" if source else "for everybody"
    if number:
        tell(f"{name} is shut {whom}: {_ended(number)}; connections that are established live on")
    else:
        tell(f"{name} was shut {whom}: there was no lease")
    return 0


def _guarding(found: Configuration, name: str) -> Door:
    door = door_named(found, name)
    if not door.ports:
        hint = "it only runs commands when somebody knocks"
        raise ConfigError(f"door {name} guards no port", file=found.file or None, hint=hint)
    return door


def _leases(door: Door) -> list[Lease]:
    with loaded() as firewall:
        return [each for each in firewall.leases() if each.port in door.ports]


def _overlapping(leases: Iterable[Lease], source: Source) -> list[Source]:
    """Whom else leases are for: the network that the source is in, or addresses that are in the source."""
    sources = {lease.source for lease in leases}
    if len(source) == NETWORK_SIZE:
        return sorted(each for each in sources if len(each) > NETWORK_SIZE and each.startswith(source))
    network = source[:NETWORK_SIZE]
    return [network] if len(source) > NETWORK_SIZE and network in sources else []


def _nothing_to_extend(name: str, source: Source, others: list[Source]) -> int:
    if others and len(source) != NETWORK_SIZE:
        say(f"{name} is open for {address_text(source)} only as one of {address_text(others[0])}")
        advise("extend that, or open the door for the address: its lease is one of its own")
    else:
        say(f"{name} is not open for {address_text(source)}")
        advise(f"knockgate open {name} {address_text(source)}")
    return 1


def _still_open(name: str, source: Source, others: list[Source], number: int) -> int:
    names = [address_text(each) for each in others]
    whom = address_text(source)
    did = f"{_ended(number)} for {whom}" if number else f"there was no lease for {whom}"
    say(f"{did}; {name} is still open by the lease of {several(names, 1)}")
    advise(f"knockgate close {name} {names[0]}")
    return 1


def _ended(number: int) -> str:
    return "1 lease ended" if number == 1 else f"{number} leases ended"


def _open(found: Configuration, door: Door, source: Source, time: float) -> None:
    with warden(found) as client:
        if client:
            client.open(found, door, source, time)
            return
    with loaded() as firewall:
        firewall.open(door.ports, source, time, _BY_HAND)


def _close(door: Door, source: Source | None) -> int:
    with loaded() as firewall:
        sources = (
            {source} if source else {each.source for each in firewall.leases() if each.port in door.ports}
        )
        return firewall.close(door.ports, sources)
