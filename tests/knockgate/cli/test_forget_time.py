"""``knockgate replay forget-time``: a gate that was sure of a wrong time refuses honest people."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.knockgate.cli.process import knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, initialised
from tests.knockgate.daemon.running import network
from tests.knockgate.daemon.sealed_stage import INCARNATION, OPENED, Stage, device, now, until_open
from tests.netns import isolated

from knockgate.mechanisms.certainty import Floor
from knockgate.store.marks import SqliteMarks

YEAR = 365 * 86400 * 10**9
#: Of a boot in which the clock was years ahead.
WRONG = Floor(2_160_000_000 * 10**9, 10**9, "another boot")


def keep(gate: SealedGate, floor: Floor | None) -> None:
    with contextlib.closing(gate.store()) as store:
        store.keep_floor(floor)


def kept(gate: SealedGate) -> Floor | None:
    with contextlib.closing(gate.store()) as store:
        return store.floor()


@isolated
def test_who_was_refused_for_a_wrong_time_comes_in(tmp_path: Path) -> None:
    with network():
        gate = Stage(tmp_path, clock="unknown")
        config = str(gate.gate.file)
        with contextlib.closing(_store(gate)) as store:
            store.keep_floor(Floor(now() + 10 * YEAR, 10**9, "another boot"))
        gate.gate.start()
        assert gate.gate.status()["sealed"]["clock"]["state"] == "floored"
        stale = gate.knock()
        gate.until_refused("stale")
        done = knockgate("replay", "forget-time", "--config", config)
        assert done.returncode == 2
        assert "knockgate is running already" in done.stderr and "hint: stop it first" in done.stderr
        assert gate.gate.end() == 0
        gate.gate.start()
        gate.knock()
        gate.until_refused("stale")  # the control: a start by itself changes nothing
        assert gate.gate.end() == 0

        done = knockgate("replay", "forget-time", "--config", config)
        assert done.returncode == 0, done.stderr
        gate.gate.start()
        assert gate.gate.status()["sealed"]["clock"]["state"] == "blind"
        gate.send(stale)
        gate.until_refused("replayed")  # what was taken stays so
        assert gate.opened() == 0
        gate.knock()
        until_open(OPENED)
        gate.knock(device=device(), issued=now() - YEAR)
        gate.until_opened(2)  # what it costs, as it says
        assert gate.gate.end() == 0


def _store(gate: Stage) -> SqliteMarks:
    return SqliteMarks(gate.state / "marks.sqlite", incarnation=INCARNATION, devices=32)


def test_it_says_what_was_forgotten_and_what_follows(tmp_path: Path) -> None:
    gate = initialised(tmp_path)
    done = gate.does("replay", "forget-time")
    assert done.stdout == "" and "keeps no time that it was sure of" in done.stderr
    keep(gate, WRONG)
    done = gate.does("replay", "forget-time")
    first, then = done.stdout.splitlines()
    assert first == "forgotten: the gate was sure that it was 2038-06-13 00:00:00 UTC"
    assert "one that was held back on its way opens late. None opens twice" in then
    assert kept(gate) is None and gate.starts()


def test_what_cannot_be_done_changes_nothing(tmp_path: Path) -> None:
    gate = initialised(tmp_path)
    keep(gate, WRONG)
    with contextlib.closing(gate.store()):
        done = gate.does("replay", "forget-time", status=2)
        assert "another listener uses it" in done.stderr
    assert kept(gate) == WRONG
    hidden = gate.marks_file.rename(tmp_path / "hidden")
    done = gate.does("replay", "forget-time", status=2)
    assert "knockgate replay reset" in done.stderr and not gate.marks_file.exists()
    hidden.rename(gate.marks_file)
    gate.does("replay", "forget-time")
    assert kept(gate) is None
