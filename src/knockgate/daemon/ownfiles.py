"""What a gate with sealed knocks keeps in its state directory, and what it cannot begin without."""

from __future__ import annotations

from pathlib import Path

from knockgate.config import devices, gatekeys
from knockgate.config.devices import Devices
from knockgate.config.doors import Configuration
from knockgate.config.gatekeys import GateKeys

__all__ = ["DEVICES", "GATE_KEYS", "MARKS", "NETWORKS", "own_files"]

GATE_KEYS, MARKS, DEVICES, NETWORKS = "gate.keys", "marks.sqlite", "devices", "known-networks-sealed"


def own_files(configuration: Configuration) -> tuple[GateKeys, Devices]:
    """The gate's keys, and what its admin has said of devices; raises ConfigError."""
    folder = Path(configuration.gate.state_directory)
    return gatekeys.load(folder / GATE_KEYS), devices.load(folder / DEVICES)
