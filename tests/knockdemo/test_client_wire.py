"""What the client sends, packet by packet, in a network namespace of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator

import pytest
from tests.knockdemo.knocking import (
    DEADLINE_S,
    PATH,
    SCRIPT,
    SYN,
    Host,
    Packet,
)


@pytest.fixture
def host() -> Iterator[Host]:
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    with contextlib.ExitStack() as stack:
        yield Host(stack)


@pytest.mark.parametrize(
    ("address", "source"), [("127.0.0.1", "127.0.0.1"), ("fd00::1", "fd00::1"), ("::1", "::1")]
)
@pytest.mark.parametrize("is_filtered", [False, True])
def test_one_step_is_one_packet_in_order(host: Host, address: str, source: str, is_filtered: bool) -> None:
    if is_filtered:
        host.drop("7000, 9000")
    wire = host.wire()
    result = host.knock(address, "7000", "8000/udp", "9000", "7000", "--delay", "50")
    assert result.returncode == 0, result.stderr
    seen = wire.until_now()
    assert [packet.step for packet in seen] == ["7000/tcp", "8000/udp", "9000/tcp", "7000/tcp"]
    assert [packet.flags for packet in seen] == [SYN, 0, SYN, SYN]
    assert [packet.payload for packet in seen] == ["", "00", "", ""]
    assert {(packet.source, packet.target) for packet in seen} == {(source, address)}


def test_the_delay_is_kept_between_steps(host: Host) -> None:
    wire = host.wire()
    assert host.knock("127.0.0.1", "--delay", "300").returncode == 0
    slow = [packet.seen_at for packet in wire.until_now()]
    assert host.knock("127.0.0.1", "--delay", "0").returncode == 0
    fast = [packet.seen_at for packet in wire.until_now()]
    assert len(slow) == len(fast) == 3
    # Half of it, because the watcher's own times are late by what the machine's load makes them.
    assert min(slow[1] - slow[0], slow[2] - slow[1]) > 0.15
    assert fast[2] - fast[0] < 0.15


@pytest.mark.parametrize(("address", "source"), [("127.0.0.1", "127.0.0.7"), ("fd00::1", "fd00::2")])
def test_the_source_is_honoured_in_every_packet(host: Host, address: str, source: str) -> None:
    wire = host.wire()
    arguments = ["7000", "8000/udp", "--delay", "1", "--check", "6500", "--timeout", "0.1", "--json"]
    result = host.knock(address, *arguments, "--source", source)
    assert (result.returncode, json.loads(result.stdout)["source"]) == (1, source)
    seen = wire.until_now()
    assert {packet.step for packet in seen} == {"7000/tcp", "8000/udp", "6500/tcp"}
    assert {packet.source for packet in seen} == {source}
    result = host.knock(address, *arguments)
    assert (result.returncode, json.loads(result.stdout)["source"]) == (1, address)
    assert {packet.source for packet in wire.until_now()} == {address}


def test_no_syn_is_ever_repeated(host: Host) -> None:
    """Beside a connection that is left open: the kernel repeats its SYN after 1 s."""
    host.drop("7000, 8000, 9000, 9999")
    wire = host.wire()
    assert host.knock("127.0.0.1", "--delay", "10").returncode == 0
    assert [packet.port for packet in wire.until_now()] == [7000, 8000, 9000]
    host.start(sys.executable, "-c", 'import socket; socket.socket().connect(("127.0.0.1", 9999))')
    # By the time that the control is repeated, any repetition of the knock would have come.
    openings = wire.openings()
    assert [next(openings).port, next(openings).port] == [9999, 9999]


def test_probes_start_after_the_knock_and_see_the_door_open(host: Host) -> None:
    host.drop("6500")
    wire = host.wire()
    listen = (
        'import socket; s = socket.create_server(("127.0.0.1", 6500)); print("ready", flush=True); s.accept()'
    )
    service = host.start(sys.executable, "-c", listen)
    assert service.stdout is not None
    assert service.stdout.readline() == "ready\n"
    knocking = host.start(
        sys.executable, SCRIPT, "127.0.0.1", "--delay", "10", "--check", "6500", "--timeout", "15", "--json"
    )
    seen: list[Packet] = []
    for packet in wire.openings():
        seen.append(packet)
        if len(seen) == 10:
            break
    assert [packet.port for packet in seen] == [7000, 8000, 9000] + [6500] * 7
    opening_at = time.monotonic()
    host.nft("flush chain inet test input")
    out, err = knocking.communicate(timeout=DEADLINE_S)
    ended_at = time.monotonic()
    assert (knocking.returncode, err) == (0, "")
    check = json.loads(out)["check"]
    assert check["open"] is True
    # It counts from the last knock: neither shorter than the door was shut nor longer than the wait was.
    assert opening_at - seen[2].seen_at <= check["ms"] / 1000 <= ended_at - seen[1].seen_at


@pytest.mark.parametrize("address", ["127.0.0.1", "fd00::1"])
def test_check_calls_silence_filtered_and_refusal_closed(host: Host, address: str) -> None:
    host.drop("6500")
    result = host.knock(address, "--delay", "1", "--check", "6500", "--timeout", "1.2")
    assert result.returncode == 1
    # 1.2 s and what a busy machine adds to it.
    assert re.match(r"6500/tcp is still filtered, 1\.[2-9] s", result.stdout.splitlines()[1])
    assert result.stderr.startswith("  hint: wrong ports, a lost or reordered packet")
    result = host.knock(address, "--delay", "1", "--check", "6501", "--timeout", "0.2")
    assert result.returncode == 1
    assert result.stdout.splitlines()[1].startswith("6501/tcp is still closed, 0.2 s")


def test_an_icmp_error_is_not_an_open_door(host: Host) -> None:
    host.nft("""
        table inet test {
            chain input {
                type filter hook input priority filter; policy accept;
                tcp dport 6500 reject with icmpx admin-prohibited
            }
        }""")
    result = host.knock("127.0.0.1", "--delay", "1", "--check", "6500", "--timeout", "0.2", "--json")
    assert (result.returncode, json.loads(result.stdout)["check"]["state"]) == (1, "filtered")


def test_a_connection_to_itself_is_not_an_open_door(host: Host) -> None:
    """With one port to send from, a probe of that port over loopback connects to itself."""
    host.do("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40000")
    itself = """if 1:
        import socket
        sock = socket.socket()
        sock.settimeout(5)
        sock.connect(("127.0.0.1", 40000))
        print(sock.getsockname() == sock.getpeername())"""
    assert host.run(sys.executable, "-c", itself).stdout == "True\n"
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import client; print(client.probe('::1', 40000))"
    assert host.run(sys.executable, "-c", probe, SCRIPT.resolve().parent).stdout == "closed\n"


@pytest.mark.parametrize(
    ("arguments", "step", "reason", "hint"),
    [
        (["203.0.113.9"], "step 1 (7000/tcp)", "network is unreachable", "no way to 203.0.113.9"),
        (["2001:db8::9", "5/udp"], "step 1 (5/udp)", "network is unreachable", "no way to 2001:db8::9"),
        (["192.0.2.9"], "step 1 (7000/tcp)", "no route to host", "no way to 192.0.2.9"),
        (["198.51.100.9"], "step 1 (7000/tcp)", "permission denied", "policy"),
        (["127.0.0.1", "7000", "7001/udp"], "step 2 (7001/udp)", "operation not permitted", "firewall"),
    ],
)
def test_a_knock_that_cannot_leave_names_its_step(
    host: Host, arguments: list[str], step: str, reason: str, hint: str
) -> None:
    host.do("ip", "route", "add", "unreachable", "192.0.2.0/24")
    host.do("ip", "route", "add", "prohibit", "198.51.100.0/24")
    host.nft("""
        table inet test {
            chain output {
                type filter hook output priority filter; policy accept;
                udp dport 7001 drop
            }
        }""")
    result = host.knock(*arguments, "--delay", "1")
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == f"knock-client: {step} could not be sent to {arguments[0]}: {reason}"
    assert hint in second
    assert host.knock("127.0.0.1", "7000", "7002/udp", "--delay", "1").returncode == 0


def test_the_first_knock_arrives_where_the_neighbour_is_not_yet_known(host: Host) -> None:
    """Closing at once must not lose a SYN that waits for ARP: it does not, and the order is kept."""
    with contextlib.ExitStack() as stack:
        # A second namespace inside the first one's rights, joined by a cable.
        other = Host.__new__(Host)
        other.stack = stack
        other.holder = other._start(host.inside("unshare", "-n", "sh", "-c", "echo ready && exec cat"))
        assert other.holder.stdout is not None
        assert other.holder.stdout.readline() == "ready\n"
        host.do(
            "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(other.holder.pid)
        )
        for end, name, address in ((host, "near", "10.9.9.1/24"), (other, "far", "10.9.9.2/24")):
            end.do("ip", "address", "add", address, "dev", name)
            end.do("ip", "link", "set", name, "up")
        wire = other.wire("far")
        assert "10.9.9.2" not in host.run("ip", "neighbour").stdout
        assert host.knock("10.9.9.2", "7000", "8000/udp", "9000", "--delay", "0").returncode == 0
        openings = wire.openings()
        assert [next(openings).step for _ in range(3)] == ["7000/tcp", "8000/udp", "9000/tcp"]
