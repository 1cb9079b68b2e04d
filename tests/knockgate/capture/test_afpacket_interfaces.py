from __future__ import annotations

import socket
import subprocess

from tests.knockgate.capture.cable import EVERYTHING, SYN, SYN6, Cable, cable
from tests.knockgate.capture.captures import Kind, both, until_listening
from tests.netns import Network, isolated, until

from knockgate.capture.afpacket import Capture


def must_hear(capture: Capture, wire: Cable) -> None:
    wire.wire.send(SYN)
    assert wire.gives(capture) == [SYN]


@both
@isolated
def test_hears_again_when_the_interface_is_up_again(kind: Kind) -> None:
    """An interface that goes down is told by ``listening``, and it is heard again when it is up."""
    with cable() as wire, kind(EVERYTHING, "near") as capture:
        for _ in range(2):
            assert capture.listening
            must_hear(capture, wire)
            wire.down()
            until_listening(capture, expected=False)
            wire.up()
            until_listening(capture, expected=True)
        must_hear(capture, wire)


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
            must_hear(capture, wire)


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
            must_hear(capture, wire)


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
            must_hear(capture, wire)


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
        must_hear(capture, wire)
