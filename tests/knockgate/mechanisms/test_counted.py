from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packets import raw

from knockgate.effects import OpenDoor, PacketPassed, PacketSeen
from knockgate.mechanisms.sequence import OPENINGS, Counted, KnockSequence, KnockTracker
from knockgate.model import Observation, Port, Protocol, TcpFlag

TCP, UDP = Protocol.TCP, Protocol.UDP
FIN, SYN, RST, ACK, PSH = TcpFlag.FIN, TcpFlag.SYN, TcpFlag.RST, TcpFlag.ACK, TcpFlag.PSH
HOST, BEHIND, CLIENT = raw("10.0.0.1"), raw("10.9.9.9"), raw("10.0.0.2")
OPEN = (OpenDoor("ssh", CLIENT),)

#: FIN without ACK, as `flags = ["fin", "!ack"]` means it.
FINS = Counted(mask=FIN | ACK, value=FIN)


def tracker(counted: Counted, *steps: Port) -> KnockTracker:
    ports = steps or tuple(Port(TCP, number) for number in (1, 2, 3))
    return KnockTracker([KnockSequence("ssh", ports, 5)], counted=counted)


def seen(port: int, flags: int = SYN, *, protocol: int = TCP, destination: bytes = HOST) -> Observation:
    return Observation(CLIENT, destination, protocol, 40000, port, flags, 40)


def tcp(port: int, flags: int = SYN, destination: bytes = HOST) -> PacketSeen:
    return PacketSeen(seen(port, flags, destination=destination))


def passed(port: int, destination: bytes = BEHIND) -> PacketPassed:
    return PacketPassed(seen(port, destination=destination))


def udp(port: int) -> PacketSeen:
    return PacketSeen(seen(port, 0, protocol=UDP))


def opens(one: KnockTracker, *events: PacketSeen | PacketPassed) -> bool:
    """Whether the last of these events opens the door, and none before it does."""
    effects = [one.feed(event, 0.1 * number) for number, event in enumerate(events)]
    assert effects[:-1] == [()] * (len(events) - 1)
    return effects[-1] == OPEN


@pytest.mark.parametrize("flags", [FIN, FIN | PSH, FIN | SYN, FIN | RST])
def test_with_flags_only_packets_that_have_them_are_steps(flags: int) -> None:
    """What has the wanted flags and none of the unwanted is a step; SYNs alone open nothing any more."""
    assert opens(tracker(FINS), *(tcp(port, flags) for port in (1, 2, 3)))
    assert not opens(tracker(FINS), *(tcp(port) for port in (1, 2, 3)))
    assert opens(tracker(OPENINGS), *(tcp(port) for port in (1, 2, 3)))  # control


@pytest.mark.parametrize("other", [SYN, SYN | ACK, ACK, RST, FIN | ACK, 0])
def test_what_has_other_flags_is_as_if_it_never_came(other: int) -> None:
    """It is neither a step nor a reset, at whatever port; with the flags it resets (control)."""
    strays = [tcp(port, other) for port in (1, 3, 9)]
    assert opens(tracker(FINS), tcp(1, FIN), *strays, tcp(2, FIN), *strays, tcp(3, FIN))
    assert not opens(tracker(FINS), tcp(1, FIN), tcp(2, FIN), tcp(9, FIN), tcp(3, FIN))


def test_datagrams_have_no_flags_and_count_all_the_same() -> None:
    """Among TCP steps with flags a UDP step stands as without them, and a stray datagram resets."""
    steps = Port(TCP, 1), Port(UDP, 2), Port(TCP, 3)
    assert opens(tracker(FINS, *steps), tcp(1, FIN), udp(2), tcp(3, FIN))
    assert not opens(tracker(FINS, *steps), tcp(1, FIN), tcp(2, FIN), tcp(3, FIN))
    assert not opens(tracker(FINS, *steps), tcp(1, FIN), udp(9), udp(2), tcp(3, FIN))


def test_without_datagrams_ordinary_udp_is_no_reset() -> None:
    """Where no step is a datagram, none is counted; where they are, it resets (control)."""
    knock = tcp(1), udp(2), udp(53), tcp(2), udp(3), tcp(3)
    assert opens(tracker(Counted(datagrams=False)), *knock)
    assert not opens(tracker(OPENINGS), *knock)


def test_without_a_target_only_packets_to_this_host_count() -> None:
    """What passes through to a machine behind is neither step nor reset; here it would be (control)."""
    assert not opens(tracker(OPENINGS), *(passed(port) for port in (1, 2, 3)))
    assert opens(tracker(OPENINGS), tcp(1), passed(9), tcp(2), passed(3), tcp(3))
    assert not opens(tracker(OPENINGS), tcp(1), tcp(2), tcp(9), tcp(3))


def test_with_a_target_only_packets_to_it_count() -> None:
    """It need not be this host's address, but may be; packets to any other change nothing."""
    target = Counted(target=BEHIND)
    assert opens(tracker(target), *(passed(port) for port in (1, 2, 3)))
    assert opens(tracker(target), *(tcp(port, destination=BEHIND) for port in (1, 2, 3)))
    assert opens(tracker(target), passed(1), tcp(9), passed(9, raw("10.9.9.8")), passed(2), passed(3))
    assert not opens(tracker(target), *(tcp(port) for port in (1, 2, 3)))
    assert not opens(tracker(target), passed(1), passed(2), passed(9), passed(3))
    assert not opens(tracker(target), *(passed(port, BEHIND + bytes(12)) for port in (1, 2, 3)))


@given(st.integers(0, 255), st.sampled_from([TCP, UDP]))
def test_openings_are_what_a_packet_says_of_itself(flags: int, protocol: int) -> None:
    """What counts without a word in the configuration is just what ``opens_connection`` says."""
    packet = seen(1, flags, protocol=protocol)
    one = tracker(OPENINGS, Port(Protocol(protocol), 1))
    assert bool(one.feed(PacketSeen(packet), 0)) is packet.opens_connection
