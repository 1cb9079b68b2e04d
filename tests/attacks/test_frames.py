"""Knocks in frames that nobody's client sends: fragments, extension headers, wrong lengths, other EtherTypes.

Each shape is put around the last step of a sequence that the kernel follows, around that of one that the
daemon follows, and around a sealed knock, and it is said of each of the three whether it opens. None of those
that do lets anybody in who could not have sent the plain one. Behind them all, plain ones open.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.attacks.figures import figure
from tests.attacks.lanes import DAEMON, KERNEL, SEALED, SEALED_PORT, Lanes, lanes, let_in, sealed, wire
from tests.attacks.shapes import (
    ALL,
    IP,
    IP6,
    SHAPES4,
    SHAPES6,
    Frame,
    control,
    controls,
    knock,
    send,
    v4,
    v6,
)
from tests.knockgate.daemon import running
from tests.netns import Sender, isolated, run, until
from tests.packets import UDP, ipv4, ipv6, udp

from knockgate.spa.sealed import Suite


@isolated
def test_a_knock_in_each_shape(tmp_path: Path) -> None:
    with lanes(tmp_path) as gate, _roomy_wire() as cable:
        shapes = SHAPES4 | SHAPES6
        whose = {
            name: f"10.0.{100 + number}.1" if name in SHAPES4 else f"fd00::{number + 1:x}:1"
            for number, name in enumerate(shapes)
        }
        for name, (shape, opens) in shapes.items():
            for lane in sorted(ALL):
                knock(cable, lane, whose[name], shape, opens=lane in opens)
        controls(gate, cable, 1)
        inside = {lane: let_in(lane) for lane in ALL}
        found = {name: {lane for lane in ALL if source in inside[lane]} for name, source in whose.items()}
        assert found == {name: set(opens) for name, (_, opens) in shapes.items()}
        assert "over-pace" not in gate.refused()
        figure(
            "frames.fragments, extension headers, wrong lengths, VLANs, other addresses and EtherTypes",
            tries=len(shapes) * len(ALL),
            wrongly=sum(len(found[name] - opens) for name, (_, opens) in shapes.items()),
            known=sum(map(len, found.values())) - 2 * len(ALL),
            rightly=4 * len(ALL),
            control="plain knocks of both families open, among them and behind them",
            shapes=len(shapes),
            shapes_that_open_nothing=sum(not opens for _, opens in shapes.values()),
        )
        for kind in ("fragment", "beyond"):
            _tell_of(kind, found)


def _tell_of(kind: str, found: dict[str, set[str]]) -> None:
    """Those shapes alone."""
    some = {name: lanes_of for name, lanes_of in found.items() if kind in name}
    expected = SHAPES4 | SHAPES6
    figure(
        f"frames.{'fragments' if kind == 'fragment' else 'lengths beyond the end, or the room for them'}",
        tries=len(some) * len(ALL),
        wrongly=sum(len(lanes_of - expected[name][1]) for name, lanes_of in some.items()),
        known=sum(map(len, some.values())),
        rightly=4 * len(ALL),
        control="plain knocks of both families open, among them and behind them",
        shapes=len(some),
    )


_MOST = 9000


@isolated
def test_what_is_no_frame_of_strangers(tmp_path: Path) -> None:
    with lanes(tmp_path) as gate, _roomy_wire() as cable:
        _no_packets(gate, cable)
        _under_the_wrong_name(gate, cable)
        _on_loopback(gate, cable)


def _no_packets(gate: Lanes, cable: Sender) -> None:
    """Each length from nothing, of any bytes, below each EtherType that is heard; and the longest ones."""
    dice = random.Random(1)
    opened = {lane: gate.opened(lane) for lane in ALL}
    whole4 = ipv4(udp(SEALED_PORT, payload=sealed("10.0.7.1", Suite.X25519)), UDP, source="10.0.7.1")
    whole6 = ipv6(udp(SEALED_PORT, payload=sealed("fd00::7:1", Suite.X25519)), UDP, source="fd00::7:1")
    sent = 0
    for kind, whole in ((IP, whole4), (IP6, whole6)):
        for size in [*range(80), *range(80, len(whole), 7)]:
            send(cable, [Frame(whole[:size], kind), Frame(dice.randbytes(size), kind)])
            sent += 2
    for kind, (first, rest) in itertools.product(
        (IP, IP6), ((0x45, 1), (0x4F, 1), (0x60, 6), (0x60, 17), (0x60, 0), (0x60, 44))
    ):
        for size in (60, 300, 1500, _MOST):
            octet = bytes([first, 0]) + dice.randbytes(4) + bytes([rest, 64]) + dice.randbytes(size - 8)
            send(cable, [Frame(octet, kind), Frame(bytes([first]) + b"\xff" * (size - 1), kind)])
            sent += 2
    assert {lane: gate.opened(lane) for lane in ALL} == opened
    send(cable, [Frame(whole4), Frame(whole6, IP6)])  # the control: they were good
    until(lambda: {"10.0.7.1", "fd00::7:1"} <= let_in(SEALED), "whole, they open")
    controls(gate, cable, 1)
    assert {lane: gate.opened(lane) - opened[lane] for lane in ALL} == {KERNEL: 2, DAEMON: 2, SEALED: 4}
    figure(
        "frames.cut at each length, any octets, and oversize",
        tries=sent,
        wrongly=0,
        rightly=8,
        control="the same two knocks, whole, and plain ones open",
        longest_bytes=_MOST,
    )


def _under_the_wrong_name(gate: Lanes, cable: Sender) -> None:
    """IPv4 said to be IPv6, and the other way: the kernel drops it, and our filters do."""
    before = {lane: let_in(lane) for lane in ALL}
    for lane, kind in itertools.product(sorted(ALL), (IP, IP6)):
        four, six = f"10.0.8.{sorted(ALL).index(lane)}", f"fd00::8:{sorted(ALL).index(lane)}"
        other = {IP: six, IP6: four}[kind]
        plain = v6() if kind == IP else v4()

        def wrongly(inner: bytes, protocol: int, source: str) -> Sequence[Frame]:
            return [each._replace(kind=kind) for each in plain(inner, protocol, source)]  # noqa: B023

        knock(cable, lane, other, wrongly, first=wrongly, opens=False)
    controls(gate, cable, 2)
    found = {lane: let_in(lane) - before[lane] - control(2) for lane in ALL}
    assert found == {lane: set() for lane in ALL}
    figure(
        "frames.IPv4 below the EtherType of IPv6, and the other way",
        tries=6,
        wrongly=0,
        known=sum(map(len, found.values())),
        rightly=6,
        control="plain knocks open",
    )


def _on_loopback(gate: Lanes, cable: Sender) -> None:
    """Who is on the host opens nothing with frames on lo, in whosever name."""
    before = {lane: let_in(lane) for lane in ALL}
    with Sender("lo", bytes(6)) as inside:
        for number, lane in enumerate(sorted(ALL)):
            for source in (f"10.0.6.{number}", "127.0.0.1"):
                if lane != SEALED or not source.startswith("127"):
                    knock(inside, lane, source, v4(), opens=False)
    controls(gate, cable, 3)
    assert {lane: let_in(lane) - before[lane] for lane in ALL} == dict.fromkeys(ALL, control(3))
    figure("frames.on lo, in anybody's name", tries=5, wrongly=0, rightly=6, control="plain knocks open")


@contextlib.contextmanager
def _roomy_wire() -> Iterator[Sender]:
    """That carries frames of 9,000 bytes."""
    run("ip", "link", "set", "near", "mtu", "9000")
    with running.client:
        run("ip", "link", "set", "far", "mtu", "9000")
    with wire() as cable:
        yield cable
