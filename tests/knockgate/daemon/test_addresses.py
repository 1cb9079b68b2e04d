from __future__ import annotations

import errno
import os
import socket

import pytest
from tests.netns import isolated

from knockgate.daemon.addresses import OwnAddresses

LOOPBACK, LOOPBACK6, FOREIGN = bytes([127, 0, 0, 1]), bytes(15) + b"\1", bytes([192, 0, 2, 1])


@isolated
def test_an_address_is_ours_or_it_is_not() -> None:
    own = OwnAddresses()
    assert LOOPBACK in own and LOOPBACK6 in own
    assert FOREIGN not in own
    assert bytes([224, 0, 0, 1]) not in own and b"\xff\x02" + bytes(13) + b"\1" not in own


@isolated
def test_a_kernel_without_ipv6_has_no_such_addresses_and_a_packet_to_one_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``ipv6.disable=1``: the sockets are not there, and packets of it are heard all the same."""
    real = socket.socket

    def without(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", without)
    own = OwnAddresses()
    assert LOOPBACK6 not in own
    assert LOOPBACK in own
