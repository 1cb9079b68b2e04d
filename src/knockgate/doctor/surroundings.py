"""What stands around the gate on this host and works against it: other listeners, other rules, old copies.

Reads what anybody may; the rules of other tables, which only root may read, are given to it. Where a file
cannot be read, nothing is said about it, unless the gate needs it.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from knockgate.config.advice import Advice
from knockgate.config.doors import Configuration
from knockgate.doctor.listening import read_listeners
from knockgate.doctor.units import on_units
from knockgate.errors import Unavailable
from knockgate.firewall.redirects import Redirect
from knockgate.model import Port, address_text

__all__ = [
    "BOOT_FILES",
    "is_copy",
    "is_here",
    "listeners",
    "look_around",
    "on_interface",
    "on_listeners",
    "on_one_time",
    "on_redirects",
]

#: In what nft lists of our table: a protocol by its name where a sequence opens, and a flag of the table that
#: has no name. It cannot read either again (1.0.6).
_LISTING = re.compile(r"update @leases[46] \{ ip6? saddr \. (tcp|udp) |table inet knockgate \{\s+flags *\n")
BOOT_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")


def look_around(configuration: Configuration) -> Iterator[Advice]:
    """Whatever on this host stands against what the configuration says."""
    yield from on_interface(configuration)
    yield from on_listeners(configuration, listeners())
    yield from on_one_time(configuration)
    with contextlib.suppress(Unavailable, OSError):  # doctor tells of it
        yield from on_units(configuration)
    yield from _on_saved_copies(BOOT_FILES)


def on_interface(configuration: Configuration) -> Iterator[Advice]:
    """It may come later, as ppp0 does; with a name that is merely wrong nothing is guarded."""
    name, there = configuration.gate.interface, [each for _, each in socket.if_nameindex()]
    if name and name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(there)}"
        for door in configuration.doors[:1]:
            yield Advice(door.name, f"no interface {name} is there, so no door is guarded", hint)


def on_one_time(configuration: Configuration) -> Iterator[Advice]:
    """Files of one-time sequences that cannot be read."""
    for door in configuration.doors:
        if door.sequence and (path := door.sequence.one_time):
            try:
                Path(path).open("rb").close()
            except OSError as error:
                message = f"its one-time sequences cannot be read: {path}: {error.strerror}"
                hint = "run it as root" if isinstance(error, PermissionError) else "write one a line there"
                yield Advice(door.name, message, hint)


def on_listeners(configuration: Configuration, live: set[Port]) -> Iterator[Advice]:
    """Programs that listen where knocks arrive."""
    hint = "knock at a port that nothing uses: knock ports are silent"
    for door in configuration.doors:
        for step in dict.fromkeys(door.sequence.steps if door.sequence else ()):
            if step in live and door.ports:
                message = f"a program listens on {step}, and {_unheard(configuration)}"
                yield Advice(door.name, message, hint)
            elif step in live:
                message = f"a program listens on {step}, so whoever uses it knocks"
                yield Advice(door.name, message, "knock at a port that nothing uses")
    for table, packets in (("fwknop", configuration.fwknop), ("sealed", configuration.sealed)):
        if packets and packets.port in live:
            message = f"a program listens on {packets.port}, where packets come to, and "
            fix = f"end it (ss -ulpn says which it is), or give [{table}] another port, and its clients"
            yield Advice("", message + _unheard(configuration), fix)


def _unheard(configuration: Configuration) -> str:
    """What a knock port means to a program that listens there: the gate hears a copy in any case."""
    if configuration.gate.shadow:
        return "it gets each knock as well, until shadow is taken away; then nobody reaches it"
    return "nobody reaches it while the gate is up"


def listeners(proc: Path = Path("/proc/net")) -> set[Port]:
    """The ports on which somebody listens, other than for this host alone."""
    return {each.port for each in read_listeners(proc) if not each.is_local}


def on_redirects(configuration: Configuration, redirects: Iterable[Redirect]) -> Iterator[Advice]:
    """Ways past a door: the gate sees the port on the wire, and what it is turned into is seen by nobody."""
    guarded = {port: door for door in configuration.doors for port in door.ports}
    for redirect in redirects:
        if not is_here(redirect.address):
            continue
        wire = [Port(redirect.protocol, number) for number in redirect.ports if number]
        ports = _range_of(wire)
        if redirect.target in guarded and any(port not in guarded for port in wire):
            message = f"{ports} is a way past it: {redirect.where} sends that on to {redirect.target}"
            yield Advice(
                guarded[redirect.target].name, message, f"guard {ports} as well, or take that rule away"
            )
        if redirect.target not in guarded:
            for door in dict.fromkeys(guarded[port] for port in wire if port in guarded):
                message = f"{redirect.target} is a way past it: {redirect.where} sends {ports} on to it"
                yield Advice(door.name, message, f"guard {redirect.target} as well")


def is_here(address: bytes) -> bool:
    """Whether packets for that address come to this host; an empty one is its own."""
    if not address:
        return True
    with socket.socket(socket.AF_INET if len(address) == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address_text(address), 0))
        except (OSError, ValueError):
            return False
    return True


def _range_of(ports: list[Port]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]} to {ports[-1].number}"


def _on_saved_copies(files: Iterable[str]) -> Iterator[Advice]:
    for file in files:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if is_copy(Path(file).read_text(encoding="utf-8")):
                message = f"{file} has a copy of the table made with `nft list`, which does not load at boot"
                yield Advice("", message, "put what `knockgate rules` prints in its place")


def is_copy(text: str) -> bool:
    """Whether it has our table as nft lists it, which nft cannot read again."""
    return bool(_LISTING.search(text))
