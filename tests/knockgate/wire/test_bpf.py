from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from tests.packets import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    octets,
    tcp,
    udp,
)

from knockgate.errors import Refused
from knockgate.wire.bpf import ACCEPT, Ancillary, Instruction, assemble, evaluate, openings, passings
from knockgate.wire.frames import MAX_EXTENSIONS, observe

# What is heard: never; always; where UDP, lo or such flags are asked for; by the onlooker only.
NO, YES, IF_UDP, IF_LO, IF_FLAGS, PASSING = "no", "yes", "if udp", "if lo", "if flags", "passing by"

# FIN, RST or URG with PSH, without SYN and ACK: (mask, value).
FLAGS = [(each | SYN | ACK, each) for each in (FIN, RST, URG | PSH)]

PROGRAMS = {
    "tcp": openings(udp=False, loopback=False),
    "tcp, lo": openings(udp=False, loopback=True),
    "tcp, udp": openings(udp=True, loopback=False),
    "tcp, udp, lo": openings(udp=True, loopback=True),
    "tcp, flags": openings(udp=False, loopback=False, flags=FLAGS),
    "passings": passings(),
}
HEARD = {
    "tcp": {YES},
    "tcp, lo": {YES, IF_LO},
    "tcp, udp": {YES, IF_UDP},
    "tcp, udp, lo": {YES, IF_UDP, IF_LO},
    "tcp, flags": {YES, IF_FLAGS},
    "passings": {YES, IF_UDP, IF_LO, PASSING},
}
IP, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)
EXTENSIONS = (0, 43, 60, 135, 139, 140)
FRAGMENT = 44

# name -> verdict, packet. The EtherType is that of the version.
PACKETS: dict[str, tuple[str, bytes]] = {
    "syn": (YES, ipv4(tcp())),
    "syn to port 0": (YES, ipv4(tcp(0))),
    "syn to the last port": (YES, ipv4(tcp(65535))),
    "syn, psh, urg": (YES, ipv4(tcp(flags=SYN | PSH | URG))),
    "syn with ECN": (YES, ipv4(tcp(flags=SYN | 0xC0))),
    "syn with options": (YES, ipv4(tcp(options=bytes(40)))),
    "syn behind an option": (YES, ipv4(tcp(), options=bytes(4))),
    "syn behind all options": (YES, ipv4(tcp(), options=bytes(40))),
    "syn, don't fragment": (YES, ipv4(tcp(), fragment=0x4000)),
    "syn with the reserved flag": (YES, ipv4(tcp(), fragment=0x8000)),
    "syn and padding": (YES, ipv4(tcp()) + bytes(6)),
    "syn and data": (YES, ipv4(tcp(payload=b"hello"))),
    "syn cut behind its flags": (YES, ipv4(tcp())[:34]),
    "syn cut before its flags": (NO, ipv4(tcp())[:33]),
    "syn-ack": (PASSING, ipv4(tcp(flags=SYN | ACK))),
    "syn, rst": (NO, ipv4(tcp(flags=SYN | RST))),
    "syn, fin": (PASSING, ipv4(tcp(flags=SYN | FIN))),
    "ack": (NO, ipv4(tcp(flags=ACK))),
    "ack and data": (NO, ipv4(tcp(flags=ACK | PSH, payload=bytes(100)))),
    "rst": (IF_FLAGS, ipv4(tcp(flags=RST))),
    "rst behind an option": (IF_FLAGS, ipv4(tcp(flags=RST), options=bytes(4))),
    "fin": (IF_FLAGS, ipv4(tcp(flags=FIN))),
    "fin with ECN": (IF_FLAGS, ipv4(tcp(flags=FIN | 0xC0))),
    "fin, ack": (NO, ipv4(tcp(flags=FIN | ACK))),
    "fin, psh, urg": (IF_FLAGS, ipv4(tcp(flags=FIN | PSH | URG))),
    "psh, urg": (IF_FLAGS, ipv4(tcp(flags=PSH | URG))),
    "urg": (NO, ipv4(tcp(flags=URG))),
    "first fragment of a fin": (NO, ipv4(tcp(flags=FIN), fragment=0x2000)),
    "no flag": (NO, ipv4(tcp(flags=0))),
    "ack whose options look like a syn": (NO, ipv4(tcp(flags=ACK), options=tcp())),
    "first fragment of a syn": (NO, ipv4(tcp(), fragment=0x2000)),
    "last fragment that looks like a syn": (NO, ipv4(tcp(), fragment=0x0001)),
    "far fragment that looks like a syn": (NO, ipv4(tcp(), fragment=0x1000)),
    "datagram": (IF_UDP, ipv4(udp(), UDP)),
    "datagram and data": (IF_UDP, ipv4(udp(payload=bytes(100)), UDP)),
    "datagram behind options": (IF_UDP, ipv4(udp(), UDP, options=bytes(12))),
    "first fragment of a datagram": (NO, ipv4(udp(), UDP, fragment=0x2000)),
    "last fragment of a datagram": (NO, ipv4(udp(), UDP, fragment=0x0010)),
    "icmp": (NO, ipv4(bytes(20), 1)),
    "syn in the place of something else": (NO, ipv4(tcp(), 47)),
    "ipv4 cut to nothing": (NO, b""),
    "syn over ipv6": (YES, ipv6(tcp())),
    "syn with ECN over ipv6": (YES, ipv6(tcp(flags=SYN | 0xC0))),
    "syn over ipv6 cut behind its flags": (YES, ipv6(tcp())[:54]),
    "syn over ipv6 cut before its flags": (NO, ipv6(tcp())[:53]),
    "syn-ack over ipv6": (PASSING, ipv6(tcp(flags=SYN | ACK))),
    "syn, fin over ipv6": (PASSING, ipv6(tcp(flags=SYN | FIN))),
    "ack over ipv6": (NO, ipv6(tcp(flags=ACK, payload=bytes(100)))),
    "rst over ipv6": (IF_FLAGS, ipv6(tcp(flags=RST))),
    "psh, urg over ipv6": (IF_FLAGS, ipv6(tcp(flags=PSH | URG))),
    "urg over ipv6": (NO, ipv6(tcp(flags=URG))),
    "datagram over ipv6": (IF_UDP, ipv6(udp(), UDP)),
    "icmpv6": (NO, ipv6(bytes(20), 58)),
    "no next header": (NO, ipv6(tcp(), 59)),
    "encrypted": (NO, ipv6(tcp(), 50)),
    "authenticated": (NO, ipv6(tcp(), 51)),
    "syn behind two extensions": (YES, ipv6(tcp(), TCP, [(0, extension()), (60, extension())])),
    "syn behind an atomic fragment": (YES, ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())])),
    # The walk along extension headers is left to frames, so what they hide is heard whatever it is.
    "ack behind an extension": (YES, ipv6(tcp(flags=ACK), TCP, [(60, extension())])),
    "first fragment over ipv6": (YES, ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(more=True))])),
    "extension cut to one octet": (YES, ipv6(tcp(), TCP, [(60, extension())])[:41]),
    **{f"syn behind extension {kind}": (YES, ipv6(tcp(), TCP, [(kind, extension())])) for kind in EXTENSIONS},
}

# name -> verdict over IPv4's SYN, what the kernel knows beside the bytes.
CIRCUMSTANCES: dict[str, tuple[str, Ancillary]] = {
    "for this host": (YES, Ancillary(IP)),
    "for everybody": (PASSING, Ancillary(IP, packet_type=BROADCAST)),
    "for a group": (PASSING, Ancillary(IP, packet_type=MULTICAST)),
    "for another host": (PASSING, Ancillary(IP, packet_type=OTHERHOST)),
    "on its way out": (PASSING, Ancillary(IP, packet_type=OUTGOING)),
    "on its way out over lo": (PASSING, Ancillary(IP, packet_type=OUTGOING, interface=1)),
    "on interface 3": (YES, Ancillary(IP, interface=3)),
    "on lo": (IF_LO, Ancillary(IP, interface=1)),
    "for VLAN 1": (PASSING, Ancillary(IP, vlan_tag=0x001)),
    "for VLAN 4095": (PASSING, Ancillary(IP, vlan_tag=0xFFF)),
    "for VLAN 2048 with a priority": (PASSING, Ancillary(IP, vlan_tag=0xE800)),
    "with a priority only": (YES, Ancillary(IP, vlan_tag=0xE000)),
    "as ARP": (NO, Ancillary(ARP)),
    "with a second tag": (NO, Ancillary(VLAN)),
    "with a second tag of the provider": (NO, Ancillary(QINQ)),
}


def kind_of(packet: bytes) -> int:
    return IPV6 if packet[:1] == b"\x60" else IP


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", PACKETS)
def test_hears_openings(name: str, program: str) -> None:
    """Openings are heard whole, datagrams where they are asked for, and nothing else is."""
    verdict, packet = PACKETS[name]
    kept = evaluate(PROGRAMS[program], packet, Ancillary(kind_of(packet)))
    assert kept == (ACCEPT if verdict in HEARD[program] else 0)


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 63)), max_size=5), st.integers(0, 255))
def test_hears_the_flags_that_it_is_asked_for(flags: list[tuple[int, int]], octet: int) -> None:
    """TCP is heard where it is an opening or has flags out of the list, over both families; and no other."""
    program = openings(udp=False, loopback=False, flags=flags)
    wanted = any(octet & mask == value for mask, value in [(SYN | ACK | RST | FIN, SYN), *flags])
    for packet in (ipv4(tcp(flags=octet), options=bytes(8)), ipv6(tcp(flags=octet))):
        assert bool(evaluate(program, packet, Ancillary(kind_of(packet)))) is wanted


def test_any_number_of_flags_makes_a_short_program() -> None:
    """All that a configuration can name at once is as long as two, and a mask beyond the flags is refused."""
    every = [(mask, value) for mask in range(64) for value in range(mask + 1) if value & ~mask == 0]
    program = openings(udp=True, loopback=False, flags=every)
    assert len(every) == 729
    assert len(program) == len(openings(udp=True, loopback=False, flags=FLAGS[:1]))
    assert reachable(program) == set(range(len(program)))
    with pytest.raises(ValueError, match="0x3f"):
        openings(udp=True, loopback=False, flags=[(0x42, 0x42)])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_hears_what_is_for_this_host(name: str, program: str) -> None:
    """A SYN is heard where it comes in for this host, on lo if asked for; or wherever it passes by."""
    verdict, ancillary = CIRCUMSTANCES[name]
    kept = evaluate(PROGRAMS[program], ipv4(tcp()), ancillary)
    assert kept == (ACCEPT if verdict in HEARD[program] else 0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_is_a_program_that_the_kernel_takes(name: str) -> None:
    """Jumps go forward in 8 bits, every instruction can be come to, and each way ends by returning."""
    program = PROGRAMS[name]
    for code, jt, jf, k in program:
        assert 0 <= jt < 256
        assert 0 <= jf < 256
        assert 0 <= k < 1 << 32
        assert 0 <= code < 1 << 16
    assert reachable(program) == set(range(len(program)))


def reachable(program: Sequence[Instruction]) -> set[int]:
    """The instructions that some packet can come to; an index beyond the program if one can run over it."""
    todo, found = [0], set()
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            code, jt, jf, _ = program[at]
            todo += {5: [at + 1 + jt, at + 1 + jf], 6: []}.get(code & 7, [at + 1])
    return found


def test_is_assembled_as_the_kernel_reads_it() -> None:
    """An instruction is 8 bytes, as struct sock_filter lays out code, both jumps and operand."""
    program = [Instruction(0x15, 1, 2, 0x01020304), Instruction(0x06, 0, 0, 0xFFFFFFFF)]
    assert assemble(program) == struct.pack("@HBBI", 0x15, 1, 2, 0x01020304) + struct.pack(
        "@HBBI", 6, 0, 0, 2**32 - 1
    )


# --- the filter and the parser ------------------------------------------------------------------------

SEEDS = [packet for _, packet in PACKETS.values()] + [
    ipv6(udp(), UDP, [(60, extension())] * MAX_EXTENSIONS),
    ipv4(tcp(), header_words=6),
]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=3),
    st.integers(0, 120),
)
def test_what_the_parser_takes_for_an_opening_is_heard(
    packet: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    """The filter never hides what observe() would call an opening, and lets through little that it would not.

    The little: datagrams where they are asked for and IPv6 extension headers, which the filter does not walk.
    """
    for place, value in changes:
        packet = packet[:place] + bytes([value]) + packet[place + 1 :]
    packet = packet[:cut]
    try:
        seen = observe(packet)
    except Refused:
        return
    ancillary = Ancillary(IP if packet[0] >> 4 == 4 else IPV6)
    heard_with_udp = bool(evaluate(PROGRAMS["tcp, udp"], packet, ancillary))
    heard_without = bool(evaluate(PROGRAMS["tcp"], packet, ancillary))
    assert bool(evaluate(PROGRAMS["passings"], packet, ancillary)) >= heard_with_udp
    assert heard_with_udp >= seen.opens_connection
    if packet[0] >> 4 == 4 or packet[6] in (TCP, UDP):
        assert heard_with_udp == seen.opens_connection
        assert heard_without == (seen.opens_connection and seen.protocol == TCP)


# --- the kernel ---------------------------------------------------------------------------------------


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


@isolated
def test_the_kernel_agrees() -> None:
    """On more than a thousand packets, whole, cut and damaged, kernel and evaluator say the same."""
    stay_on_one_core()
    client = cable()
    with contextlib.ExitStack() as stack:
        near = mac("near")
        with client:
            wire = stack.enter_context(Sender("far", near))
        until_carries(wire, "near")
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
    stay_on_one_core()
    client = cable()
    with contextlib.ExitStack() as stack:
        near = mac("near")
        with client:
            wire = stack.enter_context(Sender("far", near))
        own = stack.enter_context(Sender("near", OTHER))
        loopback = stack.enter_context(Sender("lo", bytes(6)))
        until_carries(wire, "near")
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
    stay_on_one_core()
    client = cable()
    add_vlan("near", 10)
    with contextlib.ExitStack() as stack:
        near = mac("near")
        with client:
            wire = stack.enter_context(Sender("far", near))
        until_carries(wire, "near")
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
