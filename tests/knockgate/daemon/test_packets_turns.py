"""How long the packets keep all else waiting."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from knockgate.config.doors import Configuration, Door, Fwknop, Gate
from knockgate.daemon import packets
from knockgate.daemon.log import NOTE, Record
from knockgate.daemon.packets import PacketGrants
from knockgate.mechanisms.packet import Bearer
from knockgate.model import Port, Protocol, Source
from knockgate.spa.fwknop import Secret

SSH = Port(Protocol.TCP, 22)


class Flood:
    """Ears that never run empty."""

    def __init__(self, *_: object) -> None:
        self.taken = 0

    def take(self) -> list[bytes]:
        self.taken += 16
        return [bytes(200)] * 16


class Nobody:
    """Hands that nobody needs."""

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:
        raise NotImplementedError

    def run_commands(self, door: Door, source: Source, seconds: float | None = None) -> None:
        raise NotImplementedError

    def complain(self, line: str, kind: str = "", record: Record = NOTE) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("look", "least", "most"), [(0.01, 16, 96), (0.0, 1000, 10**9)])
def test_a_flood_has_a_turn_of_some_time_and_not_of_some_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: float, least: int, most: int
) -> None:
    """With 10,000 keys a look at one packet takes 10 ms; and each turn is for one packet at least."""
    monkeypatch.setattr(packets, "Ears", Flood)
    configuration = Configuration(gate=Gate(state_directory=str(tmp_path)), doors=(), fwknop=Fwknop())
    grants = PacketGrants(configuration, [Bearer("alice", Secret(b"a" * 32, b"A" * 64), {})], Nobody())

    def concerns(payload: bytes) -> list[int]:  # noqa: ARG001
        if look:
            time.sleep(look)
        return []

    monkeypatch.setattr(grants, "_concerns", concerns)
    grants.hear()
    grants.close()
    assert isinstance(grants.ears, Flood)
    assert least <= grants.ears.taken <= most
