from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from tests.knockgate.firewall.conformance import CASES, LIMIT, Stage
from tests.knockgate.firewall.small_table import ALICE, ALICE6, DNS, HOME, RULESET, SSH, listing
from tests.netns import isolated, run, until, without_rights
from tests.packets import raw

from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall import libnftables, nfmessages
from knockgate.firewall.memory import MemoryFirewall
from knockgate.firewall.nftables import Nftables
from knockgate.model import Lease, Port, Protocol


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, f"{seconds} s")


# --- conformance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@isolated
def test_the_kernel(case: Callable[[Stage], None]) -> None:
    with Nftables() as firewall:
        case(Stage(firewall, RULESET, wait))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_fake(case: Callable[[Stage], None]) -> None:
    now = 1000.0

    def turn_on(seconds: float) -> None:
        nonlocal now
        now += seconds

    gate = f'gate.leases = {LIMIT}\ndoors.ssh.ports = ["tcp/22"]\ndoors.web.ports = ["tcp/443", "udp/443"]'
    case(Stage(MemoryFirewall(parse(gate), lambda: now), "", turn_on))


# --- what nft sees of it ------------------------------------------------------------------------------


@isolated
def test_nft_reads_our_elements_and_we_read_those_of_nft() -> None:
    with Nftables() as firewall:
        firewall.load(RULESET)
        firewall.open([SSH, DNS], ALICE, 90, "daemon sequence")
        firewall.open([SSH], ALICE6, 7200, "hand")
        firewall.open([SSH], raw("192.0.2.8"), 90, "kernel sequence")
        firewall.open([DNS], HOME, 90, "packet")
        assert '192.0.2.7 . tcp . 22 timeout 1m30s comment "daemon sequence"' in listing()
        assert '192.0.2.7 . udp . 53 timeout 1m30s comment "daemon sequence"' in listing()
        assert '2001:db8::7 . tcp . 22 timeout 2h comment "hand"' in listing()
        assert '2001:db8:1:2:: . udp . 53 timeout 1m30s comment "packet"' in listing()
        assert "192.0.2.8 . tcp . 22 timeout 1m30s," in listing().replace(" }", ",")  # and no comment
    for element in (
        "leases4 { 192.0.2.9 . tcp . 22 timeout 30s }",  # as the packet path adds it
        "given6 { 2001:db8::9 . udp . 53 }",
        "leases4 { 192.0.2.9 . sctp . 22 timeout 30s }",  # no lease: no knock opens such a port
        "networks6 { 2001:db8:1:3:: . tcp . 22 timeout 30s }",
        "networks6 { 2001:db8:1:3::1 . tcp . 22 timeout 30s }",  # no lease: no packet is ever found there
    ):
        run("nft", f"add element inet knockgate {element}")
    with Nftables() as firewall:
        found = {lease.source: lease for lease in firewall.leases()}
        assert found[raw("192.0.2.9")].by == "kernel sequence"
        assert found[raw("192.0.2.9")].lasts == 30
        assert found[raw("2001:db8::9")] == Lease(DNS, raw("2001:db8::9"), math.inf, math.inf, "hand")
        network = raw("2001:db8:1:3::")[:8]
        assert (found[network].by, found[network].lasts) == ("hand", 30)
        assert len(firewall.leases()) == 8


@isolated
def test_many_leases() -> None:
    """More than a message, a datagram and a receive buffer hold; and all of them can be closed."""
    ports = [Port(Protocol.TCP, number) for number in range(1, 301)]
    sources = [raw(f"10.0.{number // 256}.{number % 256}") for number in range(20)]
    with Nftables() as firewall:
        firewall.load(RULESET.replace(f"size {LIMIT}", "size 65536"))
        for source in sources:
            firewall.open(ports, source, 60, "daemon sequence")
        assert {(lease.port, lease.source) for lease in firewall.leases()} == {
            (port, source) for port in ports for source in sources
        }
        firewall.open(ports[:2], ALICE6, 60, "hand")
        assert firewall.close(ports[1:], [*sources[1:], ALICE6]) == 19 * 299 + 1
        left = {(lease.port, lease.source) for lease in firewall.leases()}
        assert left == {(port, sources[0]) for port in ports} | {
            (ports[0], source) for source in (*sources, ALICE6)
        }


@isolated
def test_a_lease_that_ends_while_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking and deleting are two steps; what ends between them is no error and does not count."""
    with Nftables() as firewall:
        firewall.load(RULESET)
        for source in (ALICE, raw("192.0.2.8")):
            firewall.open([SSH], source, 60, "daemon sequence")
    with Nftables(own=False) as firewall:
        has = firewall._has

        def has_for_the_last_time(name: str, key: bytes) -> bool:
            found = has(name, key)
            if found and key == nfmessages.key_of(SSH, ALICE):
                run("nft", "delete element inet knockgate leases4 { 192.0.2.7 . tcp . 22 }")
            return found

        monkeypatch.setattr(firewall, "_has", has_for_the_last_time)
        assert firewall.close([SSH], [ALICE, raw("192.0.2.8")]) == 1
        assert firewall.leases() == []


# --- rights and programs ------------------------------------------------------------------------------


@isolated
def test_without_the_right_it_says_so() -> None:
    with Nftables() as firewall:
        firewall.load(RULESET)

    def everything_fails() -> None:
        with Nftables() as firewall:
            attempts: tuple[Callable[[], object], ...] = (
                lambda: firewall.load(RULESET),
                firewall.unload,
                firewall.is_loaded,
                firewall.leases,
                firewall.text,
                firewall.chains,
                firewall.redirects,
                lambda: firewall.open([SSH], ALICE, 60, "hand"),
                lambda: firewall.close([SSH], [ALICE]),
            )
            for attempt in attempts:
                with pytest.raises(Unavailable, match="no right") as caught:
                    attempt()
                assert "CAP_NET_ADMIN" in str(caught.value.hint)

    before = listing()
    without_rights(everything_fails)
    assert listing() == before


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libnftables, "_LIBRARY", "libnftables.so.no")
    with pytest.raises(Unavailable, match=r"libnftables\.so\.no is not installed") as caught:
        Nftables()
    assert caught.value.hint == "apt install nftables"
