"""Interfaces and addresses, of real ones in a network of their own."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from tests.knockgate.doctor.looking import SSH, host, kinds, of
from tests.netns import Network, isolated, run, until, up, veth

from knockgate.doctor import network
from knockgate.doctor.finding import Kind
from knockgate.doctor.network import Interface, Local

NEAR = 'interface = "near"'


def there(gate: str = "") -> set[Kind]:
    return kinds(network.examine(host(SSH, gate)))


@isolated
def test_addresses_that_a_client_can_reach() -> None:
    assert there() == {Kind.NO_ADDRESS}
    veth("near", "far", Network())
    run("ip", "address", "flush", "dev", "near")
    assert there() == {Kind.NO_ADDRESS}
    run("ip", "address", "add", "fe80::7/64", "dev", "near", "nodad")
    assert there() == {Kind.LINK_LOCAL_ONLY}
    up("near", "10.9.9.1/24")
    assert there() == {Kind.PRIVATE_ONLY}
    up("near", "2a00:1:2::7/64")
    found = list(network.examine(host()))
    assert kinds(found) == set()
    assert found[0].seen == "a client reaches this host at 10.9.9.1, 2a00:1:2::7"


@isolated
def test_an_address_for_a_time() -> None:
    veth("near", "far", Network())
    up("near", "1.2.3.4/24")
    assert there() == set()
    run("ip", "address", "add", "1.2.3.5/24", "dev", "near", "valid_lft", "3600", "preferred_lft", "3600")
    assert there() == {Kind.ADDRESS_CHANGES}
    assert "1.2.3.5" in of(network.examine(host()), Kind.ADDRESS_CHANGES).seen


@isolated
def test_an_address_that_somebody_else_has() -> None:
    other = Network()
    veth("near", "far", other)
    up("near", "1.2.3.4/24")
    with other:
        run("ip", "address", "add", "2a00:1:2::7/64", "dev", "far", "nodad")
    assert there() == set()
    run("ip", "address", "add", "2a00:1:2::7/64", "dev", "near")
    until(lambda: there() == {Kind.ADDRESS_UNUSABLE}, "the address is found to be taken")


@isolated
def test_the_interface_that_is_guarded() -> None:
    assert there(NEAR) == {Kind.INTERFACE_MISSING}
    veth("near", "far", Network())
    up("near", "1.2.3.4/24")
    assert there(NEAR) == set()
    veth("third", "fourth", Network())
    up("third", "1.2.9.4/24")
    assert there() == set()
    assert there(NEAR) == {Kind.OTHER_WAYS_IN}
    run("ip", "link", "delete", "third")
    run("ip", "link", "set", "near", "down")
    assert Kind.INTERFACE_DOWN in there(NEAR)
    assert there() == {Kind.NO_ADDRESS}


@isolated
def test_a_port_of_a_bridge_guards_nothing() -> None:
    veth("near", "far", Network())
    up("near", "1.2.3.4/24")
    assert there(NEAR) == set()
    run("ip", "link", "add", "bridge0", "type", "bridge")
    run("ip", "link", "set", "near", "master", "bridge0")
    assert there(NEAR) == {Kind.INTERFACE_ENSLAVED}
    assert 'interface = "bridge0"' in of(network.examine(host(SSH, NEAR)), Kind.INTERFACE_ENSLAVED).fix


def test_above_a_vrf_packets_are_still_those_of_the_interface() -> None:
    """What ip prints, in short: not every kernel has them."""

    def judged(kind: str) -> set[Kind]:
        link = {"ifname": "near", "flags": ["UP"], "master": "above", "addr_info": [{"local": "1.2.3.4"}]}
        links = network.read([link | {"linkinfo": {"info_slave_kind": kind}}])
        return kinds(network.judge(links, "near"))

    assert judged("bond") == {Kind.INTERFACE_ENSLAVED}
    assert judged("vrf") == set()


def test_a_program_before_the_gate() -> None:
    """What ip prints of one, in short: to load one would take a compiler."""
    link = {
        "ifname": "near",
        "flags": ["UP"],
        "addr_info": [{"local": "1.2.3.4"}],
    }
    assert kinds(network.judge(network.read([link]), "")) == set()
    assert kinds(network.judge(network.read([link | {"xdp": {"mode": 2}}]), "")) == {Kind.PROGRAM_BEFORE}


def test_what_cannot_be_asked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ip"
    monkeypatch.setenv("PATH", str(tmp_path))
    for script in ("echo nonsense", "echo '[{}, 7]'", "exit 1"):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert there() == {Kind.NOT_LOOKED_AT}, script
    program.write_text(f"#!/bin/sh\necho '{json.dumps([])}'\n")
    assert there() == {Kind.NO_ADDRESS}


def test_many_addresses_are_told_in_short() -> None:
    addresses = tuple(Local(ipaddress.ip_address(f"1.2.3.{number}")) for number in range(1, 12))
    (found,) = network.judge([Interface("near", is_up=True, master="", xdp=False, addresses=addresses)], "")
    assert found.seen.endswith("1.2.3.8 and 3 more")
