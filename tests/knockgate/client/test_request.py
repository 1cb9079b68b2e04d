"""The name in a packet, and whether NAT is on the way."""

from __future__ import annotations

import getpass
import ipaddress

import pytest

from knockgate.client import request
from knockgate.client.profiles import PacketProfile
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Message, MessageType, Secret, unseal

SSH = Port(Protocol.TCP, 22)
SECRET = Secret(b"one", b"other")


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("jo", "jo"),
        ("jo.doe@home", "jo.doe@home"),
        ("DOMAIN\\jo", "DOMAINjo"),
        ("jürgen", "jrgen"),
        ("a" * 60, "a" * 48),
        ("\n:", "unknown"),
        (OSError("no such user"), "unknown"),
        (KeyError("uid not found"), "unknown"),
    ],
)
def test_who_is_logged_in_is_told_as_far_as_a_packet_can(
    login: str | Exception, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user() -> str:
        if isinstance(login, Exception):
            raise login
        return login

    monkeypatch.setattr(getpass, "getuser", user)
    assert request.login_name() == name
    made = request.pack(
        PacketProfile(host="h", fwknop=None, access=(SSH,), username=request.login_name()),
        SECRET,
        bytes([192, 0, 2, 7]),
        now=1.5,
        nonce="0" * 16,
        salt=bytes(8),
    )
    assert unseal(made, SECRET).message == Message(
        nonce="0" * 16,
        username=name,
        issued=1,
        type=MessageType.ACCESS,
        address=bytes([192, 0, 2, 7]),
        ports=(SSH,),
    )


def test_what_fwknopd_would_not_take_is_not_made() -> None:
    def made(count: int) -> bytes:
        ports = tuple(Port(Protocol.UDP, 60000 + number) for number in range(count))
        profile = PacketProfile(host="h", fwknop=None, access=ports, username="jo")
        source = bytes([192, 0, 2, 7])
        return request.pack(profile, SECRET, source, now=1.8e9, nonce="0" * 16, salt=bytes(8))

    assert len(made(9)) < 400
    with pytest.raises(ConfigError, match="too long for fwknopd") as caught:
        made(15)
    assert caught.value.hint == "ask for less at once"


@pytest.mark.parametrize(
    ("source", "address", "is_behind"),
    [
        ("192.168.1.2", "8.8.8.8", True),
        ("172.31.0.1", "8.8.8.8", True),
        ("100.64.0.1", "8.8.8.8", True),
        ("fd00::1", "2001:4860:4860::8888", True),
        ("192.168.1.2", "192.168.1.1", False),
        ("192.168.1.2", "127.0.0.1", False),
        ("8.8.4.4", "8.8.8.8", False),
        ("172.32.0.1", "8.8.8.8", False),
        ("2001:4860::1", "2001:4860:4860::8888", False),
        ("fe80::1", "fe80::2%lo", False),
        ("0.0.0.0", "8.8.8.8", False),
    ],
)
def test_nat_is_between_an_inner_address_and_an_outer_one(source: str, address: str, is_behind: bool) -> None:
    assert request.is_behind_nat(ipaddress.ip_address(source).packed, address) is is_behind
