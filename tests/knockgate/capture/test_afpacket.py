from __future__ import annotations

import contextlib
import ctypes
import select
import signal
import socket
import struct
import subprocess
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
    descriptors,
    gives_both,
    gives_until_empty,
    knock_at,
)
from tests.netns import (
    DEADLINE,
    Network,
    Sender,
    add_vlan,
    heard,
    isolated,
    mac,
    packet_socket,
    run,
    until,
    up,
    without_rights,
)
from tests.packets import ACK, UDP, ipv4, ipv6, octets, raw, tcp, udp

from knockgate.capture import afpacket
from knockgate.capture.afpacket import Capture, PacketCapture
from knockgate.capture.ring import PacketRing
from knockgate.errors import Unavailable
from knockgate.wire.bpf import Instruction, assemble, openings
from knockgate.wire.frames import observe

OTHER_MAC = b"\x02other"
SO_DETACH_FILTER, SO_ATTACH_FILTER, SO_GET_FILTER, SO_LOCK_FILTER = 27, 26, 26, 44

#: What both of them promise is tested with both.
Kind = type[PacketCapture] | type[PacketRing]
both = pytest.mark.parametrize("kind", [PacketCapture, PacketRing])


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
    with cable() as wire, PacketCapture(openings(udp=False, loopback=True), "near") as syns_only:
        with PacketCapture(EVERYTHING, "near") as capture:
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
    with cable() as wire, PacketCapture(EVERYTHING, "near") as one, PacketCapture(EVERYTHING) as all_of_them:
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
        PacketCapture(openings(udp=True, loopback=False)) as capture,
        PacketCapture(EVERYTHING) as control,
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
            with PacketCapture(EVERYTHING, interface) as capture:
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
            with PacketCapture(EVERYTHING, interface) as capture, packet_socket() as control:
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
def test_counts_what_it_had_no_room_for() -> None:
    """drops() sums up what passed the filter and what was lost; with room enough that is nothing."""
    with cable() as wire:
        for interface in ("near", ""):
            with (
                PacketCapture(EVERYTHING, interface, receive_buffer=4096) as small,
                PacketCapture(EVERYTHING, interface) as large,
            ):
                assert small.drops() == large.drops() == (0, 0)
                for _ in range(100):
                    wire.wire.send(SYN)
                    wire.wire.send(SYN6)
                    wire.wire.send(ipv4(tcp(flags=ACK)))  # is not counted: it did not pass
                kept = gives_until_empty(large)
                assert kept == large.drops()[0] == 200
                received, dropped = small.drops()
                assert received == 200
                assert dropped > 100
                assert gives_until_empty(small) == received - dropped
                wire.wire.send(SYN)
                assert gives_until_empty(small) == 1
                assert small.drops() == (201, dropped)


@isolated
def test_hears_an_address_that_came_later() -> None:
    """Listening is to an interface and not to addresses, so one added afterwards is heard at once."""
    with cable() as wire, PacketCapture(EVERYTHING, "near") as one, PacketCapture(EVERYTHING) as all_of_them:
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


# --- the interface goes and comes back ----------------------------------------------------------------


def until_listening(capture: Capture, *, expected: bool) -> None:
    """The change must end the wait of receive(): nothing is sent, and it has no timeout."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"listening was not {expected}")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    while capture.listening is not expected:
        assert capture.receive(None) is None
    signal.setitimer(signal.ITIMER_REAL, 0)


@both
@isolated
def test_hears_again_when_the_interface_is_up_again(kind: Kind) -> None:
    """An interface that goes down is told by ``listening``, and it is heard again when it is up."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        for _ in range(2):
            assert capture.listening
            wire.wire.send(SYN)
            assert wire.gives(capture) == [SYN]
            wire.down()
            until_listening(capture, expected=False)
            wire.up()
            until_listening(capture, expected=True)
        wire.wire.send(SYN)
        assert wire.gives(capture) == [SYN]


@both
@isolated
def test_a_blink_is_not_told(kind: Kind) -> None:
    """An interface that is up again before anybody looked is heard on as if nothing had been."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        wire.wire.send(SYN)
        wire.down()
        wire.up()
        assert wire.gives(capture) == [SYN]
        assert capture.listening


@both
@isolated
def test_what_came_before_the_end_is_not_lost(kind: Kind) -> None:
    """Packets that were waiting when the interface went down, or away, are still given out."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        wire.wire.send(SYN)
        wire.down()
        assert until(lambda: capture.receive(0.0), "the packet") == SYN
        wire.up()
        until_listening(capture, expected=True)
        wire.wire.send(SYN6)
        wire.unplug()
        assert until(lambda: capture.receive(0.0), "the packet") == SYN6


@both
@isolated
def test_can_begin_while_the_interface_is_down(kind: Kind) -> None:
    """A capture of an interface that is down waits for it."""
    with cable() as wire:
        wire.down()
        with kind(EVERYTHING, "near") as capture:
            until_listening(capture, expected=False)
            wire.up()
            until_listening(capture, expected=True)
            wire.wire.send(SYN)
            assert wire.gives(capture) == [SYN]


@both
@isolated
def test_hears_an_interface_that_was_made_anew(kind: Kind) -> None:
    """An interface that is deleted and made again under its name is heard, whatever its new index is."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        index = socket.if_nametoindex("near")
        for new in (0, index, index):
            old = socket.if_nametoindex("near")
            wire.unplug()
            until_listening(capture, expected=False)
            wire.plug(new)
            assert (socket.if_nametoindex("near") == old) is (new == old)
            until_listening(capture, expected=True)
            wire.wire.send(SYN)
            assert wire.gives(capture) == [SYN]


@both
@isolated
def test_looks_for_its_interface_while_it_waits(kind: Kind) -> None:
    """Whoever waits without end is woken when the interface comes back, though nothing is heard of it."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        wire.unplug()
        until_listening(capture, expected=False)
        later = "sleep 0.3; ip link add near type veth peer name far; ip link set near up"
        with subprocess.Popen(["sh", "-c", later]):  # by then the wait has begun, or the test says less
            until_listening(capture, expected=True)


@both
@isolated
def test_hears_an_interface_that_was_replaced_unnoticed(kind: Kind) -> None:
    """The same when nobody looked between the old interface and the new one."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        for new in (0, socket.if_nametoindex("near"), 0):
            wire.unplug()
            wire.plug(new)
            assert until(lambda: capture.receive(0.0) is None and capture.listening, "listening")
            wire.wire.send(SYN)
            assert wire.gives(capture) == [SYN]


@both
@isolated
def test_hears_an_interface_that_was_lent(kind: Kind) -> None:
    """An interface that was moved to another network and back, where it has the same index, is heard."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        home, index = Network.here(), socket.if_nametoindex("near")
        away = Network()
        away.adopt("near")
        until_listening(capture, expected=False)
        with away:
            home.adopt("near")
        assert socket.if_nametoindex("near") == index
        wire.up()
        until_listening(capture, expected=True)
        wire.wire.send(SYN)
        assert wire.gives(capture) == [SYN]


# --- what cannot be done ------------------------------------------------------------------------------


@isolated
def test_says_which_interfaces_there_are() -> None:
    """A missing interface is Unavailable, with those that are there as a hint; no name crashes it."""
    with cable():
        for name in ("eth7", "no-such-interface-at-all", "nul\0", "über", "a b", "near/"):
            with pytest.raises(Unavailable) as caught:
                PacketCapture(EVERYTHING, name)
            assert caught.value.message == f"no interface {name}"
            assert caught.value.hint == "there are: lo, near"
        PacketCapture(EVERYTHING, "near").close()


@both
@isolated
def test_says_which_right_is_missing(kind: Kind) -> None:
    """Without CAP_NET_RAW there is no capture but a hint what to do; with it there is one (control)."""

    def refused() -> None:
        for interface in ("lo", ""):
            with pytest.raises(Unavailable) as caught:
                kind(EVERYTHING, interface)
            assert caught.value.message == "no right to listen to packets"
            assert "CAP_NET_RAW" in (caught.value.hint or "")

    kind(EVERYTHING, "lo").close()
    without_rights(refused)


@both
@isolated
def test_needs_no_right_once_it_is_open(kind: Kind) -> None:
    """An open capture hears, counts and finds its interface again after the right was given away."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        wire.down()
        until_listening(capture, expected=False)
        wire.up()

        def deprived() -> None:
            with pytest.raises(PermissionError):
                socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            until_listening(capture, expected=True)
            wire.wire.send(SYN)
            assert wire.gives(capture) == [SYN]
            assert capture.drops() == (2, 0)

        without_rights(deprived)


@isolated
def test_leaves_nothing_open() -> None:
    """No descriptor stays open when opening fails at whatever step, nor after one close() or two."""
    impossible = [Instruction(0x06, 0, 0, 0), Instruction(0xFFFF, 0, 0, 0)]
    hear, calls = afpacket.hear, [0]

    def second_fails(sock: socket.socket, protocol: int, index: int) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(19, "No such device")
        hear(sock, protocol, index)

    before_all = descriptors()
    # Whoever keeps the error keeps what it came by: nothing is closed by the way of being forgotten.
    errors = []
    with pytest.raises(Unavailable) as caught:
        PacketCapture(EVERYTHING, "eth7")
    errors.append(caught.value)
    with pytest.raises(Unavailable, match="cannot listen on lo") as caught:
        PacketCapture(impossible, "lo")
    errors.append(caught.value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(afpacket, "hear", second_fails)
        with pytest.raises(Unavailable, match="cannot listen on the interfaces: No such device") as caught:
            PacketCapture(EVERYTHING)
        errors.append(caught.value)
    assert descriptors() == before_all
    with PacketCapture(EVERYTHING) as capture:
        assert descriptors() == before_all + 3  # control: two sockets, and what waits for both
    assert descriptors() == before_all
    capture.close()
    assert descriptors() == before_all


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
