"""What a path carries: real cables with small MTUs, and a router that has one behind it."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from tests.netns import Network, heard, isolated, packet_socket, run, until, up, veth

from knockgate.client import route
from knockgate.errors import Unavailable
from knockgate.model import Port, Protocol
from knockgate.spa.sealed import Suite

PORT = Port(Protocol.UDP, 62202)
LARGE, SMALL = Suite.XWING.length, Suite.X25519.length
HOST = {4: "10.9.0.2", 6: "fd09::2"}


def cable(mtu: int) -> Network:
    """To the host, at both addresses."""
    host = Network()
    veth("near", "far", host)
    up("near", "10.9.0.1/24", "fd09::1/64")
    run("ip", "link", "set", "near", "mtu", str(mtu))
    with host:
        up("far", "10.9.0.2/24", "fd09::2/64")
        run("ip", "link", "set", "far", "mtu", str(mtu))
    return host


def listening(host: Network, version: int) -> socket.socket:
    with host:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((HOST[version], PORT.number))
        sock.settimeout(30)
    return sock


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu", [1280, 1400, 1500])
@isolated
def test_a_cable(mtu: int, version: int) -> None:
    host = cable(mtu)
    address = HOST[version]
    assert route.mtu(address) == mtu
    with listening(host, version) as sock, packet_socket("near") as wire:
        assert route.send(address, PORT, b"s" * SMALL) <= time.monotonic()
        assert sock.recv(4096) == b"s" * SMALL
        heard(wire)
        if route.room(mtu, address) >= LARGE:
            route.send(address, PORT, b"l" * LARGE)
            assert sock.recv(4096) == b"l" * LARGE
            assert [len(each.packet) for each in heard(wire) if b"lll" in each.packet] == [
                mtu - route.room(mtu, address) + LARGE
            ]
        else:
            with pytest.raises(Unavailable, match=rf"1333 bytes does not fit .*\(MTU {mtu}\)") as caught:
                route.send(address, PORT, b"l" * LARGE)
            assert "--small" in (caught.value.hint or "")
            assert not [each for each in heard(wire) if b"lll" in each.packet]
            # The control: without it, the same packet leaves in pieces.
            with socket.socket(sock.family, socket.SOCK_DGRAM) as other:
                other.connect((address, PORT.number))
                other.send(b"l" * LARGE)
            assert sock.recv(4096) == b"l" * LARGE
            assert len([each for each in heard(wire) if b"lll" in each.packet]) == 2
    assert (mtu == 1280) is (route.room(mtu, address) < LARGE)


@pytest.mark.parametrize("version", [4, 6])
@isolated
def test_exactly_as_much_as_it_carries(version: int) -> None:
    host = cable(1400)
    size = route.room(1400, HOST[version])
    assert size == {4: 1372, 6: 1352}[version]
    with listening(host, version) as sock:
        route.send(HOST[version], PORT, bytes(size))
        assert len(sock.recv(4096)) == size
        with pytest.raises(Unavailable, match="does not fit"):
            route.send(HOST[version], PORT, bytes(size + 1))


@pytest.mark.parametrize("version", [4, 6])
@isolated
def test_a_router_that_has_a_smaller_one_behind_it(version: int) -> None:
    """The first is lost; the router says so, and then it is known."""
    router, host = Network(), Network()
    veth("near", "left", router)
    up("near", "10.8.0.1/24", "fd08::1/64")
    with router:
        up("left", "10.8.0.2/24", "fd08::2/64")
        veth("right", "far", host)
        up("right", "10.9.0.1/24", "fd09::1/64")
        run("ip", "link", "set", "right", "mtu", "1280")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    with host:
        up("far", "10.9.0.2/24", "fd09::2/64")
        run("ip", "route", "add", "default", "via", "10.9.0.1")
        run("ip", "route", "add", "default", "via", "fd09::1")
    run("ip", "route", "add", "default", "via", "10.8.0.2")
    run("ip", "route", "add", "default", "via", "fd08::2")
    address = HOST[version]
    assert route.mtu(address) == 1500

    def is_known() -> bool:
        if route.mtu(address) == 1280:
            return True
        with contextlib.suppress(Unavailable):  # it has said so between the two lines
            route.send(address, PORT, b"l" * LARGE)
        return False

    until(is_known, "the router has said what it carries")
    with pytest.raises(Unavailable, match="MTU 1280"):
        route.send(address, PORT, b"l" * LARGE)
    with listening(host, version) as sock:
        route.send(address, PORT, b"s" * SMALL)
        assert sock.recv(4096) == b"s" * SMALL


@pytest.mark.parametrize("version", [4, 6])
@isolated
def test_a_source_of_ones_own(version: int) -> None:
    host = cable(1500)
    up("near", "10.9.0.77/24", "fd09::77/64")
    with listening(host, version) as sock:
        for source in {4: ("10.9.0.1", "10.9.0.77"), 6: ("fd09::1", "fd09::77")}[version]:
            route.send(HOST[version], PORT, b"x", source=source)
            assert sock.recvfrom(4096)[1][0] == source
            assert route.mtu(HOST[version], source) == 1500
    with pytest.raises(Unavailable, match="is not an address of this machine"):
        route.send(HOST[version], PORT, b"x", source={4: "10.9.0.99", 6: "fd09::99"}[version])
    with pytest.raises(Unavailable, match="one is IPv4"):
        route.mtu(HOST[version], {4: "fd09::77", 6: "10.9.0.77"}[version])


@isolated
def test_no_route_and_a_link_local_address() -> None:
    cable(1400)
    for address in ("203.0.113.1", "2001:db8::1"):
        assert route.mtu(address) is None
        with pytest.raises(Unavailable, match="could not be sent") as caught:
            route.send(address, PORT, b"x")
        assert "no way to" in (caught.value.hint or "")
    assert route.mtu("fe80::1%near") == 1400
    assert route.mtu("127.0.0.1") in (65535, 65536)
