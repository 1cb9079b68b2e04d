"""What the gate's table, its sets and its reports are called: for who compiles them, and who reads them."""

from __future__ import annotations

from knockgate.config.doors import Configuration
from knockgate.model import Protocol

__all__ = ["BOUNDS", "LEASE_SETS", "OPENED", "TABLE", "mark_of"]

TABLE = "knockgate"
#: By the bytes of a source: (opened by a knock, given by hand or for a packet). Two sets, so that a knock
#: never shortens a longer lease that somebody gave by hand. A network is never knocked for, and has one.
LEASE_SETS: dict[int, tuple[str, ...]] = {
    4: ("leases4", "given4"),
    8: ("networks6",),
    16: ("leases6", "given6"),
}

#: Prefixes of what the kernel reports through its log group: an opening, by the door's protocol ...
OPENED = {f"knockgate open {protocol.name.lower()}": protocol for protocol in Protocol}
#: ... and an exhausted bound, at most one a second each.
BOUNDS = {
    "knockgate crowded": "crowded",
    "knockgate paced": "paced",
    "knockgate leases full": "leases_full",
}


def mark_of(configuration: Configuration) -> int:
    """A number of 32 bits that the table carries, so that one can tell which configuration is in force."""
    return int.from_bytes(configuration.checksum[:4])
