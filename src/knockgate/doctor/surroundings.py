"""What stands around the gate on this host and works against it: other listeners, other rules, old copies.

Reads what anybody may; the rules of other tables, which only root may read, are given to it. Where a file
cannot be read, nothing is said about it, unless the gate needs it.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from knockgate.config.advice import Advice
from knockgate.config.doors import Configuration
from knockgate.firewall.redirects import Redirect
from knockgate.model import Port, Protocol, address_text

__all__ = ["listeners", "look_around", "on_interface", "on_redirects"]

#: In /proc/net, proc_pid_net(5): a listening TCP socket, and a UDP socket that is not connected.
_LISTENS = {Protocol.TCP: "0A", Protocol.UDP: "07"}
#: In what nft lists of our table: a protocol by its name where a sequence opens, and a flag of the table that
#: has no name. It cannot read either again (1.0.6).
_LISTING = re.compile(r"update @leases[46] \{ ip6? saddr \. (tcp|udp) |table inet knockgate \{\s+flags *\n")
_BOOT_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")


def look_around(configuration: Configuration) -> Iterator[Advice]:
    """Whatever on this host stands against what the configuration says."""
    yield from on_interface(configuration)
    yield from _on_listeners(configuration, listeners())
    yield from _on_one_time(configuration)
    yield from _on_saved_copies(_BOOT_FILES)


def on_interface(configuration: Configuration) -> Iterator[Advice]:
    """It may come later, as ppp0 does; with a name that is merely wrong nothing is guarded."""
    name, there = configuration.gate.interface, [each for _, each in socket.if_nameindex()]
    if name and name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(there)}"
        for door in configuration.doors[:1]:
            yield Advice(door.name, f"no interface {name} is there, so no door is guarded", hint)


def _on_one_time(configuration: Configuration) -> Iterator[Advice]:
    for door in configuration.doors:
        if door.sequence and (path := door.sequence.one_time):
            try:
                Path(path).open("rb").close()
            except OSError as error:
                message = f"its one-time sequences cannot be read: {path}: {error.strerror}"
                hint = "run it as root" if isinstance(error, PermissionError) else "write one a line there"
                yield Advice(door.name, message, hint)


def _on_listeners(configuration: Configuration, live: set[Port]) -> Iterator[Advice]:
    for door in configuration.doors:
        for step in dict.fromkeys(door.sequence.steps if door.sequence else ()):
            if step in live and door.ports:
                message = f"a program listens on {step}, and nobody reaches it while the gate is up"
                yield Advice(door.name, message, "knock at a port that nothing uses: knock ports are silent")
            elif step in live:
                message = f"a program listens on {step}, so whoever uses it knocks"
                yield Advice(door.name, message, "knock at a port that nothing uses")


def listeners(proc: Path = Path("/proc/net")) -> set[Port]:
    """The ports on which somebody listens, other than for this host alone."""
    found = set()
    for protocol, state in _LISTENS.items():
        for family in ("", "6"):
            with contextlib.suppress(OSError):
                lines = (proc / f"{protocol.name.lower()}{family}").read_text().splitlines()[1:]
                found |= {Port(protocol, number) for number in _listening(lines, state)}
    return found


def _listening(lines: Iterable[str], state: str) -> Iterator[int]:
    for line in lines:
        _, local, _, this_state, *_ = line.split()
        address, _, number = local.partition(":")
        if this_state == state and int(number, 16) and not _address(address).is_loopback:
            yield int(number, 16)


def _address(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Words of four bytes, each as a number of this machine."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found


def on_redirects(configuration: Configuration, redirects: Iterable[Redirect]) -> Iterator[Advice]:
    """Ways past a door: the gate sees the port on the wire, and what it is turned into is seen by nobody."""
    guarded = {port: door for door in configuration.doors for port in door.ports}
    for redirect in redirects:
        if not _is_here(redirect.address):
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


def _is_here(address: bytes) -> bool:
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
            if _LISTING.search(Path(file).read_text(encoding="utf-8")):
                message = f"{file} has a copy of the table made with `nft list`, which does not load at boot"
                yield Advice("", message, "put what `knockgate rules` prints in its place")
