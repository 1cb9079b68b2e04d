"""What the programs let through, beside what the kernel lets through by them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.knockgate.wire.openings import ARP, PACKETS, PROGRAMS, QINQ, SEEDS, VLAN, kind_of
from tests.netns import (
    Heard,
    Network,
    Sender,
    add_vlan,
    heard,
    isolated,
    mac,
    packet_socket,
    stay_on_one_core,
    until,
    until_carries,
    veth,
)
from tests.packets import ipv4, ipv6, octets, tcp

from knockgate.wire.bpf import Ancillary, Instruction, evaluate


def corpus() -> list[bytes]:
    """Every packet above, each cut at every length, and a thousand of them damaged at random."""
    chance = random.Random(20)
    packets = [packet for _, packet in PACKETS.values()]
    cut = [packet[:length] for packet in packets[:3] + SEEDS[-2:] for length in range(len(packet))]
    cut += [ipv6(tcp())[:length] for length in range(60)]
    cut += [over(tcp(flags=octet)) for octet in range(256) for over in (ipv4, ipv6)]
    damaged = []
    for _ in range(1000):
        packet = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randint(1, 3)):
            if packet:
                packet[chance.randrange(min(len(packet), 60))] = chance.choice([0, 1, 2, 6, 17, 44, 255])
        damaged.append(bytes(packet[: chance.randint(0, 80)]))
    return packets + cut + damaged


class Listeners:
    """A socket for each program, and a control without a filter that tells what came by; all interfaces."""

    def __init__(self, stack: contextlib.ExitStack, wire: Sender) -> None:
        self._control = stack.enter_context(packet_socket(whole_frames=True))
        self._filtered = {
            key: stack.enter_context(packet_socket(program=program)) for key, program in PROGRAMS.items()
        }
        self._wire = wire
        self._marks = 0

    def since_last_time(self) -> tuple[list[Heard], dict[str, list[bytes]]]:
        """What the control heard, and what each program let through."""
        self._marks += 1
        mark = ipv4(tcp(), identification=self._marks, source="192.0.2.1")
        self._wire.send(mark)
        control: list[Heard] = []
        kept: dict[str, list[bytes]] = {key: [] for key in PROGRAMS}

        def arrived() -> bool:
            control.extend(heard(self._control))
            for key, sock in self._filtered.items():
                kept[key] += [each.packet for each in heard(sock)]
            return any(each.packet == mark for each in control) and all(
                mark in each for each in kept.values()
            )

        until(arrived, "the mark at the end has come to every socket")
        return (
            [each for each in control if each.packet != mark],
            {key: [packet for packet in packets if packet != mark] for key, packets in kept.items()},
        )


def cable() -> Network:
    """``near`` here, ``far`` in the network returned; the kernel itself has nothing to say on it.

    With IPv6 on it reports multicast groups whenever it likes, also between the reading of two sockets.
    """
    client = Network()
    for network in (Network.here(), client):
        with network:
            for which in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("1")
    veth("near", "far", client)
    return client


def agree(listeners: Listeners) -> list[Heard]:
    """What came by; each program kept of it what the evaluator says, neither more nor less nor otherwise."""
    control, kept = listeners.since_last_time()
    for key, program in PROGRAMS.items():
        assert kept[key] == [
            each.packet
            for each in control
            if evaluate(
                program,
                each.packet,
                Ancillary(each.protocol, each.packet_type, each.interface, each.vlan_tag),
            )
        ]
    return control


@contextlib.contextmanager
def sender(*vlans: int) -> Iterator[tuple[contextlib.ExitStack, Sender]]:
    """Who sends to ``near`` over a cable that carries; what else is opened is closed with it."""
    stay_on_one_core()
    client = cable()
    for number in vlans:
        add_vlan("near", number)
    with contextlib.ExitStack() as stack:
        near = mac("near")
        with client:
            wire = stack.enter_context(Sender("far", near))
        until_carries(wire, "near")
        yield stack, wire


@isolated
def test_the_kernel_agrees() -> None:
    """On more than a thousand packets, whole, cut and damaged, kernel and evaluator say the same."""
    with sender() as (stack, wire):
        listeners = Listeners(stack, wire)
        packets = corpus()
        came_by = []
        for start in range(0, len(packets), 50):  # as many as the smallest receive buffer holds
            for packet in packets[start : start + 50]:
                wire.send_as(kind_of(packet).to_bytes(2, "big"), packet)
            came_by += agree(listeners)
        assert {bytes(packet) for packet in packets} <= {each.packet for each in came_by}


# What is sent; how often it comes by at all; how often it is heard without lo, with lo and passing by.
Case = tuple[str, Callable[[], None], int, int, int, int]


def check(listeners: Listeners, cases: list[Case]) -> None:
    listeners.since_last_time()
    for name, send, by, without_lo, with_lo, passing in cases:
        send()
        control, kept = listeners.since_last_time()
        assert (name, len([each for each in control if SEND in each.packet])) == (name, by)
        expected = dict.fromkeys(("tcp", "tcp, udp", "tcp, flags"), without_lo) | {"passings": passing}
        for program, packets in kept.items():
            assert (name, program, packets) == (name, program, [SEND] * expected.get(program, with_lo))
        send()
        agree(listeners)


SEND = ipv4(tcp())
OTHER, GROUP, EVERYBODY = b"\x02other", b"\x01\x00\x5e\x00\x00\x01", b"\xff" * 6


def tagged(number: int, kind: int = VLAN) -> bytes:
    return octets(kind, 2) + octets(number, 2)


@isolated
def test_the_kernel_hears_what_is_for_this_host() -> None:
    """Each way for a SYN to come by is heard as often as it should be, and kernel and evaluator agree."""
    with sender() as (stack, wire):
        near = mac("near")
        own = stack.enter_context(Sender("near", OTHER))
        loopback = stack.enter_context(Sender("lo", bytes(6)))
        check(
            Listeners(stack, wire),
            [
                ("to this host", lambda: wire.send(SEND), 1, 1, 1, 1),
                ("to another host", lambda: wire.send(SEND, destination=OTHER), 1, 0, 0, 1),
                ("to a group", lambda: wire.send(SEND, destination=GROUP), 1, 0, 0, 1),
                ("to everybody", lambda: wire.send(SEND, destination=EVERYBODY), 1, 0, 0, 1),
                ("priority tag", lambda: wire.send(SEND, tag=tagged(0xE000)), 1, 1, 1, 1),
                ("VLAN 20, not ours", lambda: wire.send(SEND, tag=tagged(20)), 1, 0, 0, 1),
                ("provider's VLAN 20", lambda: wire.send(SEND, tag=tagged(20, QINQ)), 1, 0, 0, 1),
                ("two tags", lambda: wire.send(SEND, tag=tagged(10) + tagged(20)), 1, 0, 0, 0),
                ("priority, then a tag", lambda: wire.send(SEND, tag=tagged(0) + tagged(20)), 1, 0, 0, 0),
                ("called ARP", lambda: wire.send_as(octets(ARP, 2), SEND), 1, 0, 0, 0),
                ("on its way out", lambda: own.send(SEND), 1, 0, 0, 1),
                ("on its way out to ourselves", lambda: own.send(SEND, destination=near), 1, 0, 0, 1),
                ("over lo, out and in", lambda: loopback.send(SEND), 2, 0, 1, 2),
            ],
        )


@isolated
def test_the_kernel_hears_a_vlan_once() -> None:
    """A tagged SYN comes by on the cable and on the VLAN's interface, and is heard on the latter alone."""
    with sender(10) as (stack, wire):
        check(
            Listeners(stack, wire),
            [
                ("VLAN 10, ours", lambda: wire.send(SEND, tag=tagged(10)), 2, 1, 1, 2),
                ("VLAN 10 with a priority", lambda: wire.send(SEND, tag=tagged(0x600A)), 2, 1, 1, 2),
                (
                    "VLAN 10 to another",
                    lambda: wire.send(SEND, tag=tagged(10), destination=OTHER),
                    2,
                    0,
                    0,
                    2,
                ),
                ("two tags", lambda: wire.send(SEND, tag=tagged(10) + tagged(20)), 2, 0, 0, 1),
            ],
        )


@isolated
def test_the_kernel_takes_each_program() -> None:
    """The kernel attaches each program, and would not attach one that jumps over its end."""
    stray = [Instruction(0x15, 1, 1, 0), Instruction(0x06, 0, 0, 0)]
    with pytest.raises(OSError, match="Invalid argument"), packet_socket(program=stray):
        pass
    for program in PROGRAMS.values():
        with packet_socket(program=program):
            pass
