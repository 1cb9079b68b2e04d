"""Sealed packets in a capture: what they open, and why others do not; beside each a packet that does."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from tests.knockgate.mechanisms.sealed_gate import LIVE, NOW, SECOND, line, token
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.packets import ipv4, ipv6, raw, tcp, udp

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured
from knockgate.config.doors import Configuration, parse
from knockgate.config.keys import SshKeys
from knockgate.daemon.parties import parties_of
from knockgate.firewall.memory import Place, Verdict
from knockgate.mechanisms.parties import Line
from knockgate.mechanisms.sealed import LiveCard, Standing
from knockgate.simulate.sealed import SealedKeys
from knockgate.simulate.simulation import Simulation, Step
from knockgate.spa.sealed import GateKey, KeyKind, Message, SourceKind, Suite, device_row, seal

HOST, CLIENT, OTHER, CLIENT6, HOST6 = "10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::2", "fd00::1"
GATE = """
[doors.ssh]
ports = ["tcp/22"]
lease = "30s"
longest = "10m"
commands.open = ["/usr/bin/logger", "open for %IP%"]
commands.close = ["/usr/bin/logger", "shut for %IP%"]
[doors.safe]
ports = ["tcp/23"]
[doors.safe.sealed]
touch = true
[doors.home]
ports = ["tcp/24"]
[doors.home.sealed]
devices = "known"
[keys.people]
ssh = "/nowhere"
doors = ["ssh", "safe", "home"]
"""
SALT = bytes(range(32))
KNOWN, BARRED = b"k" * 16, b"b" * 16
ECDSA = "SHA256:" + base64.b64encode(signers.fingerprint(KeyKind.ECDSA_P256)).decode().rstrip("=")
NAME = "people/jo@laptop SHA256:WYVlk+8XVF"


def knock(message: Message | None = None, *, suite: Suite = Suite.XWING, **changes: Any) -> bytes:  # noqa: ANN401
    return seal(message or signed(**changes), messages.CARD, suite)


def signed(**changes: Any) -> Message:  # noqa: ANN401 - whatever a Head has
    return messages.signed(**({"address": raw(CLIENT)} | changes))


class Replay:
    """A capture that began at NOW, packet by packet."""

    def __init__(
        self, *lines: Line, gate: str = GATE, cards: Sequence[LiveCard] = (LIVE,), **changes: object
    ) -> None:
        found = parse(gate)
        self._lines = lines or (line(party=people(found)),)
        keys = SealedKeys(
            cards,
            lambda digest: [each for each in self._lines if each.entry.key.fingerprint == digest],
            tuple(Suite),
            {device_row(SALT, KNOWN): Standing.KNOWN, device_row(SALT, BARRED): Standing.BARRED},
            SALT,
        )
        keys = dataclasses.replace(keys, **changes)  # type: ignore[arg-type]
        self._simulation = Simulation(found, sealed=keys)
        self._number = 0
        self.feed(ipv4(tcp(5000), 6, source=OTHER, destination=HOST))  # so that the capture has begun

    def feed(self, packet: bytes, at: float = 0.0, *, length: int | None = None) -> Step:
        self._number += 1
        stamp = round((NOW + at) * SECOND)
        captured = Captured(self._number, stamp, packet, length or len(packet), Way.UNKNOWN)
        return self._simulation.feed(captured)

    def hear(self, payload: bytes, at: float = 0.0, *, source: str = CLIENT, port: int = 62202) -> Step:
        return self.feed(datagram(payload, source=source, port=port), at)

    def opens(self, at: float = 0.0, **changes: Any) -> bool:  # noqa: ANN401 - whatever a Head has
        """The control: a knock of now that nothing is wrong with."""
        issued = messages.HEAD.issued + round(at * SECOND)
        return self.hear(knock(issued=issued, device=b"c" * 16, **changes), at).opened == ("ssh",)


def datagram(payload: bytes, *, source: str = CLIENT, port: int = 62202) -> bytes:
    if ":" in source:
        return ipv6(udp(port, payload=payload), 17, source=source, destination=HOST6)
    return ipv4(udp(port, payload=payload), 17, source=source, destination=HOST)


def people(found: Configuration, **changes: Any) -> Any:  # noqa: ANN401
    doors = tuple(door.name for door in found.doors)
    keys = SshKeys(name="people", ssh=(), doors=doors, **changes)
    return parties_of(found, [keys])["people"]


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_a_packet_opens_and_its_replay_does_not(client: str, suite: Suite) -> None:
    replay = Replay()
    kind = SourceKind.V6 if ":" in client else SourceKind.V4
    packet = knock(suite=suite, source=kind, address=raw(client), lease=120)
    step = replay.hear(packet, source=client)
    assert (step.verdict, step.place, step.opened) == (Verdict.DROPPED, Place.KNOCK, ("ssh",))
    assert step.why.endswith(f"; a sealed packet of {NAME}")
    assert step.effects == (
        f"opens ssh for {client}, 2m",
        f"runs /usr/bin/logger 'open for {client}'",
        f"after 2m /usr/bin/logger 'shut for {client}'",
    )
    make, host = (ipv6, HOST6) if ":" in client else (ipv4, HOST)
    passed = replay.feed(make(tcp(22), 6, source=client, destination=host), 1.0)
    assert passed.verdict is Verdict.PASSED and passed.why == "door ssh: a lease for 119.000 s more"
    again = replay.hear(packet, 2.0, source=client)
    assert (
        not again.opened
        and "; a packet is refused: duplicate: it came before, to the byte (from" in again.why
    )
    elsewhere = replay.hear(packet, 2.0, source=OTHER)
    assert not elsewhere.opened and "to the byte, from another sender (from 10.0.0.3)" in elsewhere.why
    sealed_anew = knock(suite=suite, source=kind, address=raw(client), lease=120)
    again = replay.hear(sealed_anew, 3.0, source=client)
    assert not again.opened and f"a sealed packet of {NAME} is refused: replayed: " in again.why


def test_an_address_that_was_not_named_and_a_network() -> None:
    replay = Replay()
    step = replay.hear(knock(source=SourceKind.OBSERVED, address=b""), source=OTHER)
    assert step.effects[0] == f"opens ssh for {OTHER}, 30s"
    address = raw(CLIENT6)[:8] + bytes(8)
    step = replay.hear(knock(source=SourceKind.V6_NETWORK, address=address, device=b"d" * 16))
    assert step.effects[0] == "opens ssh for fd00::/64, 30s"
    neighbour = ipv6(tcp(22), 6, source="fd00::99", destination=HOST6)
    assert replay.feed(neighbour, 1.0).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("changes", "at", "why"),
    [
        ({}, 61, f"a sealed packet of {NAME} is refused: stale: it is too old; its clock is 61s behind ours"),
        (
            {"issued": messages.HEAD.issued + 61 * SECOND},
            0,
            f"{NAME} is refused: ahead: it is dated ahead of us; its clock is 61s ahead of ours",
        ),
        ({"doors": ("shed", "ssh")}, 0, "is refused: door-denied: the key does not open that door"),
        ({"doors": ("safe",)}, 0, "no-touch: no token was touched for it, and one has to be: safe"),
        ({"doors": ("home",)}, 0, "unknown-device: it is for known devices alone, and this one is not: home"),
        ({"device": BARRED}, 0, "unknown-device: its device is shut out"),
        (
            {"kind": KeyKind.ECDSA_P256},
            0,
            f"the card everybody that names the key {ECDSA} is refused: unknown-key: nobody may come in",
        ),
        (
            {"by": GateKey(xwing_seed=b"o" * 32, x25519_key=b"p" * 32)},
            0,
            "bad-signature: the SSH key that it names has not signed it for this gate",
        ),
    ],
)
def test_why_a_packet_opens_nothing(changes: dict[str, Any], at: float, why: str) -> None:
    replay = Replay()
    step = replay.hear(knock(**changes), at)
    assert not step.opened and not step.effects and step.place is Place.KNOCK
    assert why in step.why
    assert replay.opens(at)


def test_a_device_that_is_known_and_a_token_that_was_touched() -> None:
    replay = Replay()
    assert replay.hear(knock(device=KNOWN, doors=("home",))).opened == ("home",)
    jo = people(parse(GATE))
    replay = Replay(line(kind=signers.SK_ED25519, party=jo))
    step = replay.hear(knock(token(0, address=raw(CLIENT), doors=("safe",))))
    assert not step.opened and "no-touch" in step.why
    assert replay.hear(knock(token(1, address=raw(CLIENT), doors=("safe",)))).opened == ("safe",)


def test_junk_other_lengths_other_ports_and_packets_cut_off() -> None:
    replay = Replay()
    right = knock()
    for length in (244, 246, 1332, 1334, 0):
        assert "no sealed packet has its length" in replay.hear(bytes(length)).why
    spoilt = replay.hear(right[:-1] + bytes([right[-1] ^ 1]))
    assert "a packet is refused: not-ours: it was made with none of the cards that are good now" in spoilt.why
    assert "packet" not in replay.hear(right, port=62201).why.replace("no port", "")
    whole = datagram(right)
    cut = replay.feed(whole[:100], length=len(whole))
    assert not cut.opened and "the capture has cut off what is in it" in cut.why
    assert replay.hear(right).opened == ("ssh",)


def test_what_is_off_or_over() -> None:
    """A suite that is off; a card, and a key, that ended before the capture, or after."""
    replay = Replay(suites=(Suite.X25519,))
    assert "no sealed packet has its length" in replay.hear(knock()).why
    assert replay.hear(knock(suite=Suite.X25519)).opened == ("ssh",)
    for ends, opened in ((NOW - 1, ()), (NOW + 3600, ("ssh",))):
        replay = Replay(cards=[dataclasses.replace(LIVE, ends=round(ends * SECOND))])
        assert replay.hear(knock()).opened == opened
    found = parse(GATE)
    for ends, opened in ((NOW - 1, ()), (NOW + 3600, ("ssh",))):
        party = dataclasses.replace(people(found), expires=ends)
        step = Replay(line(party=party)).hear(knock())
        assert step.opened == opened and ("key-expired" in step.why) is (not opened)


def test_without_the_gates_keys_it_is_an_ordinary_packet() -> None:
    simulation = Simulation(parse(GATE))
    packet = datagram(knock())
    step = simulation.feed(Captured(1, round(NOW * SECOND), packet, len(packet), Way.UNKNOWN))
    assert (step.verdict, step.opened) == (Verdict.DROPPED, ()) and "packet of" not in step.why
    assert Replay().hear(knock()).opened == ("ssh",)
