"""What a packet meets at a door, as rules: who comes in, and what becomes of everybody else.

In this order: who has a lease, who is always let in (``allow``), and everybody while the door is paused. The
rest is dropped. A door in shadow asks the same, counts the answer, and lets everybody in.

Networks stand in the rules that ask for them, as sets without a name: so one load replaces rule and set at
once, and no set is emptied and filled again under a packet. A door with networks of its own has a chain in
front; a gate without any has no rule that asks. A pause is an element that the kernel takes away. It is asked
for last, since it is hardly ever there.

What is counted of a shadow survives a reload and ends with the last shadow: of each port all connections, of
each source those of a day, for as many sources as there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from knockgate.config.doors import Configuration
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


def sets() -> Iterator[tuple[str, str]]:
    """(name, what it is); all are there always, so that a reload may begin to use them."""
    yield PAUSED, "type inet_proto . inet_service; flags timeout;"
    for name in SHADOWED.values():
        yield name, "type inet_proto . inet_service; size 131072; flags dynamic;"  # all ports that there are
        for _, digit, kind in FAMILIES:
            key = f"type {kind} . inet_proto . inet_service"
            yield f"{name}{digit}", f"{key}; size {SHADOW_SOURCES}; flags dynamic,timeout;"


def emptied(configuration: Configuration) -> list[str]:
    """The sets that are emptied when this configuration is loaded."""
    if _in_shadow(configuration):
        return []
    return [f"{name}{digit}" for name in SHADOWED.values() for digit in ("", "4", "6")]


def chain_of(configuration: Configuration, number: int) -> str:
    """Where packets to a door go."""
    door = configuration.doors[number]
    return _own_chain(number) if door.allow else _doors(in_shadow=configuration.in_shadow(door))


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
    for number, door in enumerate(configuration.doors):
        if door.allow:
            in_shadow = configuration.in_shadow(door)
            let_in = "allowed_in_shadow" if in_shadow else "allowed"
            yield (
                _own_chain(number),
                [*_of_networks(door.allow, f"goto {let_in}"), f"goto {_doors(in_shadow=in_shadow)}"],
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
    yield "meta l4proto @grace tcp flags & (fin | syn | rst | ack) == ack accept"
    yield from resets
    for name in ("leases", "given"):
        for word, digit, _ in FAMILIES:
            yield f"{word} saddr . {_PORT} @{name}{digit} {let_in}"
    yield f"ip6 saddr & {_FIRST_HALF} . {_PORT} @networks6 {let_in}"
    yield from _of_networks(configuration.gate.allow, let_in)
    yield f"{_PORT} @{PAUSED} accept"


def _first() -> list[str]:
    """What counts for who is let in as well."""
    # Before DNAT, so a published port is still addressed to this host; what is only routed is not ours.
    return ["fib daddr type unicast accept", *reset()]


def _of_networks(networks: Sequence[Network], let_in: str) -> Iterator[str]:
    for word, digit, _ in FAMILIES:
        if found := collapsed(networks, int(digit)):
            yield f"{word} saddr {{ {', '.join(map(str, found))} }} {let_in}"


def _doors(*, in_shadow: bool) -> str:
    return "shadow" if in_shadow else "door"


def _own_chain(number: int) -> str:
    return f"door_{number}"


def _counting(name: str) -> Iterator[str]:
    yield f"{NO_SYN_ALONE} accept"  # of a session from before the table; it would have had its grace
    yield f"update @{name} {{ {_PORT} counter }}"
    for word, digit, _ in FAMILIES:
        yield f"update @{name}{digit} {{ {word} saddr . {_PORT} timeout {SHADOW_KEPT}s counter }}"
    yield "accept"
