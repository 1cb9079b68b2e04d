"""The interface that the gate guards, and the addresses at which a client can reach this host."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from knockgate.config.toml import several
from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine, found
from knockgate.doctor.host import Host, output_of
from knockgate.doctor.listening import Address
from knockgate.errors import Unavailable

__all__ = ["Interface", "Local", "examine", "judge", "read"]

#: Above these, packets come in as those of the master; above others (a VRF) the port is seen too.
_TAKES_ALL = {"bridge", "bond", "team"}
_SHARED = ipaddress.ip_network("100.64.0.0/10")


class Local(NamedTuple):
    """An address of an interface."""

    address: Address
    changes: bool = False  #: it was given for a time, by DHCP or by a router
    taken: bool = False  #: somebody else has it (DAD failed)


class Interface(NamedTuple):
    """An interface other than loopback."""

    name: str
    is_up: bool
    master: str  #: the bridge, bond or team that takes all its packets; empty: none
    xdp: bool
    addresses: tuple[Local, ...]


def examine(host: Host) -> Iterator[Finding]:
    """All interfaces, by ``ip``."""
    try:
        text = output_of("ip", "-j", "-d", "address", "show")
        interfaces = read(json.loads(text))
    except (Unavailable, ValueError, TypeError, LookupError) as error:
        said = str(error) if isinstance(error, Unavailable) else "ip prints what is not understood"
        yield blind(Topic.NETWORK, f"interfaces and addresses: {said}", "apt install iproute2")
        return
    wanted = host.configuration.gate.interface if host.configuration else ""
    yield from judge(interfaces, wanted)


def read(links: Sequence[dict[str, Any]]) -> list[Interface]:
    """What ``ip -j -d address show`` printed. ValueError, LookupError, TypeError."""
    return [_interface(link) for link in links if link and "LOOPBACK" not in link["flags"]]


def _interface(link: dict[str, Any]) -> Interface:
    below = link.get("linkinfo", {}).get("info_slave_kind") in _TAKES_ALL
    carries = "UP" in link["flags"] and link.get("operstate") not in ("DOWN", "LOWERLAYERDOWN")
    addresses = tuple(
        Local(
            ipaddress.ip_address(each["local"]),
            bool(each.get("dynamic")),
            bool(each.get("dadfailed")),
        )
        for each in link.get("addr_info", ())
        if "local" in each
    )
    return Interface(
        link["ifname"], carries, link.get("master", "") if below else "", "xdp" in link, addresses
    )


def judge(interfaces: Sequence[Interface], wanted: str) -> Iterator[Finding]:
    """``wanted`` is the interface that is guarded; empty: all."""
    if wanted:
        by_name = {each.name: each for each in interfaces}
        yield from _on_wanted(by_name, wanted)
        interfaces = [by_name[wanted]] if wanted in by_name else []
        if not interfaces:
            return
    yield from _on_addresses(interfaces)
    for each in interfaces:
        if each.xdp:
            fix = f"ip link set {each.name} xdp off, unless you know what it does"
            yield found(Kind.PROGRAM_BEFORE, f"{each.name} has an XDP program", fix)


def _on_wanted(by_name: dict[str, Interface], wanted: str) -> Iterator[Finding]:
    if wanted not in by_name:
        fix = f"interface = ... in gate.toml; there are: {', '.join(by_name) or 'none'}"
        yield found(Kind.INTERFACE_MISSING, f"there is no interface {wanted}", fix)
        return
    known = by_name[wanted]
    if known.master:
        fix = f'interface = "{known.master}" in gate.toml'
        yield found(Kind.INTERFACE_ENSLAVED, f"{wanted} is a port of {known.master}", fix)
    if not known.is_up:
        yield found(Kind.INTERFACE_DOWN, f"{wanted} is down", f"ip link set {wanted} up; look at its cable")
    others = [
        each.name
        for each in by_name.values()
        if each.name != wanted and any(_reach(local) for local in each.addresses)
    ]
    if others:
        fix = "where others can come in there: leave interface out of gate.toml"
        yield found(Kind.OTHER_WAYS_IN, f"{', '.join(others)}: also with addresses, and not guarded", fix)


def _on_addresses(interfaces: Sequence[Interface]) -> Iterator[Finding]:
    have = [(each, local) for each in interfaces for local in each.addresses]
    reached = [(each, local) for each, local in have if each.is_up and _reach(local)]
    for each, local in have:
        if local.taken:
            fix = "give one of the two another address"
            yield found(Kind.ADDRESS_UNUSABLE, f"{local.address} on {each.name} is in use elsewhere", fix)
    if not reached:
        kind = (
            Kind.LINK_LOCAL_ONLY if any(local.address.is_link_local for _, local in have) else Kind.NO_ADDRESS
        )
        what = "only link-local addresses" if kind is Kind.LINK_LOCAL_ONLY else "no address that works"
        names = ", ".join(each.name for each in interfaces)
        seen = f"{names}: {what}" if names else "there is no interface but loopback"
        yield found(kind, seen, "ip address add ADDRESS dev INTERFACE; see that DHCP works")
        return
    yield fine(
        Topic.NETWORK, "a client reaches this host at " + several(local.address for _, local in reached)
    )
    changing = [local.address for _, local in reached if local.changes]
    if changing:
        yield found(
            Kind.ADDRESS_CHANGES,
            f"given for a time only: {several(changing)}",
            "name a host in profiles, which a dynamic DNS entry leads here, or have the address reserved",
        )
    if all(_is_private(local.address) for _, local in reached):
        fix = "have the router pass the knock's ports and the doors' ports on to this host"
        yield found(Kind.PRIVATE_ONLY, "all addresses are private", fix)


def _reach(local: Local) -> bool:
    return not (local.address.is_link_local or local.address.is_loopback or local.taken)


def _is_private(address: Address) -> bool:
    return address.is_private or (address.version == 4 and address in _SHARED)
