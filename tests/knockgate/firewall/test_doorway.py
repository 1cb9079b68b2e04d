"""Networks that are let in without a knock, with real sockets and the real table."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import re
import socket
import threading
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.knockgate.firewall.doors import OTHER, WEB, gate, load, stage
from tests.knockgate.firewall.guarded import (
    CLIENT,
    answering,
    cable,
    listening,
    stream,
)
from tests.knockgate.firewall.table import elements, nft
from tests.netns import Network, isolated, run, until, up

from knockgate.config.unshut import collapsed
from knockgate.firewall.doorway import chain_of
from knockgate.firewall.nftables import Nftables

# --- networks that are always let in ------------------------------------------------------------------


@isolated
def test_networks_of_the_gate_pass_all_doors_and_those_of_a_door_pass_that_one() -> None:
    """Both families. A neighbour is kept out; what is loaded next counts from then on."""
    with stage(8080) as (client, firewall):
        load(firewall, gate())
        assert client.all_seen(22) == client.all_seen(8080) == ["silent"] * 4
        load(firewall, gate('allow = ["10.0.0.0/27", "fd00::/123"]'))
        assert client.all_seen(22) == client.all_seen(8080) == ["open", "silent"] * 2
        load(
            firewall,
            gate('allow = ["10.0.0.66"]', of_ssh='allow = ["fd00::2"]', of_web='allow = ["fd00::66"]'),
        )
        assert client.all_seen(22) == ["silent", "open", "open", "silent"]
        assert client.all_seen(8080) == ["silent", "open", "silent", "open"]
        load(firewall, gate(of_ssh='allow = ["10.0.0.64/26", "0.0.0.0/1", "10.0.0.66"]'))
        assert client.all_seen(22) == ["open", "open", "silent", "silent"]
        assert client.all_seen(8080) == ["silent"] * 4
        load(firewall, gate('allow = ["0.0.0.0/0", "::/0"]', of_ssh='allow = ["0.0.0.0/0", "::/0"]'))
        assert client.all_seen(22) == client.all_seen(8080) == ["open"] * 4
        load(firewall, gate(of_web='allow = ["0.0.0.0/0", "::/0"]'))
        assert client.all_seen(22) == ["silent"] * 4 and client.all_seen(8080) == ["open"] * 4
        load(firewall, gate())
        assert client.all_seen(22) == client.all_seen(8080) == ["silent"] * 4


@isolated
def test_a_port_that_a_container_publishes() -> None:
    """Before DNAT, so the port is the one on the wire: for networks, for a pause and for a shadow."""
    with stage() as (client, firewall):
        container = Network()
        _contain(container)
        with listening(22, network=container):
            until(lambda: client.seen(8080, CLIENT[4]) == "open", "it is published")
            load(firewall, gate())
            assert client.seen(8080, CLIENT[4]) == "silent"
            load(firewall, gate(of_web='allow = ["10.0.0.2"]'))
            assert [client.seen(8080, source) for source in (CLIENT[4], OTHER[4])] == ["open", "silent"]
            load(firewall, gate())
            firewall.pause([WEB], 600)
            assert [client.seen(8080, source) for source in (CLIENT[4], OTHER[4])] == ["open", "open"]
            firewall.pause([WEB], 0)
            assert client.seen(8080, CLIENT[4]) == "silent"
            load(firewall, gate(of_web="shadow = true"))
            assert client.seen(8080, CLIENT[4]) == "open" and client.seen(22, CLIENT[4]) == "silent"
            assert firewall.shadow().dropped == {WEB: 1}


def _contain(container: Network) -> None:
    run("ip", "link", "add", "dock", "type", "veth", "peer", "name", "eth0")
    container.adopt("eth0")
    up("dock", "172.17.0.1/24")
    with container:
        up("eth0", "172.17.0.2/24")
        run("ip", "route", "add", "default", "via", "172.17.0.1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    nft(
        "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
        "ip daddr 10.0.0.1 tcp dport 8080 dnat to 172.17.0.2:22\n}\n}\n"
    )


@isolated
def test_a_reload_keeps_nobody_out_who_is_allowed_and_lets_nobody_in_who_is_not() -> None:
    """While both send, two configurations with other networks take turns; the same one is in neither."""
    client = cable()
    with listening(80), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, Nftables() as firewall:
        server.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        server.bind(("", 5353))
        server.setblocking(False)
        with client:
            up("far", "10.0.0.3/24", "10.0.0.4/24")
        answering(client)
        configurations = [
            gate('allow = ["10.0.0.2"]', of_ssh='allow = ["10.0.0.4"]'),
            gate('allow = ["10.0.0.0/31", "10.0.0.2"]', of_ssh='allow = ["10.0.0.4/30", "fd00::/8"]'),
        ]
        load(firewall, configurations[0])
        sent = {"10.0.0.2": 0, "10.0.0.3": 0, "10.0.0.4": 0}
        over = threading.Event()
        senders = [threading.Thread(target=stream, args=(client, who, sent, over)) for who in sent]
        for sender in senders:
            sender.start()
        for _, configuration in zip(range(60), itertools.cycle(configurations), strict=False):
            load(firewall, configuration)
        over.set()
        for sender in senders:
            sender.join()
        arrived: dict[str, int] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                who = server.recv(99).decode()
                arrived[who] = arrived.get(who, 0) + 1
        assert min(sent.values()) > 100
        del sent["10.0.0.3"]
        assert arrived == sent


_NETWORKS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 255), st.integers(20, 32)).map(
            lambda each: f"10.0.{each[0] >> 4}.{each[0] & 15}/{each[1]}"
        ),
        st.tuples(st.integers(0, 255), st.integers(116, 128)).map(
            lambda each: f"fd00::{each[0] >> 4:x}0{each[0] & 15:x}/{each[1]}"
        ),
    ).map(lambda text: str(_network(text))),
    max_size=6,
)


def _network(text: str) -> object:
    return ipaddress.ip_network(text, strict=False)


@isolated
def test_whatever_networks_follow_each_other_the_kernel_has_just_the_last_ones() -> None:
    """Overlapping, within each other, neighbours: each list is loaded over the one before."""
    with Nftables() as firewall:

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_NETWORKS, _NETWORKS)
        def loads(of_gate: list[str], of_door: list[str]) -> None:
            configuration = gate(f"allow = {of_gate!r}", of_ssh=f"allow = {of_door!r}")
            load(firewall, configuration)
            expected: dict[str, set[str]] = {
                chain: {*map(str, collapsed(allow, 4)), *map(str, collapsed(allow, 6))}
                for chain, allow in (
                    (chain_of(configuration, 0), configuration.doors[0].allow),  # "door" where it has none
                    ("door", configuration.gate.allow),
                )
            }
            assert {chain: _asked_for(chain) for chain in expected} == expected
            firewall.load(firewall.text())  # as a rollback does
            assert {chain: _asked_for(chain) for chain in expected} == expected

        loads()


def _asked_for(chain: str) -> set[str]:
    """The networks that a chain lets in."""
    rules = run("nft", "list", "chain", "inet", "knockgate", chain, check=False)
    return {
        network
        for name in re.findall(r"saddr @(allow_\w+)", rules)
        for each in elements(name)
        for network in _spelled(each["val"])
    }


def _spelled(value: Any) -> list[str]:  # noqa: ANN401 - of JSON
    """As networks, whichever way nft spells them: neighbours are one range."""
    if isinstance(value, str):
        return [str(ipaddress.ip_network(value))]
    if "prefix" in value:
        return [f"{value['prefix']['addr']}/{value['prefix']['len']}"]
    first, last = map(ipaddress.ip_address, value["range"])
    return list(map(str, ipaddress.summarize_address_range(first, last)))
