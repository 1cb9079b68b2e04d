"""A pause lets everybody in for a while, a shadow counts who would be kept out: with the real table."""

from __future__ import annotations

import contextlib
import socket

import pytest
from tests.knockgate.firewall.doors import DNS, OTHER, SSH, WEB, Client, gate, load, stage
from tests.knockgate.firewall.guarded import (
    CLIENT,
    FAMILY,
    HOST,
    ONE_TRY,
    knock,
    listening,
    look,
)
from tests.knockgate.firewall.table import Cable, nft
from tests.netns import isolated, run, until
from tests.packets import raw

from knockgate.firewall.nftables import Nftables
from knockgate.model import Shadowed, address_text

# --- pause --------------------------------------------------------------------------------------------


@isolated
def test_a_pause_lets_everybody_in_and_then_the_kernel_shuts() -> None:
    """Nobody is there any more who could: the library is given back while it lasts. Sessions live on."""
    with listening(22, 80, 8080) as (server, *_):
        client = Client()
        with Nftables() as firewall:
            load(firewall, gate())
            assert client.all_seen(22) == ["silent"] * 4
            firewall.pause([SSH], 3)
            load(firewall, gate())
            (pause,) = firewall.pauses()
            assert pause.port == SSH and pause.left < 3
        assert client.all_seen(22) == ["open"] * 4
        assert client.seen(8080, CLIENT[4]) == "silent"  # another door
        with client.network:
            session = socket.create_connection((HOST[4], 22), timeout=ONE_TRY)
        with session:
            with Nftables(own=False) as firewall:
                until(lambda: not firewall.pauses(), "it is over")
            assert client.all_seen(22) == ["silent"] * 4
            with contextlib.suppress(BlockingIOError):
                server.setblocking(False)
                while True:
                    peer, address = server.accept()
                    if address[1] == session.getsockname()[1]:
                        break
                    peer.close()
            with peer:
                session.sendall(b"typed")
                peer.settimeout(ONE_TRY)
                assert peer.recv(9) == b"typed"


# --- shadow -------------------------------------------------------------------------------------------


def told(sources: list[Shadowed]) -> set[tuple[str, str, int, bool]]:
    return {
        (address_text(each.source), str(each.port), each.connections, each.would_drop) for each in sources
    }


@isolated
def test_in_shadow_nothing_is_shut_and_all_of_it_is_counted() -> None:
    """A stranger comes in and is counted; who has a lease, or is allowed, is told apart from them."""
    with stage(8080, 7000, 9000) as (client, firewall):
        load(firewall, gate('shadow = true\nallow = ["10.0.0.66"]'))
        assert client.all_seen(22) == ["open"] * 4
        assert client.seen(22, CLIENT[4]) == client.seen(8080, CLIENT[4]) == "open"
        firewall.open([SSH], raw(CLIENT[4]), 600, "hand")
        assert client.seen(22, CLIENT[4]) == "open"
        found = firewall.shadow()
        assert found.dropped == {SSH: 4, WEB: 1} and found.passed == {SSH: 2}
        assert told(found.sources) == {
            (CLIENT[4], "tcp/22", 2, True),
            (CLIENT[4], "tcp/8080", 1, True),
            (CLIENT[6], "tcp/22", 1, True),
            (OTHER[6], "tcp/22", 1, True),
            (OTHER[4], "tcp/22", 1, False),
            (CLIENT[4], "tcp/22", 1, False),
        }
        agos = [each.ago for each in found.sources]
        assert agos == sorted(agos) and agos[-1] < 10
        tick = 0.02  # what came within one of the kernel's ticks came at once
        last = next(each for each in found.sources if each.source == raw(CLIENT[4]) and not each.would_drop)
        assert last.ago <= agos[0] + tick
        load(firewall, gate('shadow = true\nallow = ["10.0.0.66"]'))
        assert firewall.shadow().dropped == found.dropped  # a reload keeps the count
        load(firewall, gate())
        assert client.seen(22, OTHER[4]) == "silent"  # the control
        assert client.seen(22, CLIENT[4]) == "open"  # its lease is still there
        assert firewall.shadow().sources == []


@pytest.mark.parametrize("family", [4, 6])
@isolated
def test_a_knock_in_shadow_opens_and_passes_as_it_came(family: int) -> None:
    """Programs on the knock ports are reached as before; the door's port is not put in a packet's place."""
    with stage(7000, 9000) as (client, firewall), socket.socket(FAMILY[family], socket.SOCK_DGRAM) as server:
        server.bind((HOST[family], 8000))
        server.settimeout(ONE_TRY)
        load(firewall, gate("shadow = true"))
        with client.network:
            knock(HOST[family], CLIENT[family])
        assert server.recv(9) == b"\0"
        until(firewall.leases, "the knock has opened")
        assert {(lease.port, lease.by) for lease in firewall.leases()} == {
            (port, "kernel sequence") for port in (SSH, DNS)
        }
        # tcp/9000 was the last knock: it came to 9000, and to no door.
        assert firewall.shadow().passed == firewall.shadow().dropped == {}
        source = OTHER[family]
        with client.network:
            for port in (7000, 9000):
                assert look(HOST[family], port, source=source) == "open"
        assert client.seen(22, CLIENT[family]) == "open"
        assert told(firewall.shadow().sources) == {(CLIENT[family], "tcp/22", 1, False)}
        load(firewall, gate())
        with client.network:
            assert look(HOST[family], 7000, source=source) == "silent"  # the control


@isolated
def test_the_last_knock_reaches_who_listens_there() -> None:
    """The one that opens: it has the port and the mark of before, also where it opens several ports."""
    with stage(9000) as (client, firewall):
        load(firewall, gate("shadow = true"))
        nft(
            "add table inet after\nadd counter inet after seen\n"
            "add chain inet after after { type filter hook prerouting priority -150; }\n"
            "add rule inet after after tcp dport 9000 meta mark 0 counter name seen\n"
        )
        with client.network:
            for kind, port in ((socket.SOCK_STREAM, 7000), (socket.SOCK_DGRAM, 8000)):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.setblocking(False)
                    sock.connect_ex((HOST[4], port))
                    if kind == socket.SOCK_DGRAM:
                        sock.send(b"\0")
            assert firewall.leases() == []
            assert look(HOST[4], 9000) == "open"
        assert len(firewall.leases()) == 2
        assert "packets 0" not in run("nft", "list", "counter", "inet", "after", "seen")


@isolated
def test_one_door_in_shadow_and_another_shut() -> None:
    """The shut one stays shut, and the knocks of the one in shadow stay silent."""
    with stage(8080, 7000) as (client, firewall):
        load(firewall, gate(of_ssh="shadow = true"))
        assert client.all_seen(22) == ["open"] * 4
        assert client.all_seen(8080) == client.all_seen(7000) == ["silent"] * 4
        assert firewall.shadow().dropped == {SSH: 4}
        firewall.pause([SSH, WEB], 600)
        assert client.all_seen(22) == client.all_seen(8080) == ["open"] * 4
        assert firewall.shadow().dropped == {SSH: 4}  # while it is paused nobody would be kept out


@isolated
def test_there_is_room_for_so_many_sources_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """More sources than there is room for: they come in, and the port counts them."""
    monkeypatch.setattr("knockgate.firewall.doorway.SHADOW_SOURCES", 16)
    cable = Cable()
    with Nftables() as firewall:
        load(firewall, gate("shadow = true"))
        for number in range(40):
            cable.send(4, f"10.1.0.{number}", "t22")
            cable.send(6, f"fd00::1:{number:x}", "t8080")
        until(lambda: firewall.shadow().dropped == {SSH: 40, WEB: 40}, "all are counted")
        sources = firewall.shadow().sources
        assert len(sources) == 32 and all(each.connections == 1 for each in sources)
