from __future__ import annotations

import pytest
from tests.netns import isolated, run, until, up

from knockgate.daemon.addresses import OwnAddresses

LOOPBACK, LOOPBACK6, FOREIGN = bytes([127, 0, 0, 1]), bytes(15) + b"\1", bytes([192, 0, 2, 1])
GLOBAL6 = bytes.fromhex("20010db8") + bytes(11) + b"\1"


@isolated
def test_an_address_is_ours_or_it_is_not() -> None:
    own = OwnAddresses()
    assert LOOPBACK in own and LOOPBACK6 in own
    assert FOREIGN not in own
    assert bytes([224, 0, 0, 1]) not in own and b"\xff\x02" + bytes(13) + b"\1" not in own


@isolated
def test_addresses_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knockgate.daemon.addresses._FRESH", 0.0)
    own = OwnAddresses()
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far")
    assert FOREIGN not in own and GLOBAL6 not in own
    up("near", "192.0.2.1/24", "2001:db8::1/64")
    # Over a cable without another end the kernel takes a moment to say so of IPv6.
    until(lambda: FOREIGN in own and GLOBAL6 in own, "both are ours")
    assert bytes([192, 0, 2, 2]) not in own and bytes([192, 0, 2, 255]) not in own
    assert bytes([198, 51, 100, 1]) not in own  # no route
    run("ip", "route", "add", "default", "via", "192.0.2.2")
    assert bytes([198, 51, 100, 1]) not in own
    run("ip", "link", "del", "near")
    assert FOREIGN not in own


@isolated
def test_a_kernel_without_ipv6_has_no_such_addresses_and_a_packet_to_one_ends_nothing() -> None:
    """``ipv6.disable=1`` has no such routes; here the address is gone, and packets are heard all the same."""
    own = OwnAddresses()
    run("ip", "address", "del", "::1/128", "dev", "lo")
    assert LOOPBACK6 not in own
    assert LOOPBACK in own
