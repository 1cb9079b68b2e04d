"""What a configuration leaves open: doors in shadow, and networks that are always let in."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from knockgate.config.doors import Configuration
from knockgate.config.readers import Network
from knockgate.config.toml import several

__all__ = ["collapsed", "network_text", "networks_in_words", "shadow_in_words"]


def collapsed(networks: Iterable[Network], version: int) -> list[Network]:
    """What those of one IP version come to together: none lies in another, and two halves are a whole."""
    if version == 4:
        return list(collapse_addresses(each for each in networks if isinstance(each, IPv4Network)))
    return list(collapse_addresses(each for each in networks if isinstance(each, IPv6Network)))


def shadow_in_words(configuration: Configuration) -> str:
    """What to say before all else where doors are not shut; empty where all are."""
    dark = [door.name for door in configuration.doors if configuration.in_shadow(door)]
    if not dark:
        return ""
    if len(dark) == sum(bool(door.ports) for door in configuration.doors):
        return "NOTHING IS SHUT: all doors are in shadow"
    return f"NOT SHUT, in shadow: {several(dark)}"


def networks_in_words(networks: Iterable[Network]) -> str:
    """``203.0.113.0/24, 2001:db8::7``."""
    return several(map(network_text, networks))


def network_text(network: Network) -> str:
    """As one would write it: a network of one address is that address."""
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address if whole else network)
