"""The smallest table that has all sets of leases; what nft says of it."""

from __future__ import annotations

from tests.knockgate.firewall.conformance import LIMIT
from tests.netns import run
from tests.packets import raw

from knockgate.model import Port, Protocol

SSH, DNS = Port(Protocol.TCP, 22), Port(Protocol.UDP, 53)
ALICE, ALICE6 = raw("192.0.2.7"), raw("2001:db8::7")
HOME = raw("2001:db8:1:2::")[:8]

RULESET = "add table inet knockgate\n" + "".join(
    f"add set inet knockgate {name} {{ type {kind} . inet_proto . inet_service; "
    f"size {LIMIT}; flags dynamic,timeout; }}\n"
    for name, kind in (
        ("leases4", "ipv4_addr"),
        ("given4", "ipv4_addr"),
        ("leases6", "ipv6_addr"),
        ("given6", "ipv6_addr"),
        ("networks6", "ipv6_addr"),
    )
)
RULESET += """\
add set inet knockgate paused { type inet_proto . inet_service; flags timeout; }
add chain inet knockgate door
add chain inet knockgate guard { type filter hook prerouting priority -190; policy accept; }
flush table inet knockgate
add rule inet knockgate door ip saddr . meta l4proto . th dport @leases4 accept
add rule inet knockgate door ip saddr . meta l4proto . th dport @given4 accept
add rule inet knockgate door drop
add rule inet knockgate guard tcp dport 22 goto door
"""


def listing() -> str:
    """The whole rules, without what runs down."""
    return run("nft", "-s", "list", "ruleset")
