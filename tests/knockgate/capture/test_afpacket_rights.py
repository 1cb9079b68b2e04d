from __future__ import annotations

import socket

import pytest
from tests.knockgate.capture.cable import EVERYTHING, SYN, cable, descriptors
from tests.knockgate.capture.captures import Kind, both, until_listening
from tests.netns import isolated, without_rights

from knockgate.capture import afpacket
from knockgate.capture.openings import Openings
from knockgate.errors import Unavailable
from knockgate.wire.bpf import Instruction


@isolated
def test_says_which_interfaces_there_are() -> None:
    """A missing interface is Unavailable, with those that are there as a hint; no name crashes it."""
    with cable():
        for name in ("eth7", "no-such-interface-at-all", "nul\0", "über", "a b", "near/"):
            with pytest.raises(Unavailable) as caught:
                Openings(EVERYTHING, name)
            assert caught.value.message == f"no interface {name}"
            assert caught.value.hint == "there are: lo, near"
        Openings(EVERYTHING, "near").close()


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
        Openings(EVERYTHING, "eth7")
    errors.append(caught.value)
    with pytest.raises(Unavailable, match="cannot listen on lo") as caught:
        Openings(impossible, "lo")
    errors.append(caught.value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(afpacket, "hear", second_fails)
        with pytest.raises(Unavailable, match="cannot listen on the interfaces: No such device") as caught:
            Openings(EVERYTHING)
        errors.append(caught.value)
    assert descriptors() == before_all
    with Openings(EVERYTHING) as capture:
        assert descriptors() == before_all + 5  # control: two sockets, their memory, and what waits for both
    assert descriptors() == before_all
    capture.close()
    assert descriptors() == before_all
