"""What the table guards, what it leaves alone, and what it does to connections: with real sockets."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from pathlib import Path

import pytest
from tests.knockgate.firewall.guarded import (
    CLIENT,
    FAMILY,
    GATE,
    HOST,
    ONE_TRY,
    answering,
    cable,
    drain,
    knock,
    lease,
    listening,
    look,
    stream,
)
from tests.knockgate.firewall.table import load, nft
from tests.netns import Network, isolated, run, until, up, veth
from tests.packets import raw

from knockgate.config.doors import parse
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Port, Protocol


@isolated
def test_a_door_is_shut_and_the_rest_is_as_before() -> None:
    client = cable()
    with listening(22, 80):
        answering(client)
        with client:
            assert [look(HOST[family], 22) for family in (4, 6)] == ["open", "open"]  # before
        load(GATE)
        with client:
            for family in (4, 6):
                assert [look(HOST[family], port) for port in (22, 80, 81)] == ["silent", "open", "closed"]
        for address in ("127.0.0.1", "::1", *HOST.values()):
            assert look(address, 22) == "open"  # loopback is not guarded
        lease("tcp/22", *CLIENT.values())
        with client:
            assert [look(HOST[family], 22) for family in (4, 6)] == ["open", "open"]
        run("nft", "delete", "table", "inet", "knockgate")
        with client:
            assert look(HOST[4], 22) == "open"


@isolated
def test_datagrams_are_guarded_as_well() -> None:
    client = cable()
    with listening(80), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 5353))
        server.settimeout(ONE_TRY)
        answering(client)
        load(GATE)
        for family in (4, 6):
            with client, socket.socket(FAMILY[family], socket.SOCK_DGRAM) as sock:
                sock.sendto(b"stranger", (HOST[family], 5353))
                with pytest.raises(TimeoutError):
                    server.recv(99)
            lease("udp/5353", CLIENT[family])
            with client, socket.socket(FAMILY[family], socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x" * 8000, (HOST[family], 5353))  # in fragments
            assert len(server.recv(9999)) == 8000


@isolated
def test_a_network_is_let_in_and_its_neighbours_are_not() -> None:
    """Any address of the /64, over TCP and UDP, to that port alone, until the lease ends; nobody else."""
    inside, also, outside = "fd00::2", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::2"
    client = cable()
    run("ip", "-6", "route", "add", "fd00:0:0:1::/64", "dev", "near")
    with client:
        up("far", f"{also}/64", f"{outside}/64")
    with (
        listening(22, 80, 8080),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        Nftables() as firewall,
    ):
        server.bind(("::", 5353))
        server.settimeout(ONE_TRY)
        answering(client)

        def seen(port: int) -> list[str]:
            with client:
                return [look(HOST[6], port, source=each) for each in (inside, also, outside)]

        def heard() -> list[bytes]:
            with client:
                for source in (inside, outside, also):
                    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                        sock.bind((source, 0))
                        sock.sendto(source.encode(), (HOST[6], 5353))
            found = []
            with contextlib.suppress(TimeoutError):
                while True:
                    found.append(server.recv(99))
            return found

        until(lambda: seen(80) == ["open"] * 3, "all three can be reached")
        rules = compile_ruleset(parse(GATE))
        firewall.load(rules)
        assert seen(22) == ["silent"] * 3 and heard() == []
        ours, theirs = raw(inside)[:8], raw(outside)[:8]
        ssh = [Port(Protocol.TCP, 22), Port(Protocol.UDP, 5353)]
        firewall.open(ssh, ours, 600, "packet")
        assert seen(22) == ["open", "open", "silent"]
        assert heard() == [inside.encode(), also.encode()]
        assert seen(8080) == ["silent"] * 3
        firewall.load(rules)
        assert seen(22) == ["open", "open", "silent"]
        assert firewall.close(ssh, [ours]) == 2
        firewall.open(ssh, theirs, 600, "hand")
        assert seen(22) == ["silent", "silent", "open"]  # the other way round
        assert heard() == [outside.encode()]
        firewall.open(ssh, ours, 1, "hand")
        assert seen(22) == ["open"] * 3
        until(lambda: len(firewall.leases()) == 2, "the leases of a second end by themselves")
        assert seen(22) == ["silent", "silent", "open"]
        with client:
            assert look(HOST[4], 22) == "silent"


@isolated
def test_only_the_interface_that_is_named() -> None:
    client = cable()
    other = Network()
    veth("inside", "deep", other)
    up("inside", "10.0.1.1/24")
    with other:
        up("deep", "10.0.1.2/24")
    with listening(22, 80):
        answering(client)
        load('[gate]\ninterface = "near"\n' + GATE)
        with client:
            assert look(HOST[4], 22) == "silent"
        with other:
            until(lambda: look("10.0.1.1", 80) == "open", "the other cable carries")
            assert look("10.0.1.1", 22) == "open"


@isolated
def test_containers_and_transit() -> None:
    """A published port is guarded; what is only routed, in or out, is left alone."""
    client = cable()
    container = Network()
    veth("dock", "eth0", container)
    up("dock", "172.17.0.1/24", "fd17::1/64")
    with container:
        up("eth0", "172.17.0.2/24", "fd17::2/64")
        run("ip", "route", "add", "default", "via", "172.17.0.1")
        run("ip", "-6", "route", "add", "default", "via", "fd17::1")
    with client:
        run("ip", "route", "add", "172.17.0.0/24", "via", "10.0.0.1")
        run("ip", "-6", "route", "add", "fd17::/64", "via", "fd00::1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    nft(
        "table inet docker { chain pre { type nat hook prerouting priority dstnat; "
        "ip daddr 10.0.0.1 tcp dport 8080 dnat ip to 172.17.0.2:80; "
        "ip6 daddr fd00::1 tcp dport 8080 dnat ip6 to [fd17::2]:80; "
        "tcp dport 7777 redirect to :22\n}\n}\n"
    )
    inside, outside = {4: "172.17.0.2", 6: "fd17::2"}, CLIENT
    with (
        listening(22, 80),
        listening(22, 80, network=container),
        listening(22, 80, network=client),
    ):
        answering(client)
        with client:
            until(lambda: look(HOST[4], 8080) == look(HOST[6], 8080) == "open", "the port is published")
        load(GATE)
        for family in (4, 6):
            with client:
                assert look(HOST[family], 8080) == "silent"
                assert look(inside[family], 22) == "open"  # routed to the container's own address
                assert (
                    look(HOST[family], 7777) == "open"
                )  # another table's redirect is a back door: see check
            with container:
                assert look(outside[family], 22) == "open"
                assert look(HOST[family], 80) == "open"
                assert look(HOST[family], 22) == "silent"  # to this host itself, as from anybody
            assert look(outside[family], 22) == look(inside[family], 22) == "open"  # from this host
            lease("tcp/8080", CLIENT[family])
            with client:
                assert look(HOST[family], 8080) == "open"


@isolated
def test_it_only_ever_takes_away() -> None:
    """Beside another table: its drop holds for who has a lease, its accept opens no door."""
    client = cable()
    with listening(22, 80):
        answering(client)
        load(GATE)
        nft(
            "table inet other { chain input { type filter hook input priority 0; policy accept; "
            "tcp dport 22 accept\n}\nchain early { type filter hook prerouting priority -300; accept\n}\n}\n"
        )
        with client:
            assert look(HOST[4], 22) == "silent"
        lease("tcp/22", CLIENT[4])
        with client:
            assert look(HOST[4], 22) == "open"
        nft("flush chain inet other input\nadd rule inet other input tcp dport 22 drop\n")
        with client:
            assert look(HOST[4], 22) == "silent"
            assert look(HOST[4], 80) == "open"


@isolated
def test_the_very_next_syn_is_accepted() -> None:
    """Connecting at once after the last knock: one SYN each, over both families, from many sources."""
    client = cable()
    with listening(22, 80):
        answering(client)
        load(GATE)
        with client:
            for number in range(3, 28):
                run("ip", "address", "add", f"10.0.0.{number}/24", "dev", "far")
                run("ip", "address", "add", f"fd00::{number:x}/64", "dev", "far", "nodad")
            for number, family in itertools.product(range(3, 28), (4, 6)):
                source = f"10.0.0.{number}" if family == 4 else f"fd00::{number:x}"
                assert look(HOST[family], 22, source=source) == "silent" if number == 3 else True
                knock(HOST[family], source)
                assert look(HOST[family], 22, source=source) == "open", source


@isolated
def test_loading_again_lets_nobody_slip_in_and_loses_nobody() -> None:
    """While datagrams of a stranger and of a lease holder stream in, two configurations take turns."""
    client = cable()
    texts = [
        compile_ruleset(parse(GATE)),
        compile_ruleset(parse(GATE + '[doors.more]\nports = ["tcp/99"]\n')),
    ]
    with listening(80), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        server.bind(("", 5353))
        server.setblocking(False)
        with client:
            up("far", "10.0.0.3/24")
        answering(client)
        nft(texts[0])
        lease("udp/5353", CLIENT[4])
        sent = {"10.0.0.2": 0, "10.0.0.3": 0}
        over = threading.Event()
        senders = [threading.Thread(target=stream, args=(client, who, sent, over)) for who in sent]
        for sender in senders:
            sender.start()
        for _, text in zip(range(30), itertools.cycle(texts), strict=False):
            nft(text)
        over.set()
        for sender in senders:
            sender.join()
        arrived = drain(server)
        assert min(sent.values()) > 100
        assert arrived == {"10.0.0.2": sent["10.0.0.2"]}


@isolated
def test_the_plain_listing_does_not_load_again_and_the_numeric_one_does() -> None:
    """Trap of nft 1.0.6: who saves the plain listing has a file that fails at boot."""
    load(GATE)

    def loads(*options: str) -> bool:
        text = run("nft", *options, "list", "table", "inet", "knockgate")
        try:
            nft("flush ruleset\n" + text)
        except AssertionError:
            return False
        return True

    assert loads("-p", "-s")
    if run("nft", "--version").startswith("nftables v1.0.6"):
        assert not loads()
