"""The units where something has run out: open files, leases, /run, a reader of the log; and killed at work.

All the while somebody scans who has no lease, and is not answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.faults import (
    Broken,
    limited,
    log_of,
    packet_of,
    refused,
    scanned,
    send,
    shell,
    status,
)
from tests.systemd.gate import HALVES, KEEPER, LISTENER, PORTS, WARDEN, process_of, until_active
from tests.systemd.machine import NEEDS
from tests.systemd.scan import Scan

pytestmark = NEEDS

UNITS = (*HALVES, KEEPER)
#: Connects many times, and reads nothing.
_HOLD = """
import socket, sys, time
held = []
for name, kind in (("listener/status.sock", socket.SOCK_STREAM),
                   ("listener/explain.sock", socket.SOCK_STREAM),
                   ("warden/warden.sock", socket.SOCK_SEQPACKET)):
    for _ in range(12):
        held.append(socket.socket(socket.AF_UNIX, kind))
        held[-1].connect("/run/knockgate/" + name)
open("/tmp/held", "w").close()
time.sleep(600)
"""


@pytest.fixture
def site(both: tuple[Broken, Scan]) -> Iterator[Broken]:
    site, scan = both
    site.close()
    with scanned(scan):
        yield site


def open_files(site: Broken, unit: str) -> int:
    return len(shell(site.machine, f"ls /proc/{process_of(site.machine, unit)}/fd").split())


@pytest.mark.parametrize("unit", HALVES)
def test_without_room_for_one_more_open_file_knocks_are_taken(unit: str, site: Broken) -> None:
    """Who asks by hand is let in as soon as there is room again; nobody is started anew for it."""
    site.knocks_in("kernel")
    process = process_of(site.machine, unit)
    with limited(site.machine, unit, "nofile", open_files(site, unit)):
        site.knocks_in("daemon", "packet", "sealed")
    assert status(site.machine)["warden"]
    assert process_of(site.machine, unit) == process
    assert site.open_doors() == set(PORTS)


def test_a_keeper_without_room_hands_out_nothing_until_it_has_some(site: Broken) -> None:
    keys = "/home/jo/.ssh/authorized_keys"
    site.knocks_in("sealed")
    with limited(site.machine, KEEPER, "nofile", open_files(site, KEEPER)):
        shell(site.machine, f"touch {keys}")
        site.machine.tell("knockgate", "close", "sealed", "--all")
        assert not site.knock("sealed")
        assert f"{keys}: cannot be read: Too many open files" in log_of(site.machine, LISTENER)
        site.knocks_in("packet", "daemon")
    site.knocks_in("sealed")


def test_who_connects_and_does_not_read_keeps_nobody_waiting(site: Broken) -> None:
    machine = site.machine
    machine.tell("systemd-run", "--unit=hold", "python3", "-I", "-c", _HOLD)
    try:
        until(lambda: machine.run(["test", "-e", "/tmp/held"]).returncode == 0, "they are connected")
        site.knocks_in()
        assert status(machine)["warden"]
        assert "opened sealed" in machine.tell("knockgate", "explain")
        assert "1 lease ended" in machine.tell("knockgate", "close", "sealed", "--all")
    finally:
        machine.tell("systemctl", "stop", "hold")


def test_without_room_for_leases_none_begins_and_those_that_are_live_stay(site: Broken) -> None:
    machine = site.machine
    shell(
        machine,
        f"cp -p {gate.CONFIG} /root/gate.toml; sed -i 's/^.gate.$/[gate]\\nleases = 16/' {gate.CONFIG}; "
        f"systemctl reload {WARDEN}",
    )
    try:
        until(lambda: status(machine), "the listener has begun anew")
        hand = "for n in $(seq 101 116); do knockgate open packet 10.77.0.$n --for"
        shell(machine, f"{hand} 1h; done > /dev/null")
        for _ in range(2):
            assert not site.knock("sealed")
        log = log_of(machine, LISTENER)
        assert log.count("sealed is not opened for 10.77.0.2: no room for another lease") == 1  # and not two
        site.knocks_in("kernel", "daemon")  # their leases lie elsewhere
        taken = packet_of(site, "sealed", site.bag / "taken")
        send(site, "sealed", taken)
        shell(machine, f"{hand} 1s; done > /dev/null")
        until(lambda: site.knock("sealed"), "some have ended, and there is room")
        site.machine.tell("knockgate", "close", "sealed", "--all")
        before = refused(machine, "sealed")
        send(site, "sealed", taken)
        until(lambda: refused(machine, "sealed") > before, "it is refused")
        assert not site.is_open("sealed")
        assert site.open_doors() >= {"kernel", "daemon"}
    finally:
        shell(machine, f"cp -p /root/gate.toml {gate.CONFIG}; systemctl reload {WARDEN}")
        until(lambda: status(machine), "the listener has begun anew")


def kill_all(site: Broken) -> None:
    before = {unit: process_of(site.machine, unit) for unit in UNITS}
    for unit in UNITS:
        site.machine.tell("systemctl", "kill", "-s", "KILL", unit)
    until(
        lambda: all(process_of(site.machine, unit) not in (0, before[unit]) for unit in UNITS),
        "all are others",
    )
    until_active(site.machine, *UNITS)


def test_a_full_run_stops_nobody(site: Broken) -> None:
    machine = site.machine
    site.knocks_in("kernel")
    fill = "for size in 64k 512; do dd if=/dev/zero bs=$size >> /run/ballast 2> /dev/null || :; done"
    shell(machine, f"mount -o remount,size=4m /run; {fill}")
    try:
        site.knocks_in("daemon", "packet", "sealed")
        kill_all(site)
        assert site.open_doors() == set(PORTS)
        site.close()
        site.knocks_in()
    finally:
        shell(machine, "rm -f /run/ballast; mount -o remount,size=50% /run")


def test_a_log_that_nobody_reads_stops_nobody(site: Broken) -> None:
    machine = site.machine
    journal = machine.property_of("systemd-journald", "MainPID")
    site.knocks_in("kernel")
    machine.tell("kill", "-STOP", journal)
    try:
        site.knocks_in("daemon", "packet", "sealed")
        kill_all(site)
        assert site.open_doors() == set(PORTS)
        site.close()
        site.knocks_in("sealed", "kernel")
    finally:
        machine.run(["kill", "-CONT", journal])
    until(lambda: "open sealed for" in log_of(machine, LISTENER, lines=60), "it is read after all")


# --- killed at points between a knock and its opening -------------------------------------------------

_KILL = """
import os, signal, sys
passed = [0]
def trace(frame, event, _):
    code = frame.f_code
    if event == "call" and "/knockgate/" in code.co_filename:
        passed[0] += 1 if passed[0] else code.co_name == {entry!r} and {part!r} in code.co_filename
        if passed[0] == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
sys.settrace(trace)
"""


@contextlib.contextmanager
def killed(site: Broken, unit: str, part: str, entry: str, at: int) -> Iterator[None]:
    """It dies at its ``at``-th call, of any function, from the next one of ``entry`` in ``part`` on."""
    before = process_of(site.machine, unit)
    gate.inject(site.machine, unit, _KILL.format(part=part, entry=entry, at=at))
    yield
    until(lambda: process_of(site.machine, unit) not in (0, before), "it was killed, and is another one")
    until_active(site.machine, *HALVES)


def test_killed_over_a_knock_it_opens_once_or_never_and_the_next_one_does(
    site: Broken, tmp_path: Path
) -> None:
    """Some of the points that ``tests/knockgate/daemon/test_half_killed.py`` goes through one by one."""
    gate.open_to_injection(site.machine)
    site.knocks_in("kernel")
    points = [
        (unit, part, entry, door, at)
        for unit, part, entry, door in (
            (LISTENER, "/sealed.py", "_consider", "sealed"),
            (LISTENER, "/packets.py", "_consider", "packet"),
            (WARDEN, "/warden.py", "_hear_listener", "sealed"),
        )
        for at in (1, 8, 20)
    ]
    for unit, part, entry, door, at in points:
        site.machine.tell("knockgate", "close", door, "--all")
        packet = packet_of(site, door, tmp_path / "packet")
        with killed(site, unit, part, entry, at):
            send(site, door, packet)
        times = int(site.is_open(door))
        for _ in range(2):
            site.machine.tell("knockgate", "close", door, "--all")
            until(lambda: status(site.machine), "the listener answers")
            before = refused(site.machine, door)
            send(site, door, packet)
            until(
                lambda d=door, n=before: site.is_open(d) or refused(site.machine, d) > n,  # type: ignore[misc]
                "it is settled",
            )
            times += site.is_open(door)
        assert times <= 1, (door, unit, at)
        site.knocks_in(door)
        assert site.is_open("kernel")
    shell(site.machine, "rm -f /etc/systemd/system/knockgate-*.d/hook.conf; systemctl daemon-reload")
