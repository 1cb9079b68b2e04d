"""Thousands who knock in the same moment, all of them with the right to, at a listener and at the kernel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import SEALED_PORT, tcp_ip, udp_ip, wire
from tests.attacks.lived import Device
from tests.knockgate.daemon.running import Gate, network
from tests.knockgate.daemon.sealed_stage import make_gate, now
from tests.knockgate.spa.sshkeys.signers import signer, text
from tests.netns import Sender, isolated, own_mounts, stay_on_one_core, until

from knockgate.firewall.nftables import Nftables
from knockgate.model import address_text
from knockgate.spa.sshkeys import Kind

_LINES = 2500  # of a file: it has at most 256 KiB
_TEXT = """
[doors.ssh]
ports = ["tcp/22"]
lease = "1h"
[doors.web]
ports = ["tcp/80"]
lease = "1h"
sequence = {{ steps = ["tcp/7000", "udp/7001", "tcp/7002"], within = "1m" }}
[sealed]
budget = {budget}
[keys.people]
ssh = {files}
doors = ["ssh"]
leases_in_all = 100000
"""
_AT_ONCE = 1.0  # seconds to a lease, on a machine that others keep busy
_GROWTH = 64 * 1024  # KiB
_AGAIN, _ROUNDS = 2000, 40  # of those who knock again, in one moment; and how often
SIZES = pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.long)])


class Crowd:
    """A gate, and so many people who may come in, each with a key and an address."""

    def __init__(self, folder: Path, number: int, budget: int) -> None:
        self.devices = [Device(signer(Kind.ED25519, 1000 + each), each + 1) for each in range(number)]
        files = []
        for begin in range(0, number, _LINES):
            lines = [text(each.signer.public) for each in self.devices[begin : begin + _LINES]]
            files.append(str(folder / f"people{begin}"))
            Path(files[-1]).write_bytes(b"\n".join(lines) + b"\n")
            Path(files[-1]).chmod(0o600)
        make_gate(folder)
        self.gate = Gate(folder)
        self.gate.write(_TEXT.format(budget=budget, files=files), gate='clock = "trusted"\n')
        self.gate.start()
        self._listener = self.gate.halves()["listener"]

    def knock_of(self, number: int) -> bytes:
        return udp_ip(
            SEALED_PORT, address(number), self.devices[number].makes(now() / 10**9, address(number))
        )

    def status(self) -> dict[str, Any]:
        return self.gate.status()

    def looked_at(self) -> int:
        """Packets that came to something: opened, refused, or lost for want of room."""
        status = self.status()
        sealed = status["sealed"]
        return int(sealed["opened"] + sum(sealed["refused"].values()) + status["heard"]["lost"])

    def memory_kb(self) -> int:
        """Of the listener."""
        said = Path(f"/proc/{self._listener}/status").read_text()
        return int(said.partition("VmRSS:")[2].split()[0])


def address(number: int) -> str:
    return f"10.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


@contextlib.contextmanager
def crowd(folder: Path, number: int, budget: int = 50) -> Iterator[tuple[Crowd, Sender, Nftables]]:
    own_mounts()
    stay_on_one_core()
    with network(), Nftables(own=False) as table:
        found = Crowd(folder, number, budget)
        with wire() as cable:
            yield found, cable, table
        assert found.gate.end() == 0, found.gate.log()


def inside(table: Nftables, port: int) -> list[str]:
    """Each lease; nobody has two."""
    found = [address_text(each.source) for each in table.leases() if each.port.number == port]
    assert len(found) == len(set(found))
    return found


def _sent(cable: Sender, packets: Sequence[bytes]) -> float:
    """Seconds that it took to send them, which is at once."""
    began = time.monotonic()
    for each in packets:
        cable.send(each)
    return time.monotonic() - began


def _opens_at_once(gate: Crowd, cable: Sender, table: Nftables, number: int, source: str) -> float:
    """An ordinary knock; the key's pace and the card's budget are those of somebody after a moment."""

    def knock() -> bool:
        before, opened = gate.looked_at(), gate.status()["sealed"]["opened"]
        cable.send(udp_ip(SEALED_PORT, source, gate.devices[number].makes(now() / 10**9, source)))
        until(lambda: gate.looked_at() > before, "it is looked at")
        return bool(gate.status()["sealed"]["opened"] > opened)

    began = time.monotonic()
    until(knock, "an ordinary knock opens")
    seconds = time.monotonic() - began
    assert source in inside(table, 22)
    return seconds


@SIZES
@isolated
def test_as_many_as_the_budget_allows(number: int, tmp_path: Path) -> None:
    """100 at once and 50 a second for one card; the others are counted, and may knock again."""
    with crowd(tmp_path, number) as (gate, cable, table):
        packets = [gate.knock_of(each) for each in range(number)]
        before, began = gate.memory_kb(), time.monotonic()
        sending = _sent(cable, packets)
        until(lambda: gate.looked_at() == number, "all are looked at", 120)
        drained = time.monotonic() - began
        sealed, lost = gate.status()["sealed"], gate.status()["heard"]["lost"]
        allowed = 100 + 50 * drained
        assert min(100, number - lost) <= sealed["opened"] == len(inside(table, 22)) <= allowed
        assert sealed["refused"] == {"over-budget": number - lost - sealed["opened"]}
        ordinary = _opens_at_once(gate, cable, table, 0, "10.200.0.1")
        grown = gate.memory_kb() - before
        assert ordinary < _AT_ONCE and grown < _GROWTH
        figure(
            "crowd.sealed knocks at once, with a budget of 50 a second",
            tries=number,
            wrongly=max(0, sealed["opened"] - round(allowed)),
            rightly=sealed["opened"] + 1,
            control="as many as the budget allows open, and an ordinary knock behind them",
            sending_s=round(sending, 3),
            looked_at_within_s=round(drained, 3),
            over_budget=sealed["refused"]["over-budget"],
            lost_for_want_of_room=lost,
            memory_more_kb=grown,
            ordinary_knock_ms=round(1000 * ordinary, 1),
        )


@SIZES
@isolated
def test_everybody(number: int, tmp_path: Path) -> None:
    """Where the budget is no limit all get in; whose knock was lost for want of room knocks again."""
    with crowd(tmp_path, number, budget=10_000) as (gate, cable, table):
        before, began, sent = gate.memory_kb(), time.monotonic(), 0
        waiting, first, lost, rounds = (
            list(range(number)),
            [gate.knock_of(each) for each in range(number)],
            0,
            0,
        )
        drained = drained_first = 0.0
        packets = first
        while waiting:
            rounds += 1
            assert rounds <= _ROUNDS, gate.status()
            began = time.monotonic()
            _sent(cable, packets)
            sent += len(packets)
            until(lambda: gate.looked_at() == sent, "all are looked at", 120)  # noqa: B023
            drained += time.monotonic() - began
            drained_first = drained_first or drained
            let_in = set(inside(table, 22))
            waiting = [each for each in waiting if address(each) not in let_in]
            packets = [gate.knock_of(each) for each in waiting[:_AGAIN]]
        status = gate.status()
        lost = status["heard"]["lost"]
        refused = status["sealed"]["refused"]  # on a busy machine some are old before all are made
        assert status["sealed"]["opened"] == number and refused.keys() <= {"stale"}
        assert sent == number + lost + sum(refused.values())
        ordinary = _opens_at_once(gate, cable, table, 0, "10.200.0.1")
        grown = gate.memory_kb() - before
        opened = gate.status()["sealed"]["opened"]
        for each in first[:200]:  # nothing opens twice
            cable.send(each)
        until(lambda: gate.looked_at() == sent + 201, "the replays are looked at")
        assert gate.status()["sealed"]["opened"] == opened
        assert ordinary < _AT_ONCE and grown < _GROWTH
        figure(
            "crowd.sealed knocks at once, with no budget; then 200 of them again",
            tries=number + 200,
            wrongly=gate.status()["sealed"]["opened"] - opened,
            rightly=opened,
            control="all of them open, with further tries where there was no room; an ordinary knock too",
            looked_at_within_s=round(drained_first, 3),
            all_in_within_s=round(drained, 3),
            rounds=rounds,
            lost_for_want_of_room=lost,
            memory_more_kb=grown,
            ordinary_knock_ms=round(1000 * ordinary, 1),
        )


@SIZES
@isolated
def test_sequences_of_everybody(number: int, tmp_path: Path) -> None:
    """The first steps of all, then the second ones, then the last: all of them open, in the kernel."""
    with crowd(tmp_path, 1) as (gate, cable, table):
        sources = [address(each) for each in range(number)]
        steps = [
            make(port, source)
            for make, port in ((tcp_ip, 7000), (udp_ip, 7001), (tcp_ip, 7002))
            for source in sources
        ]
        before, began = gate.memory_kb(), time.monotonic()
        sending = _sent(cable, steps)
        until(lambda: len(inside(table, 80)) == number, "all are in")
        drained = time.monotonic() - began
        assert set(inside(table, 80)) == set(sources)
        began = time.monotonic()
        for make, port in ((tcp_ip, 7000), (udp_ip, 7001), (tcp_ip, 7002)):
            cable.send(make(port, "10.200.0.2"))
        until(lambda: "10.200.0.2" in inside(table, 80), "an ordinary one opens")
        ordinary = time.monotonic() - began
        # To list so many leases takes longer than to open.
        assert ordinary < _AT_ONCE + number / 5000 and len(inside(table, 80)) == number + 1
        figure(
            "crowd.sequences at once, in the kernel",
            tries=number,
            wrongly=len(inside(table, 80)) - number - 1,
            rightly=number + 1,
            control="all of them open, and an ordinary one behind them",
            sending_s=round(sending, 3),
            all_in_within_s=round(drained, 3),
            memory_more_kb=gate.memory_kb() - before,
            ordinary_knock_ms=round(1000 * ordinary, 1),
        )
