"""Watching a door, on real sockets: open, closed or filtered, and after how long."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from tests.knockgate.client.wire import wire
from tests.netns import isolated, run, until

from knockgate.client.wait import connected, probe, wait_connected, wait_open
from knockgate.model import Port, Protocol

DOOR = Port(Protocol.TCP, 6500)
SHUT = "table inet test { chain door { type filter hook input priority 0; tcp dport 6500 %s; }; }"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@isolated
def test_a_port_is_open_closed_or_filtered(address: str) -> None:
    assert probe(address, DOOR) == "closed"
    with socket.create_server((address, 6500), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
        assert probe(address, DOOR) == "open"
        run("nft", SHUT % "drop")
        assert probe(address, DOOR, timeout=0.05) == "filtered"
        run("nft", "flush", "chain", "inet", "test", "door")
        run("nft", SHUT % "reject with icmpx admin-prohibited")
        assert probe(address, DOOR) == "filtered"  # somebody on the way says no


@isolated
def test_a_connection_to_itself_is_no_open_door() -> None:
    """With one port to send from, a probe of that port over loopback connects to itself."""
    run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40000")
    with socket.socket() as control:
        control.connect(("127.0.0.1", 40000))
        assert control.getsockname() == control.getpeername()
    assert probe("::1", Port(Protocol.TCP, 40000)) == "closed"


@isolated
def test_it_sees_a_door_open_long_before_a_syn_would_be_repeated() -> None:
    """One connection made at the same moment is the control: its own repetition takes the second."""
    run("nft", SHUT % "drop")
    connected: list[float] = []

    def plain_client() -> None:
        with socket.create_connection(("127.0.0.1", 6500), timeout=20):
            connected.append(time.monotonic())

    with socket.create_server(("127.0.0.1", 6500)):
        plain = threading.Thread(target=plain_client)
        start = time.monotonic()
        plain.start()
        opening = threading.Timer(0.2, run, ["nft", "flush", "chain", "inet", "test", "door"])
        opening.start()
        answer = wait_open("127.0.0.1", DOOR, since=start, timeout=20)
        opening.join()
        plain.join()
    assert answer.state == "open"
    assert 0.2 <= answer.after < 0.9
    assert connected[0] - start > 0.95


@isolated
def test_a_wait_ends_at_its_time_with_the_newest_answer() -> None:
    shown: list[float] = []
    begin = time.monotonic()
    answer = wait_open("127.0.0.1", DOOR, since=begin - 5, timeout=0.3, on_wait=shown.append)
    assert 0.3 <= time.monotonic() - begin < 3
    assert answer.state == "closed" and 5.3 <= answer.after < 8
    assert shown == sorted(shown) and shown[-1] > 0.1
    run("nft", SHUT % "drop")
    assert wait_open("127.0.0.1", DOOR, since=begin, timeout=0.1).state == "filtered"


@isolated
def test_probes_come_ever_more_slowly_and_none_is_left_behind() -> None:
    run("nft", SHUT % "drop")
    with wire() as lo:
        wait_open("127.0.0.1", DOOR, since=time.monotonic(), timeout=1.5)
        first = len(lo.openings())
        assert 20 < first < 60
        with socket.socket() as control:
            control.setblocking(False)
            control.connect_ex(("127.0.0.1", 6500))
            seen: list[str] = []

            def control_came_twice() -> bool:
                seen.extend(lo.steps())
                return len(seen) >= 2

            until(control_came_twice, "the control's SYN is repeated")
        assert seen == ["tcp/6500", "tcp/6500"]  # one SYN twice, and none of a probe


@isolated
def test_the_connection_that_was_found_can_be_kept_and_nothing_else_is() -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = files()
    assert connected("127.0.0.1", DOOR) == ("closed", None)
    answer, connection = wait_connected("127.0.0.1", DOOR, since=time.monotonic(), timeout=0.05)
    assert (answer.state, connection) == ("closed", None)
    run("nft", SHUT % "drop")
    opening = threading.Timer(0.1, run, ["nft", "flush", "chain", "inet", "test", "door"])
    with socket.create_server(("127.0.0.1", 6500)) as service:
        assert connected("127.0.0.1", DOOR, timeout=0.05) == ("filtered", None)
        opening.start()
        answer, late = wait_connected("127.0.0.1", DOOR, since=time.monotonic(), timeout=20)
        opening.join()
        state, early = connected("127.0.0.1", DOOR)
        assert (answer.state, state) == ("open", "open")
        assert files() == before + 3  # the service and these two: no probe is left
        for connection in (late, early):
            assert connection is not None
            with connection, service.accept()[0] as served:
                assert served.getpeername() == connection.getsockname()
                served.sendall(b"usable")
                connection.settimeout(20)
                assert connection.recv(99) == b"usable"
    assert files() == before
