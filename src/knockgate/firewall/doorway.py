"""What a packet meets at a door, as rules: who comes in, and what becomes of everybody else.

In this order: who has a lease, who is always let in (``allow``), and everybody while the door is paused. The
rest is dropped. A door in shadow asks the same, counts the answer, and lets everybody in.

Networks lie in sets of intervals that have names, and are emptied and filled in the same load: what was there
before counts until the new ones do. (In a set without a name, which is new with each load, Linux 6.18 finds
nothing for some microseconds.) A door with networks of its own has a chain in front, and sets that are called
after its name, so that no door ever asks another's. A gate without any has no rule that asks. A pause is an
element that the kernel takes away. It is asked for last, since it is hardly ever there.

What is counted of a shadow survives a reload and ends with the last shadow: of each port all connections, of
each source those of a day, for as many sources as there is room for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from knockgate.config.doors import Configuration, Door
from knockgate.config.readers import Network
from knockgate.config.unshut import collapsed

__all__ = [
    "FAMILIES",
    "NO_SYN_ALONE",
    "PAUSED",
    "SHADOWED",
    "SHADOW_KEPT",
    "SHADOW_SOURCES",
    "SYN_ALONE",
    "chain_of",
    "chains",
    "elements",
    "emptied",
    "forget",
    "reset",
    "sets",
]

FAMILIES = (("ip", "4", "ipv4_addr"), ("ip6", "6", "ipv6_addr"))
SYN_ALONE = "tcp flags & (fin | syn | rst | ack) == syn"
NO_SYN_ALONE = "tcp flags & (fin | syn | rst | ack) != syn"  # says nothing of UDP, which it does not match

#: The set of ports that let everybody in.
PAUSED = "paused"
#: What of a shadow is counted, by the answer that was not given; the sets of its sources end in 4 and 6.
SHADOWED = {True: "would_drop", False: "would_pass"}
#: Sources that are remembered of each family and answer, and for how long after their last connection.
SHADOW_SOURCES, SHADOW_KEPT = 16384, 86400

#: What of an address is looked up among networks: so these lie in a hash, as addresses do. In a set of
#: intervals 10 000 of them cost each packet that asks twenty times as much.
_FIRST_HALF = "ffff:ffff:ffff:ffff::"
_PORT = "meta l4proto . th dport"
_ALLOW = "allow"


def sets(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """(name, what it is)."""
    for whose in _allowing(configuration):
        for _, digit, kind in FAMILIES:
            yield f"{whose}_{digit}", f"type {kind}; flags interval;"
    yield PAUSED, "type inet_proto . inet_service; flags timeout;"
    for name in SHADOWED.values():
        yield name, "type inet_proto . inet_service; size 131072; flags dynamic;"  # all ports that there are
        for _, digit, kind in FAMILIES:
            key = f"type {kind} . inet_proto . inet_service"
            yield f"{name}{digit}", f"{key}; size {SHADOW_SOURCES}; flags dynamic,timeout;"


def emptied(configuration: Configuration) -> list[str]:
    """The sets that are emptied when this configuration is loaded."""
    names = [f"{whose}_{digit}" for whose in _allowing(configuration) for digit in "46"]
    if not _in_shadow(configuration):
        names += [f"{name}{digit}" for name in SHADOWED.values() for digit in ("", "4", "6")]
    return names


def elements(configuration: Configuration) -> Iterator[tuple[str, list[str]]]:
    """(set, what is in it): the networks that are always let in."""
    for whose, networks in _allowing(configuration).items():
        for _, digit, _ in FAMILIES:
            yield f"{whose}_{digit}", list(map(str, collapsed(networks, int(digit))))


def chain_of(configuration: Configuration, number: int) -> str:
    """Where packets to a door go."""
    door = configuration.doors[number]
    return _allow(door) if door.allow else _doors(in_shadow=configuration.in_shadow(door))


def chains(configuration: Configuration) -> Iterator[tuple[str, Sequence[str]]]:
    """Every chain with its rules; one is named only by those behind it."""
    yield "door", [*_rules(configuration, "accept"), "counter name shut drop"]
    if _in_shadow(configuration):
        for name in SHADOWED.values():
            yield name, list(_counting(name))
        passes, drops = (f"goto {SHADOWED[answer]}" for answer in (False, True))
        yield "shadow", [*_rules(configuration, passes), drops]
    if any(door.allow for door in configuration.doors):
        yield "allowed", [*_first(), "accept"]
        if _in_shadow(configuration):
            yield "allowed_in_shadow", [*_first(), f"goto {SHADOWED[False]}"]
    for door in configuration.doors:
        if door.allow:
            in_shadow = configuration.in_shadow(door)
            let_in = "allowed_in_shadow" if in_shadow else "allowed"
            yield (
                _allow(door),
                [
                    *_of_networks(_allow(door), door.allow, f"goto {let_in}"),
                    f"goto {_doors(in_shadow=in_shadow)}",
                ],
            )


def reset() -> list[str]:
    """Only a packet that opens a connection resets."""
    return ["meta l4proto udp jump forget", f"{SYN_ALONE} jump forget"]


def forget() -> list[str]:
    """An end of what the source has knocked so far."""
    return [
        f"delete @{name}{digit} {{ {word} saddr : 0 }}"
        for name in ("progress", "hurried")
        for word, digit, _ in FAMILIES
    ]


def _in_shadow(configuration: Configuration) -> bool:
    return any(map(configuration.in_shadow, configuration.doors))


def _rules(configuration: Configuration, let_in: str) -> Iterator[str]:
    not_ours, *resets = _first()
    yield not_ours
    # In this order: before what is tcp's alone, nft 1.1 (Debian 13) takes no set of protocols.
    yield "tcp flags & (fin | syn | rst | ack) == ack meta l4proto @grace accept"
    yield from resets
    for name in ("leases", "given"):
        for word, digit, _ in FAMILIES:
            yield f"{word} saddr . {_PORT} @{name}{digit} {let_in}"
    yield f"ip6 saddr & {_FIRST_HALF} . {_PORT} @networks6 {let_in}"
    yield from _of_networks(_ALLOW, configuration.gate.allow, let_in)
    yield f"{_PORT} @{PAUSED} accept"


def _first() -> list[str]:
    """What counts for who is let in as well."""
    # Before DNAT, so a published port is still addressed to this host; what is only routed is not ours.
    return ["fib daddr type unicast accept", *reset()]


def _of_networks(name: str, networks: Sequence[Network], let_in: str) -> Iterator[str]:
    for word, digit, _ in FAMILIES:
        if any(network.version == int(digit) for network in networks):
            yield f"{word} saddr @{name}_{digit} {let_in}"


def _allowing(configuration: Configuration) -> dict[str, tuple[Network, ...]]:
    """What the sets are called, and whose networks they have."""
    doors = {_allow(door): door.allow for door in configuration.doors if door.allow}
    return {_ALLOW: configuration.gate.allow} | doors


def _doors(*, in_shadow: bool) -> str:
    return "shadow" if in_shadow else "door"


def _allow(door: Door) -> str:
    """Of its name, which nft may not take for one, and which may be too long."""
    return f"{_ALLOW}_{hashlib.sha256(door.name.encode()).hexdigest()[:16]}"


def _counting(name: str) -> Iterator[str]:
    yield f"{NO_SYN_ALONE} accept"  # of a session from before the table; it would have had its grace
    yield f"update @{name} {{ {_PORT} counter }}"
    for word, digit, _ in FAMILIES:
        yield f"update @{name}{digit} {{ {word} saddr . {_PORT} timeout {SHADOW_KEPT}s counter }}"
    yield "accept"
