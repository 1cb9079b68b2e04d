"""Frames of each link type out of a capture file, as `knockgate simulate` reads them: whole, cut and damaged.

Only there does the program read link layers: of what a gate hears the kernel takes them off. What is asked is
that reading never ends in anything but an answer, and takes for a knock what is one.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from tests.attacks.figures import figure
from tests.attacks.test_tampering import flipped
from tests.knockgate.capture import files
from tests.packets import ipv4, ipv6, tcp, udp

from knockgate.capture import pcapfile
from knockgate.capture.links import LINKS
from knockgate.config.doors import parse
from knockgate.errors import ConfigError
from knockgate.simulate.simulation import Simulation

GATE = """
[doors.kernel]
ports = ["tcp/22"]
[doors.kernel.sequence]
steps = ["tcp/7000", "udp/7001"]
[doors.daemon]
ports = ["tcp/80"]
[doors.daemon.sequence]
steps = ["tcp/7000", "udp/7001"]
runs_in = "daemon"
"""
DOORS = {"kernel", "daemon"}
_READ = parse(GATE)


def _tagged(packet: bytes, kind: int) -> bytes:
    return files.ethernet(packet, kind, tags=b"\x88\xa8\0\7\x81\0\0\x08")


def _loopback(packet: bytes, kind: int) -> bytes:
    return (2 if kind == files.IP else 30).to_bytes(4, "little") + packet


class Layer(NamedTuple):
    link: int
    frame: Callable[[bytes, int], bytes]
    matters: int
    """Bits of it with which nothing opens when they are turned over: who it is for, and what is in it."""


def _nothing(packet: bytes, _: int) -> bytes:
    return packet


LAYERS = {
    "Ethernet": Layer(files.ETHERNET, files.ethernet, 17),
    "a VLAN in a VLAN": Layer(
        files.ETHERNET, _tagged, 48
    ),  # three EtherTypes; a tag has two that differ in one bit
    "loopback of BSD": Layer(files.NULL, _loopback, 0),
    "raw": Layer(files.RAW, _nothing, 0),
    "raw, as it was called": Layer(files.RAW_OLD, _nothing, 0),
    "IPv4": Layer(files.IPV4, _nothing, 0),
    "IPv6": Layer(files.IPV6, _nothing, 0),
    "cooked": Layer(files.COOKED, files.cooked, 19),
    "cooked, version 2": Layer(files.COOKED2, files.cooked2, 19),
}


def _knock(layer: Callable[[bytes, int], bytes], family: int) -> list[bytes]:
    make, kind = (ipv4, files.IP) if family == 4 else (ipv6, files.IP6)
    return [layer(make(tcp(7000), 6), kind), layer(make(udp(7001, payload=b"knock"), 17), kind)]


def _opened(content: bytes) -> set[str]:
    """The doors that a capture opens, up to where it makes no sense."""
    simulation = Simulation(_READ)
    opened: set[str] = set()
    try:
        for captured in pcapfile.read(io.BytesIO(content), "knock.pcap"):
            opened.update(simulation.feed(captured).opened)
    except ConfigError:
        pass
    return opened


def _file(frames: Sequence[bytes], link: int) -> bytes:
    return files.pcap([(number * 10**8, frame) for number, frame in enumerate(frames)], link)


def test_all_link_types_are_here() -> None:
    assert {link for link, *_ in LAYERS.values()} == set(LINKS)


@pytest.mark.parametrize("name", LAYERS)
def test_frames(name: str) -> None:
    found = [_tried(LAYERS[name], family, random.Random(family)) for family in (4, 6)]
    sums = {what: sum(each[what] for each in found) for what in found[0]}
    figure(
        f"frames.of a capture: {name}",
        tries=sums["cut"] + sums["junk"] + sums["bits"] + sums["files"],
        wrongly=0,
        known=sums["bits"] - sums["bits_that_shut"],
        rightly=len(found),
        control="the same frames, whole, open",
        **sums,
    )


def _tried(layer: Layer, family: int, dice: random.Random) -> dict[str, int]:
    """How many of what."""
    first, last = _knock(layer.frame, family)
    assert _opened(_file([first, last], layer.link)) == DOORS  # the control
    cut = [last[:size] for size in range(len(last))]
    junk = [dice.randbytes(size) for size in range(0, 200, 3)]
    assert not any(_opened(_file([first, each], layer.link)) for each in [*cut, *junk])
    bits = 8 * (len(last) - len(_knock(_nothing, family)[1]))
    shut = [bit for bit in range(bits) if not _opened(_file([first, flipped(last, bit)], layer.link))]
    assert len(shut) == layer.matters, shut
    whole = _file([first, last], layer.link)
    damaged = [whole[:size] for size in range(0, len(whole), 3)]
    damaged += [flipped(whole, dice.randrange(8 * len(whole))) for _ in range(100)]
    assert all(_opened(each) <= DOORS for each in damaged)
    return {
        "cut": len(cut),
        "junk": len(junk),
        "bits": bits,
        "bits_that_shut": len(shut),
        "files": len(damaged),
    }
