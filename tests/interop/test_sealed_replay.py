"""A recorded knock opens nothing: at once, after a restart, after `kill -9`, after a reboot into 1970.

Beside each replay a new knock of the same device, which opens. The clocks, and the identity of the boot, are
injected (``sealed.set_clocks``): the programs are as they are, and what libc and /proc tell them is made up.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.sealed import (
    HOUR,
    Clocks,
    Gate,
    Person,
    machine,
    public,
    recording,
    root,
    send,
    set_clocks,
)
from tests.knockgate.daemon.running import CLIENT, OTHER, leases
from tests.netns import isolated

pytestmark = root


@contextlib.contextmanager
def set_up(folder: Path) -> Iterator[tuple[Person, Path, Gate, Clocks, Clocks]]:
    """Jo, their key, a gate that lets them in and does not know the time, and the clocks of both sides."""
    with machine(folder):
        ours, theirs = set_clocks()
        jo = Person(folder / "jo", clocks=theirs)
        key = jo.key()
        gate = Gate(folder, public(key))
        gate.says(gate='clock = "auto"')
        jo.trusts(gate, key)
        yield jo, key, gate, ours, theirs


@pytest.mark.parametrize("sure", [True, False], ids=["sure", "blind"])
@isolated
def test_a_replay_opens_nothing_whatever_has_happened_since(sure: bool, tmp_path: Path) -> None:
    """A gate that was sure of the time before the reboot, and one that never was."""
    with set_up(tmp_path) as (jo, _, gate, ours, _):
        ours.synchronised(are=sure)
        gate.start()
        with recording() as recorded:
            jo.enters()
            knock = recorded()
        for number, source in enumerate((CLIENT, OTHER), 1):
            send(knock, source=source)
            gate.until_refused("duplicate", number)
        assert gate.sealed()["clock"]["state"] == ("sure" if sure else "blind")
        for number, reboots in ((signal.SIGTERM, False), (signal.SIGKILL, False), (signal.SIGKILL, True)):
            gate.end(number)
            if reboots:
                ours.reboot()
            gate.does("down")  # a machine that has booted has no table; a gate that has ended leaves its own
            gate.start()
            if reboots:
                assert gate.sealed()["clock"]["state"] == ("floored" if sure else "blind")
                assert gate.explained()["devices"][0]["seconds_ago"] < -50 * 365 * 86400  # it is 1970
            send(knock)
            gate.until_refused("replayed")
            assert leases() == set() and gate.sealed()["opened"] == 0
            assert gate.newest()["step"] == 10
            jo.gets_in(gate)  # the control
        gate.end()


@isolated
def test_what_is_held_back_over_a_reboot_is_dead_once_a_newer_one_came(tmp_path: Path) -> None:
    """It is no replay, and the gate does not know the time any more; its sender has knocked anew since."""
    with set_up(tmp_path) as (jo, _, gate, ours, _):
        with recording() as recorded:
            jo.knock()
            jo.knock()
            first, second = recorded(), recorded()  # the gate was not there
        ours.reboot()
        gate.start()
        send(second)
        gate.until_opened(1)  # the control: the newer of both
        send(first)
        gate.until_refused("replayed")
        assert gate.sealed()["opened"] == 1
        gate.end()


@isolated
def test_a_clock_that_is_wrong_then_right_then_the_gate_knows_the_time(tmp_path: Path) -> None:
    """An hour behind and an hour ahead, at a gate without a clock: opens, and opens when it is repaired."""
    with set_up(tmp_path) as (jo, key, gate, ours, theirs):
        gate.start()
        with recording() as recorded:
            old = []
            for lead, era in ((-HOUR, 0), (0, 0), (HOUR, 0), (0, 1)):
                theirs.lead(lead)
                jo.gets_in(gate)
                assert (gate.newest()["era"], gate.newest()["skew"]) == (era, None)
                old.append(recorded())
        assert gate.sealed()["clock"]["state"] == "blind"
        ours.synchronised()
        jo.gets_in(gate)
        clock = gate.sealed()["clock"]
        assert (clock["state"], clock["vouched"]) == ("sure", True)
        assert abs(gate.newest()["skew"]) < 30
        for lead, reason in ((-HOUR, "stale"), (HOUR, "ahead")):
            other = Person(tmp_path / reason, clocks=theirs)  # another device: its dates are its own
            other.trusts(gate, key)
            theirs.lead(lead)
            other.knock()
            gate.until_refused(reason)
            assert (gate.newest()["reason"], abs(abs(gate.newest()["skew"]) - 3600) < 30) == (reason, True)
            theirs.lead(0)
            other.gets_in(gate)  # the control: its clock is repaired
        gate.end(signal.SIGKILL)
        gate.start()
        for number, each in enumerate(old, 1):
            send(each)
            gate.until_refused("replayed", number)
        assert leases() == set()
        gate.end()
