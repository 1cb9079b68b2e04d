from __future__ import annotations

import pytest
from tests.knockgate.firewall.cases import CASES, CONFIGURATION, SWEEP
from tests.packets import ACK, SYN, raw

from knockgate.config.doors import parse
from knockgate.firewall.memory import MemoryFirewall, Verdict
from knockgate.model import Observation, Port, Protocol


def observation(packet: str, source: str) -> Observation:
    kind, port = packet[0], int(packet[1:])
    flags = {"t": SYN, "a": ACK, "u": 0}[kind]
    return Observation(raw(source), raw("10.0.0.1"), 17 if kind == "u" else 6, 40000, port, flags, 40)


@pytest.mark.parametrize("name", CASES)
def test_it_opens_what_the_kernel_opens(name: str) -> None:
    """The same cases as in test_ruleset."""
    packets, expected = CASES[name]
    configuration = parse(CONFIGURATION)
    firewall = MemoryFirewall(configuration, lambda: 0.0)
    firewall.load("")
    for packet in packets.split():
        source = "10.2.0.1" if packet.startswith("!") else "10.1.0.1"
        firewall.judge(observation(packet.removeprefix("!"), source))
    open_ports = {lease.port for lease in firewall.leases() if lease.source == raw("10.1.0.1")}
    opened = {door.name for door in configuration.doors if door.ports and set(door.ports) <= open_ports}
    assert opened == set(expected.split())
    assert not [lease for lease in firewall.leases() if lease.source == raw("10.2.0.1")]


def test_a_sweep() -> None:
    configuration = parse(CONFIGURATION)
    firewall = MemoryFirewall(configuration, lambda: 0.0)
    firewall.load("")
    opened: set[str] = set()
    for packet in SWEEP.split():
        opened |= set(firewall.judge(observation(packet, "10.1.0.1")).opened)
    assert opened == {"low", "high", "short"}


def test_verdicts() -> None:
    now = 0.0
    firewall = MemoryFirewall(parse(CONFIGURATION), lambda: now)
    firewall.load("")

    def verdict(packet: str) -> Verdict:
        return firewall.judge(observation(packet, "10.1.0.1")).verdict

    assert verdict("t22") is Verdict.DROPPED
    assert verdict("t23") is Verdict.PASSED
    assert [verdict(packet) for packet in ("t7000", "u8000", "t9000")] == [Verdict.DROPPED] * 3
    assert verdict("t22") is Verdict.PASSED
    now = 60.0
    assert verdict("t22") is Verdict.DROPPED


def test_a_door_in_shadow_counts_but_not_while_it_is_paused() -> None:
    """As in the kernel (test_shadow)."""
    now, ssh = 0.0, Port(Protocol.TCP, 22)
    firewall = MemoryFirewall(parse('[doors.ssh]\nports = ["tcp/22"]\nshadow = true\n'), lambda: now)
    firewall.load("")

    def counts() -> tuple[dict[Port, int], dict[Port, int]]:
        assert firewall.judge(observation("t22", "10.1.0.1")).verdict is Verdict.PASSED
        found = firewall.shadow()
        return dict(found.dropped), dict(found.passed)

    assert counts() == ({ssh: 1}, {})
    firewall.pause([ssh], 60)
    assert counts() == ({ssh: 1}, {})
    now = 60.0
    assert counts() == ({ssh: 2}, {})
    firewall.open([ssh], raw("10.1.0.1"), 60, "hand")
    assert counts() == ({ssh: 2}, {ssh: 1})


def test_a_network_is_let_in_and_its_neighbours_are_not() -> None:
    """As in the kernel (test_guard)."""
    now = 0.0
    firewall = MemoryFirewall(parse(CONFIGURATION), lambda: now)
    firewall.load("")

    def verdicts() -> list[Verdict]:
        sources = "fd00::2", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::2"
        return [firewall.judge(observation("t22", source)).verdict for source in sources]

    assert verdicts() == [Verdict.DROPPED] * 3
    firewall.open([Port(Protocol.TCP, 22)], raw("fd00::")[:8], 60, "packet")
    assert verdicts() == [Verdict.PASSED, Verdict.PASSED, Verdict.DROPPED]
    now = 60.0
    assert verdicts() == [Verdict.DROPPED] * 3


def test_there_is_room_for_so_many() -> None:
    """As in the kernel: a first tier, a second one for a second at most, and then nothing; and for leases."""
    now = 0.0
    gate = """
    [gate]
    sources = 16
    hurried = 16
    leases = 16
    [doors.ssh]
    ports = ["tcp/22"]
    lease = "1h"
    sequence = { steps = ["tcp/7000", "tcp/8000"], within = "20s" }
    """
    firewall = MemoryFirewall(parse(gate), lambda: now)
    firewall.load("")

    def knock(port: int, number: int) -> str:
        return firewall.judge(observation(f"t{port}", f"10.3.0.{number}")).why

    assert {knock(7000, number) for number in range(32)} == {"a first knock"}
    assert knock(7000, 32) == "a first knock, but no room to remember it"
    now = 1.5  # those of the second tier are forgotten, and their places free
    assert knock(8000, 20) == "a knock out of turn"
    assert knock(7000, 20) == "a first knock"
    assert {knock(8000, number) for number in range(16)} == {"the last knock"}
    assert knock(8000, 20) == "the last knock, but no room for another lease"
    assert len(firewall.leases()) == 16
