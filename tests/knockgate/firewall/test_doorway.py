"""Who is let in without a knock: networks, a pause, a shadow; with real sockets and the real table."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.knockgate.firewall.table import Cable, elements, nft
from tests.knockgate.firewall.test_guard import (
    CLIENT,
    FAMILY,
    HOST,
    ONE_TRY,
    answering,
    cable,
    knock,
    listening,
    look,
)
from tests.netns import Network, isolated, run, until, up
from tests.packets import raw

from knockgate.config.doors import Configuration, parse
from knockgate.config.unshut import collapsed
from knockgate.firewall.doorway import chain_of
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Port, Protocol, Shadowed, address_text

SSH, DNS, WEB = Port(Protocol.TCP, 22), Port(Protocol.UDP, 5353), Port(Protocol.TCP, 8080)
DOORS = """
[doors.ssh]
ports = ["tcp/22", "udp/5353"]
lease = "1h"
{of_ssh}
sequence = {{ steps = ["tcp/7000", "udp/8000", "tcp/9000"], within = "5s" }}
[doors.web]
ports = ["tcp/8080"]
{of_web}
"""
#: Beside 10.0.0.2 and fd00::2, which ``cable`` gives the client.
OTHER = {4: "10.0.0.66", 6: "fd00::66"}


def gate(of_gate: str = "", of_ssh: str = "", of_web: str = "") -> Configuration:
    return parse(f"[gate]\n{of_gate}\n" + DOORS.format(of_ssh=of_ssh, of_web=of_web))


def load(firewall: Nftables, configuration: Configuration) -> None:
    firewall.load(compile_ruleset(configuration, stale_chains=firewall.chains()))


class Client:
    """Somebody with two addresses of each family."""

    def __init__(self) -> None:
        self.network = cable()
        with self.network:
            up("far", f"{OTHER[4]}/24", f"{OTHER[6]}/64")
        answering(self.network)
        for family in (4, 6):
            until(lambda: self.seen(80, OTHER[family]) == "open", "the other address as well")  # noqa: B023

    def seen(self, port: int, source: str) -> str:
        with self.network:
            return look(HOST[6 if ":" in source else 4], port, source=source)

    def all_seen(self, port: int) -> list[str]:
        """From 10.0.0.2, 10.0.0.66, fd00::2 and fd00::66."""
        return [self.seen(port, whose[family]) for family in (4, 6) for whose in (CLIENT, OTHER)]


@contextlib.contextmanager
def stage(*ports: int) -> Iterator[tuple[Client, Nftables]]:
    with listening(22, 80, *ports), Nftables() as firewall:
        yield Client(), firewall


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
        senders = [threading.Thread(target=_stream, args=(client, who, sent, over)) for who in sent]
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


def _stream(client: Network, source: str, sent: dict[str, int], over: threading.Event) -> None:
    with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        while not over.wait(0.0005):
            sock.sendto(source.encode(), (HOST[4], 5353))
            sent[source] += 1


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


# --- pause --------------------------------------------------------------------------------------------


@isolated
def test_a_pause_lets_everybody_in_and_then_the_kernel_shuts() -> None:
    """Nobody is there any more who could: the library is given back while it lasts. Sessions live on."""
    with listening(22, 80, 8080) as (server, *_):
        client = Client()
        with Nftables() as firewall:
            load(firewall, gate())
            assert client.all_seen(22) == ["silent"] * 4
            firewall.pause([SSH], 3)
            load(firewall, gate())
            (pause,) = firewall.pauses()
            assert pause.port == SSH and pause.left < 3
        assert client.all_seen(22) == ["open"] * 4
        assert client.seen(8080, CLIENT[4]) == "silent"  # another door
        with client.network:
            session = socket.create_connection((HOST[4], 22), timeout=ONE_TRY)
        with session:
            with Nftables(own=False) as firewall:
                until(lambda: not firewall.pauses(), "it is over")
            assert client.all_seen(22) == ["silent"] * 4
            with contextlib.suppress(BlockingIOError):
                server.setblocking(False)
                while True:
                    peer, address = server.accept()
                    if address[1] == session.getsockname()[1]:
                        break
                    peer.close()
            with peer:
                session.sendall(b"typed")
                peer.settimeout(ONE_TRY)
                assert peer.recv(9) == b"typed"


# --- shadow -------------------------------------------------------------------------------------------


def told(sources: list[Shadowed]) -> set[tuple[str, str, int, bool]]:
    return {
        (address_text(each.source), str(each.port), each.connections, each.would_drop) for each in sources
    }


@isolated
def test_in_shadow_nothing_is_shut_and_all_of_it_is_counted() -> None:
    """A stranger comes in and is counted; who has a lease, or is allowed, is told apart from them."""
    with stage(8080, 7000, 9000) as (client, firewall):
        load(firewall, gate('shadow = true\nallow = ["10.0.0.66"]'))
        assert client.all_seen(22) == ["open"] * 4
        assert client.seen(22, CLIENT[4]) == client.seen(8080, CLIENT[4]) == "open"
        firewall.open([SSH], raw(CLIENT[4]), 600, "hand")
        assert client.seen(22, CLIENT[4]) == "open"
        found = firewall.shadow()
        assert found.dropped == {SSH: 4, WEB: 1} and found.passed == {SSH: 2}
        assert told(found.sources) == {
            (CLIENT[4], "tcp/22", 2, True),
            (CLIENT[4], "tcp/8080", 1, True),
            (CLIENT[6], "tcp/22", 1, True),
            (OTHER[6], "tcp/22", 1, True),
            (OTHER[4], "tcp/22", 1, False),
            (CLIENT[4], "tcp/22", 1, False),
        }
        agos = [each.ago for each in found.sources]
        assert agos == sorted(agos) and agos[-1] < 10
        tick = 0.02  # what came within one of the kernel's ticks came at once
        last = next(each for each in found.sources if each.source == raw(CLIENT[4]) and not each.would_drop)
        assert last.ago <= agos[0] + tick
        load(firewall, gate('shadow = true\nallow = ["10.0.0.66"]'))
        assert firewall.shadow().dropped == found.dropped  # a reload keeps the count
        load(firewall, gate())
        assert client.seen(22, OTHER[4]) == "silent"  # the control
        assert client.seen(22, CLIENT[4]) == "open"  # its lease is still there
        assert firewall.shadow().sources == []


@pytest.mark.parametrize("family", [4, 6])
@isolated
def test_a_knock_in_shadow_opens_and_passes_as_it_came(family: int) -> None:
    """Programs on the knock ports are reached as before; the door's port is not put in a packet's place."""
    with stage(7000, 9000) as (client, firewall), socket.socket(FAMILY[family], socket.SOCK_DGRAM) as server:
        server.bind((HOST[family], 8000))
        server.settimeout(ONE_TRY)
        load(firewall, gate("shadow = true"))
        with client.network:
            knock(HOST[family], CLIENT[family])
        assert server.recv(9) == b"\0"
        until(firewall.leases, "the knock has opened")
        assert {(lease.port, lease.by) for lease in firewall.leases()} == {
            (port, "kernel sequence") for port in (SSH, DNS)
        }
        # tcp/9000 was the last knock: it came to 9000, and to no door.
        assert firewall.shadow().passed == firewall.shadow().dropped == {}
        source = OTHER[family]
        with client.network:
            for port in (7000, 9000):
                assert look(HOST[family], port, source=source) == "open"
        assert client.seen(22, CLIENT[family]) == "open"
        assert told(firewall.shadow().sources) == {(CLIENT[family], "tcp/22", 1, False)}
        load(firewall, gate())
        with client.network:
            assert look(HOST[family], 7000, source=source) == "silent"  # the control


@isolated
def test_the_last_knock_reaches_who_listens_there() -> None:
    """The one that opens: it has the port and the mark of before, also where it opens several ports."""
    with stage(9000) as (client, firewall):
        load(firewall, gate("shadow = true"))
        nft(
            "add table inet after\nadd counter inet after seen\n"
            "add chain inet after after { type filter hook prerouting priority -150; }\n"
            "add rule inet after after tcp dport 9000 meta mark 0 counter name seen\n"
        )
        with client.network:
            for kind, port in ((socket.SOCK_STREAM, 7000), (socket.SOCK_DGRAM, 8000)):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.setblocking(False)
                    sock.connect_ex((HOST[4], port))
                    if kind == socket.SOCK_DGRAM:
                        sock.send(b"\0")
            assert firewall.leases() == []
            assert look(HOST[4], 9000) == "open"
        assert len(firewall.leases()) == 2
        assert "packets 0" not in run("nft", "list", "counter", "inet", "after", "seen")


@isolated
def test_one_door_in_shadow_and_another_shut() -> None:
    """The shut one stays shut, and the knocks of the one in shadow stay silent."""
    with stage(8080, 7000) as (client, firewall):
        load(firewall, gate(of_ssh="shadow = true"))
        assert client.all_seen(22) == ["open"] * 4
        assert client.all_seen(8080) == client.all_seen(7000) == ["silent"] * 4
        assert firewall.shadow().dropped == {SSH: 4}
        firewall.pause([SSH, WEB], 600)
        assert client.all_seen(22) == client.all_seen(8080) == ["open"] * 4
        assert firewall.shadow().dropped == {SSH: 4}  # while it is paused nobody would be kept out


@isolated
def test_there_is_room_for_so_many_sources_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """More sources than there is room for: they come in, and the port counts them."""
    monkeypatch.setattr("knockgate.firewall.doorway.SHADOW_SOURCES", 16)
    cable = Cable()
    with Nftables() as firewall:
        load(firewall, gate("shadow = true"))
        for number in range(40):
            cable.send(4, f"10.1.0.{number}", "t22")
            cable.send(6, f"fd00::1:{number:x}", "t8080")
        until(lambda: firewall.shadow().dropped == {SSH: 40, WEB: 40}, "all are counted")
        sources = firewall.shadow().sources
        assert len(sources) == 32 and all(each.connections == 1 for each in sources)
