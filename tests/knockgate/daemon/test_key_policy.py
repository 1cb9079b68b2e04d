"""Running gates and what keys may: hours, revoked, leases; each refusal beside a knock that opens."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from tests.knockgate.daemon import sealed_stage, test_packets
from tests.knockgate.daemon.running import CLIENT, OTHER, all_leases, leases
from tests.knockgate.daemon.sealed_stage import OPENED, until_open
from tests.knockgate.daemon.test_packets import message
from tests.netns import isolated, until

from knockgate.errors import Unavailable


def hours(begin: int, end: int) -> str:
    """From so many minutes after now until so many, by the clock of another time zone."""
    return f'hours = ["{_in_tokyo(begin)}-{_in_tokyo(end)}"]\nhours_in = "Asia/Tokyo"\n'


def _in_tokyo(minutes: int) -> str:
    now = time.clock_gettime(time.CLOCK_REALTIME)
    return time.strftime("%H:%M", time.gmtime(now + 60 * minutes + 9 * 3600))


@isolated
def test_ssh_keys_with_hours_and_revoked(tmp_path: Path) -> None:
    with sealed_stage.stage(tmp_path, people=hours(-60, 5)) as gate:
        gate.knock(lease=600)
        until_open(OPENED)
        (lease,) = all_leases()
        assert 200 < lease.lasts <= 300  # until its hours end; the door gives 10m
        was = hours(-60, 5)
        for people, reason in ((hours(60, 120), "outside-hours"), ("revoked = true\n", "key-revoked")):
            gate.gate.end()
            gate.gate.write(gate.text.partition("hours =")[0] + people, gate='clock = "trusted"\n')
            gate.gate.start()
            gate.knock()
            gate.until_refused(reason)
            assert gate.opened() == 0
            gate.gate.until_said("a knock of people/jo@laptop SHA256:")
            gate.gate.until_said(f"is refused: {reason}: ")
        gate.gate.end()
        gate.gate.write(gate.text.partition("hours =")[0] + was, gate='clock = "unknown"\n')
        gate.gate.start()
        gate.knock()
        gate.until_refused("clock-unknown")
        gate.gate.end()
        gate.gate.write(gate.text.partition("hours =")[0], gate='clock = "unknown"\n')
        gate.gate.start()
        gate.knock()
        gate.until_opened(1)


@isolated
def test_a_key_of_fwknops_with_hours_and_leases(tmp_path: Path) -> None:
    with test_packets.stage(tmp_path, alice=f"{hours(-60, 60)}leases = 1\n") as gate:
        gate.knock(message())
        until(lambda: leases() == {OPENED}, "ssh is open")
        gate.knock(message(OTHER))
        gate.until_refused("too-many-leases")
        gate.knock(message(ports=(test_packets.WEB,)))
        gate.until_refused("too-many-leases", 2)
        gate.knock(message())  # the one that it has
        until(lambda: gate.gate.status()["packets"]["opened"] == 2, "it is opened again")
        assert leases() == {OPENED} and CLIENT in OPENED


@isolated
def test_a_key_of_fwknops_outside_its_hours(tmp_path: Path) -> None:
    with test_packets.stage(tmp_path, alice=hours(60, 120)) as gate:
        gate.knock(message())
        gate.until_refused("outside-hours")
        gate.knock(message(ports=(test_packets.WEB,)), test_packets.BOB)
        until(lambda: gate.gate.status()["packets"]["opened"] == 1, "bob has no hours")


@isolated
def test_a_key_of_fwknops_that_is_revoked(tmp_path: Path) -> None:
    with test_packets.stage(tmp_path, alice="revoked = true") as gate:
        gate.knock(message())
        gate.until_refused("key-revoked")
        gate.gate.until_said("a knock of alice is refused: key-revoked: the key is revoked")
        gate.knock(message(ports=(test_packets.WEB,)), test_packets.BOB)
        until(lambda: gate.gate.status()["packets"]["opened"] == 1, "bob is not revoked")


def is_anew(gate: sealed_stage.Stage) -> bool:
    """Whether the listener answers, and has not heard any knock yet."""
    with contextlib.suppress(Unavailable):
        return gate.opened() == 0 and gate.refused() == {}
    return False


@isolated
def test_what_changes_of_a_key_alone_is_in_force_after_a_reload(tmp_path: Path) -> None:
    """Though its doors are the same, and the half with rights knows no more of it."""
    with sealed_stage.stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)
        checksum = gate.gate.configuration().checksum
        gate.gate.write(f"{gate.text}revoked = true\n", gate='clock = "trusted"\n')
        assert gate.gate.configuration().checksum == checksum
        with gate.gate.warden() as warden:
            warden.reload(checksum)
        until(lambda: is_anew(gate), "there is another listener")
        gate.knock()
        gate.until_refused("key-revoked")
        assert leases() == {OPENED}  # it is no reason to shut what is open
        gate.gate.write(gate.text, gate='clock = "trusted"\n')
        gate.gate.send(signal.SIGHUP)
        until(lambda: is_anew(gate), "there is another listener")
        gate.knock()
        gate.until_opened(1)
