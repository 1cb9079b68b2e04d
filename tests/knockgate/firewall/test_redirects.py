from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.netns import isolated, run
from tests.packets import raw

from knockgate.firewall.nftables import Nftables
from knockgate.model import Port, Protocol

TCP, UDP = Protocol.TCP, Protocol.UDP
Told = tuple[Protocol, range, int, bytes]


def told() -> tuple[list[Told], list[str]]:
    with Nftables(own=False) as firewall:
        found, unread = firewall.redirects()
    assert all(each.target.protocol is each.protocol for each in found)
    return [(each.protocol, each.ports, each.target.number, each.address) for each in found], unread


def one(port: int) -> range:
    return range(port, port + 1)


def rules(*lines: str, family: str = "inet") -> None:
    """Rules in a nat chain ``c`` of a table ``other``."""
    run("nft", f"add table {family} other")
    run("nft", f"add chain {family} other c {{ type nat hook prerouting priority -100; }}")
    for line in lines:
        run("nft", f"add rule {family} other c {line}")


UNDERSTOOD: dict[str, list[Told]] = {
    "tcp dport 7777 redirect to :22": [(TCP, one(7777), 22, b"")],
    "udp dport 53 counter log group 3 redirect to :54": [(UDP, one(53), 54, b"")],
    "tcp dport 8080 dnat ip to 10.0.0.2:80": [(TCP, one(8080), 80, raw("10.0.0.2"))],
    "tcp dport 8080 dnat ip6 to [2001:db8::2]:80": [(TCP, one(8080), 80, raw("2001:db8::2"))],
    "iifname eth0 ip daddr 192.0.2.1 tcp dport 9 ct state new redirect to :22": [(TCP, one(9), 22, b"")],
    "tcp dport 1000-2000 redirect to :22": [(TCP, range(1000, 2001), 22, b"")],
    "tcp dport >= 65000 redirect to :22": [(TCP, range(65000, 65536), 22, b"")],
    "tcp dport 100-200 tcp dport 150-300 redirect to :22": [(TCP, range(150, 201), 22, b"")],
    "udp dport { 53, 60-70 } redirect to :54": [(UDP, one(53), 54, b""), (UDP, range(60, 71), 54, b"")],
    "tcp dport { 7, 9 } redirect to :22": [(TCP, one(7), 22, b""), (TCP, one(9), 22, b"")],
    "tcp dport { 65000-65535 } redirect to :22": [(TCP, range(65000, 65536), 22, b"")],
    "meta l4proto { tcp, udp } th dport 7 redirect to :22": [(TCP, one(7), 22, b""), (UDP, one(7), 22, b"")],
    "tcp sport 1000 tcp dport 70 redirect to :22": [(TCP, one(70), 22, b"")],  # one comparison of 4 bytes
    "tcp dport 9 redirect": [],  # to the same port
    "tcp dport 9 dnat ip to 10.0.0.2": [],
    "dnat ip to tcp dport map { 4000 : 10.0.0.1 }": [],
    "tcp dport 22 accept": [],
    "tcp dport 5 tcp dport 6 redirect to :22": [],  # never true
}  # fmt: skip

FROM, TO = "; from which ports cannot be read", "; the new port comes from a map or a range"
NOT_UNDERSTOOD = {
    "tcp dport != 5 redirect to :22": f" to port 22{FROM}",
    "tcp dport & 1 == 1 redirect to :22": f" to port 22{FROM}",
    "tcp dport != { 5, 6 } redirect to :22": f" to port 22{FROM}",
    "tcp dport != 5-6 redirect to :22": f" to port 22{FROM}",
    "ip daddr . tcp dport { 192.0.2.1 . 5 } redirect to :22": f" to port 22{FROM}",
    "meta l4proto tcp redirect to :9999": f" to port 9999{FROM}",
    "tcp dport 5 redirect to :22-25": TO,
    "dnat ip addr . port to tcp dport map { 4000 : 10.0.0.1 . 80 }": TO,
}


@isolated
def test_rules_of_nft() -> None:
    for rule, expected in UNDERSTOOD.items():
        rules(rule)
        found, unread = told()
        assert sorted(found, key=str) == sorted(expected, key=str), rule
        assert unread == [], rule
        run("nft", "delete table inet other")


@isolated
def test_what_is_not_understood_is_said() -> None:
    for rule, words in NOT_UNDERSTOOD.items():
        rules("tcp dport 7777 redirect to :22", rule)
        found, unread = told()
        assert found == [(TCP, one(7777), 22, b"")], rule  # the control: the others are still told
        assert unread == [f"table inet other, chain c: a rule sends packets on{words}"], rule
        run("nft", "delete table inet other")


@isolated
def test_rules_of_iptables() -> None:
    """Both families; iptables says where it leads in a form of its own."""
    for command, port, more in (
        ("iptables-nft", "8443", ("-p", "tcp", "-j", "DNAT", "--to-destination", "172.17.0.2:443")),
        ("iptables-nft", "500:600", ("-p", "udp", "-j", "REDIRECT", "--to-ports", "22")),
        ("iptables-nft", "7", ("-p", "tcp", "-j", "DNAT", "--to-destination", "172.17.0.2")),
        ("iptables-nft", "8", ("-p", "tcp", "-j", "DNAT", "--to-destination", "172.17.0.2:80-82")),
        ("ip6tables-nft", "8443", ("-p", "tcp", "-j", "DNAT", "--to-destination", "[2001:db8::3]:443")),
        ("ip6tables-nft", "9", ("-p", "tcp", "-j", "REDIRECT", "--to-ports", "22")),
    ):
        protocol, *target = more[1:]
        run(command, "-t", "nat", "-A", "PREROUTING", "-p", protocol, "--dport", port, *target)
    multiport = ("-p", "tcp", "-m", "multiport", "--dports", "5,6", "-j", "REDIRECT", "--to-ports", "22")
    run("iptables-nft", "-t", "nat", "-A", "PREROUTING", *multiport)
    found, unread = told()
    assert sorted(found, key=str) == sorted(
        [
            (TCP, one(8443), 443, raw("172.17.0.2")),
            (UDP, range(500, 601), 22, b""),
            (TCP, one(8443), 443, raw("2001:db8::3")),
            (TCP, one(9), 22, b""),
        ],
        key=str,
    )
    assert len(unread) == 2
    assert "comes from a map or a range" in unread[0]
    assert "to port 22; from which ports cannot be read" in unread[1]


@isolated
def test_where_rules_are_looked_for() -> None:
    """In every table and family but our own, also in chains that others jump to; not in hook output."""
    run("nft", "add table inet knockgate; add chain inet knockgate c")
    run("nft", "add rule inet knockgate c tcp dport 1 redirect to :22")
    rules("tcp dport 2 redirect to :22", family="ip")
    rules("tcp dport 3 redirect to :22", family="ip6")
    run("nft", "add chain ip other jumped; add rule ip other jumped tcp dport 4 redirect to :22")
    run("nft", "add chain ip other o { type nat hook output priority -100; }")
    run("nft", "add rule ip other o tcp dport 5 redirect to :22")
    with Nftables(own=False) as firewall:
        found, unread = firewall.redirects()
    assert {(each.ports.start, each.where) for each in found} == {
        (2, "table ip other, chain c"),
        (3, "table ip6 other, chain c"),
        (4, "table ip other, chain jumped"),
    }
    assert unread == []
    assert found[0].target == Port(TCP, 22)


@isolated
def test_the_old_iptables_is_named_where_it_has_rules(tmp_path: Path) -> None:
    """Its rules are not among those of nf_tables."""
    os.environ["XTABLES_LOCKFILE"] = str(tmp_path / "lock")  # the usual place is root's
    run("iptables-legacy", "-t", "filter", "-L")
    if not os.access("/proc/net/ip_tables_names", os.R_OK):
        pytest.skip("the list of its tables is for the system's root alone")
    assert told() == ([], [])
    run("iptables-legacy", "-t", "nat", "-L")
    assert told() == ([], ["ip_tables: rules of iptables-legacy are not looked at"])
