"""Who listens, behind doors and without one, with real sockets; and what containers publish."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.doctor.looking import COMMANDS, KEYED, SSH, host, kinds, of
from tests.netns import Network, isolated, run, up, veth, without_rights

from knockgate.doctor import ports
from knockgate.doctor.finding import Kind
from knockgate.doctor.host import Host
from knockgate.doctor.listening import read_listeners


@contextlib.contextmanager
def listening(*addresses: tuple[str, int]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for address in addresses:
            stack.enter_context(socket.create_server(address))
        yield


def there(text: str = SSH) -> set[Kind]:
    return kinds(ports.examine(host(text)))


@isolated
def test_who_listens_behind_a_door() -> None:
    up("lo", "10.9.9.1/32")
    assert there() == {Kind.NO_LISTENER}
    with listening(("10.9.9.1", 22)):
        assert there() == set()
    with listening(("127.0.0.1", 22)):
        assert there() == {Kind.LISTENS_LOCALLY}
    with listening(("127.0.0.1", 22), ("10.9.9.1", 22)):
        assert there() == set()
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::", 22))
        server.listen()
        assert there() == set()
    with socket.socket(socket.AF_INET6) as server:  # an IPv4 address, by an IPv6 socket
        server.bind(("::ffff:127.0.0.1", 22))
        server.listen()
        assert there() == {Kind.LISTENS_LOCALLY}


@isolated
def test_who_listens_without_a_door() -> None:
    up("lo", "10.9.9.1/32")
    with listening(("10.9.9.1", 22)):
        assert there() == set()
        with listening(("10.9.9.1", 80)):
            assert there() == {Kind.UNGUARDED}
            assert "tcp/80" in of(ports.examine(host()), Kind.UNGUARDED).seen
        with listening(("127.0.0.1", 80)):
            assert there() == set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("10.9.9.1", 5353))
            assert there() == {Kind.UNGUARDED}
            datagrams.connect(("10.9.9.1", 53))  # hears one host alone
            assert there() == set()


@isolated
def test_who_listens_on_a_knock_port() -> None:
    up("lo", "10.9.9.1/32")
    with listening(("10.9.9.1", 22)):
        assert there() == set()
        with listening(("10.9.9.1", 7000)):
            assert there() == {Kind.KNOCK_PORT_USED}
            loud = SSH.replace("7000", "7001") + COMMANDS.replace("udp/2", "tcp/7000")
            assert there(loud) == {Kind.KNOCK_PORT_USED, Kind.UNGUARDED}


@isolated
@pytest.mark.parametrize(
    ("text", "port"),
    [(KEYED.format(folder="/x"), 62202), ('[keys.jo]\nfwknop = "/x"\ndoors = ["ssh"]\n', 62201)],
)
def test_who_listens_where_packets_come_to(text: str, port: int) -> None:
    up("lo", "10.9.9.1/32")
    with listening(("10.9.9.1", 22)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert there(SSH + text) == set()
        datagrams.bind(("127.0.0.1", port))
        assert there(SSH + text) == set()
    with listening(("10.9.9.1", 22)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("0.0.0.0", port))
        assert there(SSH + text) == {Kind.KNOCK_PORT_USED}
        found = of(ports.examine(host(SSH + text)), Kind.KNOCK_PORT_USED)
        assert f"udp/{port}" in found.seen and "nobody reaches it while the gate is up" in found.seen
        assert "[sealed]" in found.fix if port == 62202 else "[fwknop]" in found.fix
        found = of(ports.examine(host(SSH + text, "shadow = true")), Kind.KNOCK_PORT_USED)
        assert "it gets each knock as well" in found.seen
        assert there() == {Kind.UNGUARDED}  # without such keys it is a port like any other


@isolated
def test_without_a_configuration_all_that_listens_is_told() -> None:
    up("lo", "10.9.9.1/32")
    assert kinds(ports.examine(Host())) == set()
    with listening(("10.9.9.1", 22)):
        assert kinds(ports.examine(Host())) == {Kind.UNGUARDED}


PUBLISHED = (
    "table ip nat { chain in { type nat hook prerouting priority -100; "
    "tcp dport 22 dnat to 10.7.7.2:2222; tcp dport 8080 dnat to 10.7.7.2:80; }; }"
)


@isolated
def test_what_containers_publish() -> None:
    def published(text: str = SSH) -> set[Kind]:
        return kinds(ports.examine_containers(host(text)))

    container = Network()
    veth("near", "far", container)
    up("near", "10.7.7.1/24")
    for path in Path("/proc/sys/net").glob("ipv[46]/conf/all/forwarding"):
        path.write_text("0")
    assert published() == set()
    assert there() == {Kind.NO_LISTENER}
    run("nft", PUBLISHED)
    assert there() == set()  # the rule sends it on, so nobody has to listen here
    assert published() == {Kind.PUBLISHED}
    assert "tcp/8080 (to 10.7.7.2, tcp/80)" in of(ports.examine_containers(host()), Kind.PUBLISHED).seen
    both = SSH.replace('"tcp/22"', '"tcp/22", "tcp/8080"')
    assert published(both) == set()
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    assert published(both) == {Kind.OWN_ADDRESS}


@isolated
def test_without_rights_what_is_not_known_is_said() -> None:
    def look() -> None:
        assert there() == {Kind.NOT_LOOKED_AT}
        assert kinds(ports.examine_containers(host())) == {Kind.NOT_LOOKED_AT}

    without_rights(look)
    assert there() == {Kind.NO_LISTENER}


def test_listeners_are_read_with_their_addresses(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = [each for each in read_listeners() if each.port.number == server.getsockname()[1]]
        assert any(each.is_local and str(each.address) == "127.0.0.1" for each in mine)
    assert read_listeners(tmp_path) == []
