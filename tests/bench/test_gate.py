from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench.packets import _checksum
from bench.spoofer import frames

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_every_frame_of_a_flood_is_another_and_its_checksums_hold(host: str) -> None:
    text, size = frames(5000, bytes(6), bytes(6), host, 7000)
    each = [bytes(text[at : at + size]) for at in range(0, len(text), size)]
    sources = {frame[22:38] if ":" in host else frame[26:30] for frame in each}
    assert len(sources) == len(each) == 5000
    for frame in each:
        if ":" in host:
            assert _checksum(frame[22:54] + b"\0\0\0\x14\0\0\0\6" + frame[54:]) == 0
        else:
            assert _checksum(frame[14:34]) == 0
            assert _checksum(frame[26:34] + b"\0\6\0\x14" + frame[34:]) == 0


@pytest.mark.long
def test_the_gate_is_measured(tmp_path: Path) -> None:
    """Small numbers, measured whole: ours opens where knockd does not, and nobody slips in."""
    output = tmp_path / "gate.json"
    argv = [sys.executable, str(ROOT / "bench/gate.py"), "--quick", "--rate", "20000", "--json", str(output)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
    if "does not let ordinary users make namespaces" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    figures = json.loads(output.read_text())["figures"]
    found = {(each["figure"], each["subject"]): each for each in figures}
    for family in ("IPv4", "IPv6"):
        first = found["first_syn", f"kernel sequence, {family}"]
        assert first["opened"] == first["tried"] > 0
        flooded = found["flood", f"kernel sequence, {family}"]
        assert flooded["opened"] >= 0.99 * flooded["tried"] > 0
        assert found["first_syn", f"knockd, {family}"]["door_open_ms"] > first["median_ms"]
    ours, crude = found["reloads", "knockgate"], found["reloads", "delete and add"]
    assert ours["stranger_passed"] == ours["holder_lost"] == 0 < crude["holder_lost"]
    watched, owned = (found["exposure", f"{how} table"]["packets_worst"] for how in ("watched", "owned"))
    assert owned <= watched
