"""Packets of fwknop's in a capture: what they open, and why others do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.packets import ipv4, ipv6, raw, udp

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured
from knockgate.config.doors import parse
from knockgate.firewall.memory import Place, Verdict
from knockgate.mechanisms import packet as mechanism
from knockgate.model import Port, Protocol
from knockgate.simulate.simulation import Simulation, Step
from knockgate.spa.fwknop import Message, MessageType, Secret, seal

NOW = 1_800_000_000
HOST, CLIENT, CLIENT6, HOST6 = "10.0.0.1", "10.0.0.2", "fd00::2", "fd00::1"
GATE = """
[doors.ssh]
ports = ["tcp/22"]
lease = "30s"
longest = "10m"
commands.open = ["/usr/bin/logger", "open for %IP%"]
commands.close = ["/usr/bin/logger", "shut for %IP%"]
[keys.alice]
fwknop = "/etc/knockgate/alice.secrets"
doors = ["ssh"]
"""
SSH = Port(Protocol.TCP, 22)
ALICE = Secret(b"a" * 32, b"A" * 64)
MESSAGE = Message(
    nonce="1234567890123456",
    username="alice",
    issued=NOW,
    type=MessageType.CLIENT_TIMEOUT_ACCESS,
    address=raw(CLIENT),
    ports=(SSH,),
    timeout=120,
)


class Replay:
    """A capture that began at NOW, packet by packet."""

    def __init__(self) -> None:
        alice = mechanism.Bearer("alice", ALICE, {SSH: mechanism.Way("ssh", 30.0, 600.0, runs_commands=True)})
        self._simulation = Simulation(parse(GATE), bearers=[alice])
        self._number = 0

    def feed(self, packet: bytes, at: float = 0.0, *, length: int | None = None) -> Step:
        self._number += 1
        stamp = round((NOW + at) * 10**9)
        return self._simulation.feed(
            Captured(self._number, stamp, packet, length or len(packet), Way.UNKNOWN)
        )


def knock(message: Message = MESSAGE, secret: Secret = ALICE, *, port: int = 62201) -> bytes:
    payload = seal(message, secret, salt=bytes(8))
    if len(message.address) == 16:
        return ipv6(udp(port, payload=payload), 17, source=CLIENT6, destination=HOST6)
    return ipv4(udp(port, payload=payload), 17, source=CLIENT, destination=HOST)


@pytest.mark.parametrize("address", [CLIENT, CLIENT6])
def test_a_packet_opens_and_its_replay_does_not(address: str) -> None:
    replay = Replay()
    packet = knock(replace(MESSAGE, address=raw(address)))
    step = replay.feed(packet)
    assert step.verdict is Verdict.DROPPED and step.opened == ("ssh",)
    assert step.why.endswith("; a packet of alice")
    assert step.effects == (
        f"opens ssh for {address}, 2m",
        f"runs /usr/bin/logger 'open for {address}'",
        f"after 2m /usr/bin/logger 'shut for {address}'",
    )
    again = replay.feed(packet, 1.0)
    assert not again.opened and "alice is refused: replayed: it was sent before" in again.why


@pytest.mark.parametrize(
    ("change", "secret", "at", "why"),
    [
        ({}, Secret(b"b" * 32, b"B" * 64), 0, "a packet is refused: not-ours"),
        ({}, ALICE, 130, "stale: it is too old; its clock is 130s behind ours"),
        ({"issued": NOW + 500}, ALICE, 0, "ahead: it is dated ahead of us; its clock is 500s ahead of ours"),
        ({"ports": (Port(Protocol.TCP, 23),)}, ALICE, 0, "port-denied: the key does not open that: tcp/23"),
        ({"address": bytes(4)}, ALICE, 0, "unstated-source"),
    ],
)
def test_why_a_packet_opens_nothing(change: dict[str, object], secret: Secret, at: float, why: str) -> None:
    replay = Replay()
    replay.feed(knock(port=62200))  # so that the capture has begun
    step = replay.feed(knock(replace(MESSAGE, **change), secret), at)  # type: ignore[arg-type]
    assert not step.opened and step.place is Place.KNOCK and why in step.why
    fresh = replace(MESSAGE, nonce="0000000000000001", issued=NOW + int(at))
    assert replay.feed(knock(fresh), at).opened == ("ssh",)  # the control


def test_other_ports_and_packets_cut_off() -> None:
    replay = Replay()
    assert "packet of" not in replay.feed(knock(port=62200)).why
    whole = knock()
    cut = replay.feed(whole[:100], length=len(whole))
    assert not cut.opened and "has cut off what is in it" in cut.why
    assert replay.feed(whole).opened == ("ssh",)
