"""Knocks on links of other kinds than a cable: without a link layer, and a VLAN."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import SEALED_PORT, lanes, let_in, sealed, wire
from tests.attacks.shapes import (
    ALL,
    FIRST_STEPS,
    LAST_STEP,
    VLAN,
    controls,
    framed,
    knock,
)
from tests.netns import add_vlan, isolated, until, up, veth
from tests.packets import TCP, UDP, ipv4, udp

from knockgate.spa.sealed import Suite

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@contextlib.contextmanager
def _tun() -> Iterator[Callable[[bytes], object]]:
    """A link without a link layer, as of a VPN or a modem: it begins with the IP header."""
    try:
        file = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no TUN here: {error.strerror}")
    try:
        try:
            fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        except OSError as error:
            pytest.skip(f"no TUN here: {error.strerror}")
        up("tun0", "10.7.0.1/24")
        yield lambda packet: _written(file, packet)
    finally:
        os.close(file)


def _written(file: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # it takes no packet of any other version
        os.write(file, packet)


@isolated
def test_a_link_without_a_header(tmp_path: Path) -> None:
    dice = random.Random(1)
    with lanes(tmp_path), _tun() as write:
        for size in range(1, 120):
            write(dice.randbytes(size))
            write(b"\x45" + dice.randbytes(size))
            write(b"\x60" + dice.randbytes(size))
        for lane, source in (("daemon", "10.7.0.2"), ("kernel", "10.7.0.3")):
            for inner, protocol in zip(FIRST_STEPS[lane], (TCP, UDP), strict=True):
                write(ipv4(inner, protocol, source=source))
            write(ipv4(LAST_STEP[lane], TCP, source=source))
        payload = sealed("10.7.0.4", Suite.X25519)
        write(
            ipv4(udp(SEALED_PORT, payload=payload), UDP, source="10.7.0.4", fragment=0x2000)
        )  # no fragment opens
        write(ipv4(udp(SEALED_PORT, payload=payload), UDP, source="10.7.0.4"))
        expected = {"daemon": {"10.7.0.2"}, "kernel": {"10.7.0.3"}, "sealed": {"10.7.0.4"}}
        until(
            lambda: {lane: let_in(lane) for lane in ALL} == expected, "each of them opens, and nothing else"
        )
        figure(
            "frames.a link without a link layer (TUN)",
            tries=358,
            wrongly=0,
            rightly=3,
            control="a knock of each of three kinds opens on it",
        )


@isolated
def test_a_vlan_that_is_here(tmp_path: Path) -> None:
    """What is tagged for it opens on it; not twice, though the interface below it hears it as well."""
    veth("one", "other")
    add_vlan("one", 8)  # or skip
    with lanes(tmp_path) as gate:
        up(add_vlan("near", 7), "10.8.0.1/24")
        with wire() as cable:
            tagged = framed(tag=VLAN + b"\0\7")
            for lane, source in zip(sorted(ALL), ("10.8.0.2", "10.8.0.3", "10.8.0.4"), strict=True):
                knock(cable, lane, source, tagged, first=tagged)
                until(lambda: source in let_in(lane), f"{lane} opens")  # noqa: B023
            controls(gate, cable, 1)
            assert {gate.opened(lane) for lane in ALL} == {3}
            figure(
                "frames.a VLAN that is here, heard below it too",
                tries=3,
                wrongly=sum(gate.opened(lane) for lane in ALL) - 3 * len(ALL),
                rightly=9,
                control="each opens once, and plain ones open",
            )
