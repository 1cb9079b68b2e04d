from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from tests.knockgate.capture.cable import (
    DATAGRAM,
    EVERYTHING,
    SYN,
    SYN6,
    Cable,
    before,
    cable,
    gives_both,
    knock_at,
)
from tests.knockgate.capture.captures import Kind, both
from tests.netns import DEADLINE, Sender, add_vlan, heard, isolated, mac, packet_socket, run, until, up
from tests.packets import ACK, UDP, ipv4, ipv6, octets, raw, tcp, udp

from knockgate.capture import afpacket
from knockgate.capture.openings import Openings
from knockgate.wire.bpf import assemble, openings
from knockgate.wire.frames import observe

OTHER_MAC = b"\x02other"
SO_DETACH_FILTER, SO_ATTACH_FILTER, SO_GET_FILTER, SO_LOCK_FILTER = 27, 26, 26, 44


# --- the filter ---------------------------------------------------------------------------------------


@both
@isolated
def test_is_filtered_and_locked_before_it_hears(kind: Kind) -> None:
    """When a socket is bound, our filter is on it for good, and nothing has come in without it."""
    seen: list[tuple[bytes, int]] = []
    hear = afpacket.hear
    with cable() as wire:

        def watched(sock: socket.socket, protocol: int, index: int) -> None:
            wire.wire.send(ipv4(tcp(flags=ACK)))  # is not for the filter
            wire.wire.send(SYN6)  # is for the socket that is bound last
            with pytest.raises(BlockingIOError):
                sock.recv(100)
            seen.append((installed(sock), sock.getsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER)))
            hear(sock, protocol, index)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(afpacket, "hear", watched)
            for interface in ("near", ""):
                with kind(EVERYTHING, interface) as capture:
                    assert wire.gives(capture) == []
                    wire.wire.send(ipv4(tcp(flags=ACK)))
                    wire.wire.send(SYN6)  # control: now it is heard
                    assert gives_both(wire, capture) == [SYN6]
    assert [filtering for filtering, _ in seen] == [assemble(EVERYTHING)[: len(EVERYTHING)]] * 3
    assert all(locked for _, locked in seen)


def installed(sock: socket.socket) -> bytes:
    # The kernel counts this option in instructions, so Python keeps as many bytes of it.
    return sock.getsockopt(socket.SOL_SOCKET, SO_GET_FILTER, 1024)


@both
@isolated
def test_nobody_changes_the_filter_again(kind: Kind) -> None:
    """The filter can be neither removed nor replaced nor unlocked; one that is not locked can (control)."""
    text = ctypes.create_string_buffer(assemble(EVERYTHING))
    again = struct.pack("HP", len(EVERYTHING), ctypes.addressof(text))

    def tampered(sock: socket.socket) -> Iterator[bool]:
        changes: list[tuple[int, int | bytes]] = [
            (SO_LOCK_FILTER, 0),
            (SO_ATTACH_FILTER, again),
            (SO_DETACH_FILTER, 0),
        ]
        for option, value in changes:
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, value)
                yield True
            except PermissionError:
                yield False

    with packet_socket(program=EVERYTHING) as control:
        assert list(tampered(control)) == [True, True, True]
    for interface in ("", "lo"):
        with kind(EVERYTHING, interface) as capture:
            sockets = list(capture._sockets.values())
            assert [list(tampered(sock)) for sock in sockets] == [[False, False, False]] * len(sockets)


@isolated
def test_hears_what_the_program_lets_through() -> None:
    """Another program hears other packets: it is the argument that decides."""
    with cable() as wire, Openings(openings(udp=False, loopback=True), "near") as syns_only:
        with Openings(EVERYTHING, "near") as capture:
            for packet in (SYN, DATAGRAM, ipv4(tcp(flags=ACK)), SYN6):
                wire.wire.send(packet)
            assert wire.gives(capture) == [SYN, DATAGRAM, SYN6]
        assert wire.gives(syns_only)[:2] == [SYN, SYN6]


# --- each packet once ---------------------------------------------------------------------------------


@both
@isolated
def test_hears_each_packet_once_on_one_interface_and_on_all(kind: Kind) -> None:
    """IPv4 and IPv6, TCP and UDP: each packet comes once, from the network header on."""
    with cable() as wire:
        for interface in ("near", ""):
            with kind(EVERYTHING, interface) as capture:
                sent = [SYN, SYN6, DATAGRAM, ipv6(udp(payload=b"hello"), UDP)]
                for packet in sent:
                    wire.wire.send(packet)
                assert sorted(gives_both(wire, capture)) == sorted(sent)


@isolated
def test_hears_only_its_interface() -> None:
    """On one interface nothing of another is heard; on all of them it is (control)."""
    with cable() as wire, Openings(EVERYTHING, "near") as one, Openings(EVERYTHING) as all_of_them:
        knock_at("127.0.0.1", 7000)
        assert wire.gives(one) == []
        assert [observe(packet).source for packet in wire.gives(all_of_them)][:1] == [raw("127.0.0.1")]


@both
@isolated
def test_lo_counts_once(kind: Kind) -> None:
    """A packet on lo is seen going out and coming in, as the control shows, and is heard once."""
    for interface in ("lo", ""):
        for address in ("127.0.0.1", "::1"):
            with kind(EVERYTHING, interface) as capture, packet_socket() as control:
                knock_at(address, 7000)
                first = capture.receive(DEADLINE)
                assert first is not None
                knock_at(address, 7001)
                second = capture.receive(DEADLINE)
                assert second is not None
                assert [observe(each).port for each in (first, second)] == [7000, 7001]
                copies = [each.packet for each in heard(control)]
                assert copies.count(first) == copies.count(second) == 2


@isolated
def test_lo_may_be_left_out() -> None:
    """With the program that leaves lo out, nothing on it is heard, and what comes by cable is."""
    with (
        cable() as wire,
        Openings(openings(udp=True, loopback=False)) as capture,
        Openings(EVERYTHING) as control,
    ):
        knock_at("127.0.0.1", 7000)
        assert wire.gives(capture) == []
        assert len(wire.gives(control)) == 2  # the knock and the other capture's mark


@both
@isolated
def test_a_bridge_port_is_heard_and_counts_once(kind: Kind) -> None:
    """A packet through a bridge is heard on the port, or on the bridge, and once on all interfaces."""
    with cable() as wire:
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "link", "set", "near", "master", "bridge")
        up("bridge")
        assert mac("bridge") == mac("near")
        with packet_socket() as control:
            for interface in ("near", "bridge", ""):
                with kind(EVERYTHING, interface) as capture:
                    wire.wire.send(SYN)
                    wire.wire.send(SYN6)
                    assert sorted(gives_both(wire, capture)) == [SYN, SYN6]
            assert [each.packet for each in heard(control)].count(SYN) == 6


@isolated
def test_a_vlan_counts_once() -> None:
    """A tagged packet is heard on the VLAN's interface and not on the cable, and once on all interfaces."""
    with cable() as wire:
        name = add_vlan("near", 10)
        for interface, expected in ((name, [SYN]), ("near", []), ("", [SYN])):
            with Openings(EVERYTHING, interface) as capture:
                wire.wire.send(SYN, tag=b"\x81\x00" + octets(10, 2))
                mark = ipv4(tcp(), source="192.0.2.2")
                wire.wire.send(mark, tag=b"\x81\x00" + octets(10, 2) if interface == name else b"")
                assert before(capture, mark) == expected


@both
@isolated
def test_a_tag_that_is_nobodys_is_not_heard(kind: Kind) -> None:
    """A packet for a VLAN that this host is not in goes unheard, on the cable and on all interfaces."""
    with cable() as wire:
        for interface in ("near", ""):
            with kind(EVERYTHING, interface) as capture, packet_socket() as control:
                wire.wire.send(SYN, tag=b"\x81\x00" + octets(10, 2))
                assert wire.gives(capture) == []
                assert [each.vlan_tag for each in heard(control) if each.packet == SYN] == [10]
                wire.wire.send(SYN, tag=b"\x81\x00\xe0\x00")  # a priority is no VLAN
                assert wire.gives(capture) == [SYN]


@both
@isolated
def test_what_goes_out_is_not_heard(kind: Kind) -> None:
    """Our own SYN to somebody is not heard, though it goes by (control) and theirs to us is heard."""
    with cable() as wire, Sender("near", OTHER_MAC) as own:
        for interface in ("near", ""):
            with kind(EVERYTHING, interface) as capture, packet_socket() as control:
                own.send(SYN)
                assert wire.gives(capture) == []
                assert [each.packet_type for each in heard(control) if each.packet == SYN] == [4]
                wire.wire.send(SYN)
                assert wire.gives(capture) == [SYN]


@isolated
def test_what_is_for_another_host_is_not_heard() -> None:
    """On a promiscuous interface a SYN to another station's address goes by unheard."""
    with cable() as wire:
        run("ip", "link", "set", "near", "promisc", "on")
        for interface in ("near", ""):
            with Openings(EVERYTHING, interface) as capture, packet_socket() as control:
                for destination in (OTHER_MAC, b"\xff" * 6, b"\x33\x33\0\0\0\1"):
                    wire.wire.send(SYN, destination=destination)
                assert wire.gives(capture) == []
                assert [each.packet for each in heard(control)].count(SYN) == 3


# --- receiving ----------------------------------------------------------------------------------------


@both
@isolated
def test_waits_no_longer_than_asked(kind: Kind) -> None:
    """receive() gives None when the time is up, at once for no time, and a packet if one is there."""
    with kind(EVERYTHING, "lo") as capture:
        for timeout in (0.0, 0.05):
            began = time.monotonic()
            assert capture.receive(timeout) is None
            assert timeout <= time.monotonic() - began < DEADLINE
        knock_at("127.0.0.1", 7000)
        assert capture.receive(None) is not None
        knock_at("127.0.0.1", 7000)
        until(lambda: capture.receive(0.0), "a packet that is there")


@both
@isolated
def test_ipv4_does_not_shut_out_ipv6(kind: Kind) -> None:
    """A queue full of one family's packets holds the other family's up by no more than a few."""
    with cable() as wire:
        for many, one in ((SYN, SYN6), (SYN6, SYN)):
            with kind(EVERYTHING) as capture:
                for _ in range(100):
                    wire.wire.send(many)
                wire.wire.send(one)
                first = [capture.receive(DEADLINE) for _ in range(4)]
                assert first.count(one) == 1
                assert first.count(many) == 3


@both
@isolated
def test_a_family_that_was_quiet_is_heard_while_the_other_floods(kind: Kind) -> None:
    """A socket that never runs empty does not keep the other one from being asked again."""
    with cable() as wire:
        for many, one in ((SYN, SYN6), (SYN6, SYN)):
            with kind(EVERYTHING) as capture:
                for _ in range(300):
                    wire.wire.send(many)
                assert capture.receive(DEADLINE) == many
                wire.wire.send(one)
                # Fewer than were queued before it, or it was not the flood that it waited for (control).
                assert one in [capture.receive(DEADLINE) for _ in range(130)]
                assert capture.receive(DEADLINE) == many


@isolated
def test_hears_an_address_that_came_later() -> None:
    """Listening is to an interface and not to addresses, so one added afterwards is heard at once."""
    with cable() as wire, Openings(EVERYTHING, "near") as one, Openings(EVERYTHING) as all_of_them:
        with wire.there:
            up("far", "10.0.0.2/24", "fd00::2/64")
        up("near", "10.0.0.1/24", "fd00::1/64")
        with wire.there:
            knock_at("10.0.0.1", 7000)
            knock_at("fd00::1", 7000)
        expected = {(raw("10.0.0.2"), raw("10.0.0.1"), 7000), (raw("fd00::2"), raw("fd00::1"), 7000)}
        for capture in (one, all_of_them):
            seen: set[tuple[bytes, bytes, int]] = set()
            while seen != expected:
                packet = capture.receive(DEADLINE)
                assert packet is not None
                observation = observe(packet)
                seen.add((observation.source, observation.destination, observation.port))


@both
@isolated
def test_can_be_waited_for_beside_other_things(kind: Kind) -> None:
    with contextlib.ExitStack() as stack:
        cable = Cable(stack)
        capture = stack.enter_context(kind(EVERYTHING, "near"))
        cable.wire.send(SYN)
        assert select.select([capture], [], [], DEADLINE) == ([capture], [], [])
        while capture.receive(0):
            pass
        assert select.select([capture], [], [], 0) == ([], [], [])
        cable.wire.send(SYN6)
        assert select.select([capture], [], [], DEADLINE) == ([capture], [], [])
        assert capture.receive(0) == SYN6
