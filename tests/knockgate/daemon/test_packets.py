"""A running gate and packets: sniffed, claimed, opened; each refusal beside a knock that opens."""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import (
    CLIENT,
    CLIENT6,
    HOST,
    OTHER,
    Gate,
    all_leases,
    leases,
    network,
)
from tests.netns import isolated, until

from knockgate.model import Port, Protocol, address_text
from knockgate.spa.fwknop import Message, MessageType, Secret, seal

PORT = 62201
SSH, WEB = Port(Protocol.TCP, 22), Port(Protocol.TCP, 80)
ALICE, BOB = Secret(b"a" * 32, b"A" * 64), Secret(b"b" * 32, b"B" * 64)
DOORS = """
[doors.ssh]
ports = ["tcp/22"]
lease = "30s"
longest = "10m"
[doors.web]
ports = ["tcp/80", "udp/80"]
lease = "1h"
"""
OPENED = ("tcp/22", CLIENT, "packet")


def key(folder: Path, name: str, secret: Secret, *lines: str) -> str:
    """The table of a key whose secrets are written down."""
    path = folder / name
    hmac_key = base64.b64encode(secret.hmac_key or b"").decode()
    path.write_text(f"KEY_BASE64: {base64.b64encode(secret.key).decode()}\nHMAC_KEY_BASE64: {hmac_key}\n")
    path.chmod(0o600)
    return "\n".join([f'[keys.{name}]\nfwknop = "{path}"', *lines, ""])


def message(source: str = CLIENT, **change: object) -> Message:
    """Alice's request for ssh, now."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    asked = Message(
        nonce=f"{secrets.randbelow(10**16):016}",
        username="alice",
        issued=int(time.clock_gettime(time.CLOCK_REALTIME)),
        type=MessageType.ACCESS,
        address=socket.inet_pton(family, source),
        ports=(SSH,),
    )
    return replace(asked, **change)  # type: ignore[arg-type]


class Stage(running.Counted):
    """A gate with two keys, and a client that sends what it is told to."""

    def __init__(self, folder: Path, *, clock: str = "trusted", alice: str = "") -> None:
        keys = key(folder, "alice", ALICE, 'doors = ["ssh", "web"]', alice)
        keys += key(folder, "bob", BOB, 'doors = ["web"]')
        self.gate = Gate(folder, DOORS + keys)
        self.text = DOORS + keys
        self.gate.write(self.text, gate=f'clock = "{clock}"\n')

    def send(self, payload: bytes, *, source: str = CLIENT, port: int = PORT) -> None:
        running.send(payload, port=port, source=source)

    def knock(self, asked: Message, secret: Secret = ALICE, *, source: str = CLIENT) -> bytes:
        payload = seal(asked, secret, salt=secrets.token_bytes(8))
        self.send(payload, source=source)
        return payload


@contextlib.contextmanager
def stage(folder: Path, **options: str) -> Iterator[Stage]:
    with network():
        found = Stage(folder, **options)
        found.gate.start()
        yield found
        assert found.gate.end() == 0, found.gate.log()


def until_open(*expected: tuple[str, str, str]) -> None:
    until(lambda: leases() >= set(expected), f"{expected} are open")


@isolated
def test_a_packet_opens(tmp_path: Path) -> None:
    """IPv4 and IPv6, the door's lease or the time asked for, for oneself or for another address."""
    with stage(tmp_path) as gate:
        assert leases() == set()
        gate.knock(message())
        until_open(OPENED)
        (lease,) = all_leases()
        assert lease.lasts == 30 and 25 < lease.left <= 30
        gate.knock(message(type=MessageType.CLIENT_TIMEOUT_ACCESS, timeout=9999))
        until(lambda: all_leases()[0].lasts == 600, "as long as the door allows")
        gate.knock(message(CLIENT6, ports=(SSH, WEB)), source=CLIENT6)
        gate.knock(message(OTHER))
        until_open(
            ("tcp/22", CLIENT6, "packet"),
            ("tcp/80", CLIENT6, "packet"),
            ("udp/80", CLIENT6, "packet"),
            ("tcp/22", OTHER, "packet"),
        )
        status = gate.gate.status()
        assert status["packets"]["opened"] == 5 and status["packets"]["remembered"] == 4
        assert status["packets"]["refused"] == {}
        gate.gate.until_said(f"open ssh for {CLIENT} (packet of alice, 10m)")


@isolated
def test_what_is_refused_is_counted_and_told_if_it_is_authentic(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        now = message().issued
        gate.knock(message(), Secret(b"c" * 32, b"C" * 64))
        gate.until_refused("not-ours")
        for reason, asked, secret in (
            ("stale", message(issued=now - 500), ALICE),
            ("ahead", message(issued=now + 500), ALICE),
            ("port-denied", message(), BOB),
            ("unstated-source", message("0.0.0.0"), ALICE),
            ("type-denied", message(type=MessageType.COMMAND, ports=(), command=b"id"), ALICE),
            ("not-sealed", message(), Secret(b"c" * 32, ALICE.hmac_key)),
        ):
            gate.knock(asked, secret)
            gate.until_refused(reason)
        assert leases() == set()
        gate.gate.until_said("a knock of bob is refused: port-denied: the key does not open that: tcp/22")
        for side in ("behind", "ahead of"):  # "now" was a moment ago, and in whole seconds
            words = rf"its clock is (49|50)\ds {side} ours"
            until(lambda: re.search(words, gate.gate.log()), words)  # noqa: B023 - it is waited for
        recent = gate.gate.status()["packets"]["recent_refused"]
        assert [each["reason"] for each in reversed(recent)] == [
            "stale", "ahead", "port-denied", "unstated-source", "type-denied", "not-sealed",
        ]  # fmt: skip
        assert "not-ours" not in gate.gate.log()
        gate.knock(message())
        until_open(OPENED)


@isolated
def test_a_replay_opens_nothing(tmp_path: Path) -> None:
    """At once, from another address, after the gate was killed and after it was started anew."""
    with stage(tmp_path, alice="observed = true") as gate:
        mine = gate.knock(message())
        anybodys = gate.knock(message("0.0.0.0"))
        until_open(OPENED)
        until(lambda: len(gate.gate.status()["recent"]) == 2, "both have opened")
        with gate.gate.warden() as warden:
            warden.close(gate.gate.configuration(), None)
        assert leases() == set()

        def replay(times: int) -> None:
            for payload in (mine, anybodys):
                gate.send(payload)
                gate.send(payload, source=OTHER)
            gate.until_refused("replayed", times)
            assert leases() == set()

        replay(4)
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("reloaded")
        until(gate.gate.answers, "the listener answers")
        until(lambda: gate.refused() == {}, "a new listener")
        replay(4)
        assert gate.gate.end() == 0
        gate.gate.start()
        replay(4)
        gate.knock(message())  # the control
        until_open(OPENED)


@isolated
def test_a_replay_sent_without_end_is_told_of_once_a_while_and_keeps_nobody_out(tmp_path: Path) -> None:
    """It is turned away before its key is looked for; what resembles it is not."""
    with stage(tmp_path) as gate:
        taken = message()
        mine = gate.knock(taken)
        until_open(OPENED)
        for times in range(1, 6):
            gate.send(mine, source=OTHER)
            gate.until_refused("replayed", times)
        assert len(gate.gate.status()["packets"]["recent_refused"]) == 1
        gate.knock(taken)  # the same, sealed anew
        gate.until_refused("replayed", 6)
        assert len(gate.gate.status()["packets"]["recent_refused"]) == 2
        gate.knock(message(OTHER))
        until_open(("tcp/22", OTHER, "packet"))


@isolated
def test_an_unsure_clock_takes_any_date_but_no_replay(tmp_path: Path) -> None:
    with stage(tmp_path, clock="unknown") as gate:
        old = gate.knock(message(issued=1_000_000_000))
        until_open(OPENED)
        gate.send(old)
        gate.until_refused("replayed")
        gate.knock(message(OTHER, issued=4_000_000_000))
        until_open(OPENED, ("tcp/22", OTHER, "packet"))
        assert gate.gate.status()["packets"]["synchronised"] is False


@isolated
def test_the_port_is_silent_and_nothing_is_bound(tmp_path: Path) -> None:
    """A closed port answers with ICMP, this one does not; a socket that is connected hears of it."""
    with stage(tmp_path):

        def refused_by_icmp(port: int) -> bool:
            with running.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.3)
                sock.connect((HOST, port))
                sock.send(b"x" * 200)
                try:
                    sock.recv(1)
                except ConnectionRefusedError:
                    return True
                except TimeoutError:
                    return False
            raise AssertionError("an answer")

        assert refused_by_icmp(PORT + 1)
        assert not refused_by_icmp(PORT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", PORT))  # nobody else has it


@isolated
def test_keys_are_read_again_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        carol = Secret(b"c" * 32, b"C" * 64)
        gate.knock(message(), carol)
        gate.until_refused("not-ours")
        more = key(tmp_path, "carol", carol, 'doors = ["ssh"]')
        (tmp_path / "carol").chmod(0o644)
        gate.gate.write(gate.text + more)
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("not reloaded, all stays as it is")
        gate.gate.until_said("can be read by others")
        gate.knock(message(OTHER))
        until_open(("tcp/22", OTHER, "packet"))
        (tmp_path / "carol").chmod(0o600)
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("listening for the packets of 3 keys")
        gate.knock(message(), carol)
        until_open(OPENED)


@isolated
def test_commands_run_and_close_at_the_end_of_the_lease_asked_for(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    command = f'["/bin/sh", "-c", "echo $KNOCKGATE_EVENT %IP% >>{ran}"]'
    with stage(tmp_path) as gate:
        more = f'[doors.told]\nports = ["tcp/25"]\ncommands.open = {command}\ncommands.close = {command}\n'
        gate.gate.write(more + gate.text)
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("not reloaded")  # nobody's key opens it, and it has no sequence
        gate.gate.write(more + gate.text.replace('["web"]', '["web", "told"]'))
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("ready to run commands")
        gate.gate.until_said("listening for the packets of 2 keys", 2)
        smtp = Port(Protocol.TCP, 25)
        kind = MessageType.CLIENT_TIMEOUT_ACCESS
        gate.knock(message(ports=(smtp,), type=kind, timeout=1), BOB)
        until(lambda: ran.exists() and ran.read_text() == f"open {CLIENT}\nclose {CLIENT}\n", "both ran")
        gate.gate.until_said(f"open told for {CLIENT} (packet of bob, 1s)")


@isolated
def test_a_full_store_refuses_packets_and_nothing_else(tmp_path: Path) -> None:
    with stage(tmp_path, clock="unknown") as gate:
        sequence = (
            '[doors.more]\nports = ["tcp/25"]\n[doors.more.sequence]\nsteps = ["tcp/7000", "udp/7001"]\n'
        )
        gate.gate.write(f"{sequence}[fwknop]\nremembered = 16\n{gate.text}", gate='clock = "unknown"\n')
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("reloaded")
        until(gate.gate.answers, "the listener answers")
        for number in range(16):
            gate.knock(message(), source=CLIENT)
            until(lambda: gate.gate.status()["packets"]["remembered"] == number + 1, "it is remembered")  # noqa: B023
        until_open(OPENED)
        gate.knock(message(OTHER))
        gate.until_refused("store-full")
        assert not any(source == OTHER for _, source, _ in leases())
        with (
            running.client,
            socket.socket() as first,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
        ):
            first.setblocking(False)
            first.bind((OTHER, 0))
            first.connect_ex((HOST, 7000))
            second.bind((OTHER, 0))
            second.sendto(b"\0", (HOST, 7001))
        until_open(("tcp/25", OTHER, "kernel sequence"))
        assert address_text(all_leases()[0].source)


@isolated
def test_a_door_that_cannot_be_opened_is_not_counted_as_opened(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        gate.gate.write(gate.text, gate='clock = "trusted"\nleases = 16\n')
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("reloaded")
        until(gate.gate.answers, "the listener answers")
        for number in range(17):
            gate.knock(message(f"10.0.9.{number}"))
            until(lambda: gate.gate.status()["packets"]["remembered"] == number + 1, "it is claimed")  # noqa: B023
        gate.gate.until_said("ssh is not opened for 10.0.9.16: no room for another lease")
        assert len(leases()) == gate.gate.status()["packets"]["opened"] == 16


@isolated
def test_where_others_may_write_nothing_is_remembered(tmp_path: Path) -> None:
    """They could take the file away, and everything could be sent again."""
    folder = tmp_path / "state"
    with network():
        gate = Stage(tmp_path)
        folder.mkdir()
        folder.chmod(0o770)
        assert gate.gate.cannot_start() == (1, "refused: the listener cannot start")
        assert "its folder must be one that only who runs the gate may write to" in gate.gate.log()
        folder.chmod(0o755)
        gate.gate.start()
        gate.knock(message())
        until_open(OPENED)
        assert gate.gate.end() == 0
