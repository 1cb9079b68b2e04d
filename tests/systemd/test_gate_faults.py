"""The units where their disk or their files are broken: they fail shut, say so, and lose nothing.

All the while somebody scans who has no lease, and is not answered (``nobody_else``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.faults import (
    BOTH,
    STATE,
    Broken,
    begin,
    limited,
    log_of,
    packet_of,
    refused,
    scanned,
    send,
    shell,
    status,
    until_status,
)
from tests.systemd.gate import HALVES, KEEPER, LISTENER, PORTS, WARDEN, process_of, until_active
from tests.systemd.machine import ADDRESS, CLIENT, NEEDS
from tests.systemd.scan import SCANNER, Scan

RUNNER = "knockgate-runner"
pytestmark = NEEDS


@pytest.fixture
def site(both: tuple[Broken, Scan]) -> Iterator[Broken]:
    """Before each test all doors are shut and somebody has a lease at the kernel's; he keeps it."""
    site, scan = both
    site.close()
    site.knocks_in("kernel")
    with scanned(scan):
        yield site
    assert site.is_open("kernel")


def test_the_scanner_is_answered_once_he_is_let_in(both: tuple[Broken, Scan]) -> None:
    """The control of all others."""
    site, scan = both
    with scanned(scan):
        site.machine.tell("knockgate", "open", "kernel", SCANNER)  # which he does not try
    site.machine.tell("knockgate", "open", "sealed", SCANNER)
    until(scan.of_doors, "he is answered")
    site.close()
    scan.until_heard((ADDRESS,), 10)


# --- the disk -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_disk(site: Broken, size: str = "600k") -> Iterator[None]:
    """The state directory on a small disk of its own, and back."""
    machine = site.machine
    shell(
        machine,
        f"systemctl stop {LISTENER}; rm -rf /root/state; cp -a {STATE} /root/state; "
        f"mount -t tmpfs -o size={size},mode=700 tmpfs {STATE}; cp -a /root/state/. {STATE}/; "
        f"chown knockgate-listener:knockgate {STATE}; systemctl start {LISTENER}",
    )
    try:
        yield
    finally:
        shell(
            machine,
            f"systemctl stop {LISTENER}; mount -o remount,rw {STATE}; rm -rf /root/state; "
            f"cp -a {STATE} /root/state; umount {STATE}; cp -a /root/state/. {STATE}/; "
            f"rm -f {STATE}/ballast; systemctl start {LISTENER}",
        )


def expect_refused(site: Broken, reason: str) -> None:
    """Both kinds of packets, in the log, in `status` and in `explain`; and the door is shut."""
    for door in ("sealed", "packet"):
        before = refused(site.machine, door, ["store-unavailable"])
        assert not site.knock(door)
        assert refused(site.machine, door, ["store-unavailable"]) == before + 1
    log = log_of(site.machine, LISTENER)
    for what in ("a sealed knock", "a packet of fwknop"):  # neither line hides the other
        assert f"{what} cannot be remembered, so it is refused" in log
    assert reason in log
    assert "a knock of alice is refused: store-unavailable" in log
    assert "store-unavailable: it cannot be remembered" in site.machine.tell("knockgate", "explain")


def fill(site: Broken) -> None:
    shell(site.machine, f"dd if=/dev/zero of={STATE}/ballast bs=4k 2> /dev/null || :")


def test_a_disk_that_becomes_full_keeps_nobody_out_at_once(site: Broken) -> None:
    """The logs have their length, also for who is killed and begins again."""
    machine = site.machine
    with own_disk(site):
        site.knocks_in("sealed", "packet")
        fill(site)
        site.close()
        site.knocks_in("sealed", "packet", "kernel")
        process = process_of(machine, LISTENER)
        machine.tell("systemctl", "kill", "-s", "KILL", LISTENER)
        until(lambda: process_of(machine, LISTENER) not in (0, process), "it is started again")
        until_active(machine, *HALVES)
        site.close()
        site.knocks_in("sealed", "packet", "kernel")


def test_a_full_disk_keeps_packets_out_and_nothing_else(site: Broken) -> None:
    machine = site.machine
    with own_disk(site):
        site.knocks_in("sealed", "packet")
        taken = packet_of(site, "sealed", site.bag / "taken")
        send(site, "sealed", taken)
        site.close()
        site.knocks_in("kernel")
        machine.tell("systemctl", "stop", LISTENER)
        fill(site)
        machine.tell("systemctl", "start", LISTENER)  # it finds no room for its logs
        until_active(machine, *HALVES)
        process = process_of(machine, LISTENER)
        expect_refused(site, "database or disk is full")
        site.knocks_in("daemon", "kernel")  # neither has anything to remember
        assert "state-full" in machine.run(["knockgate", "doctor", "--quiet"]).stdout
        machine.tell("systemctl", "kill", "-s", "KILL", LISTENER)
        until(lambda: process_of(machine, LISTENER) not in (0, process), "it is started again")
        until_active(machine, *HALVES)
        expect_refused(site, "database or disk is full")  # it starts all the same, and takes none
        process = process_of(machine, LISTENER)
        machine.tell("rm", f"{STATE}/ballast")
        before = refused(machine, "sealed")
        send(site, "sealed", taken)  # which was taken before
        until(lambda: refused(machine, "sealed") > before, "it is refused")
        assert not site.is_open("sealed")
        site.knocks_in("sealed", "packet")
        assert process_of(machine, LISTENER) == process


def test_a_disk_that_does_not_write_keeps_packets_out_until_it_does(site: Broken) -> None:
    process = process_of(site.machine, LISTENER)
    with limited(site.machine, LISTENER, "fsize", 0):
        expect_refused(site, "disk I/O error")
        site.knocks_in("daemon")
    site.knocks_in("sealed", "packet")
    assert process_of(site.machine, LISTENER) == process


def test_a_disk_that_is_read_only_at_the_start_is_waited_for(site: Broken) -> None:
    machine = site.machine
    with own_disk(site):
        shell(machine, f"systemctl stop {LISTENER}; mount -o remount,ro {STATE}")
        begin(machine, LISTENER)
        until_status(machine, LISTENER, "Read-only file system")
        assert not site.knock("sealed")
        assert "state-read-only" in machine.run(["knockgate", "doctor", "--quiet"]).stdout
        machine.tell("mount", "-o", "remount,rw", STATE)
        until_active(machine, LISTENER)
        site.knocks_in("sealed", "packet")


# --- what is in the state directory -------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """Each way of ``does`` is done to what was whole, in the folder, while the listener is stopped."""

    does: tuple[tuple[str, str], ...]  #: and what the line of `systemctl status` then has
    hint: str  #: in the journal
    repair: str  #: what the hint says
    stops_all: bool = False  #: that wants a gate that does not run
    new_card: bool = False


_NEW_CARDS = "rm -rf /root/cards; mkdir /root/cards; knockgate rekey --now --yes -o /root/cards"
_OTHER_KEYS = (
    f"cp -p gate.keys /root/own.keys; systemctl stop {WARDEN}; {_NEW_CARDS} > /dev/null; "
    f"cp -p /root/own.keys gate.keys; systemctl start {WARDEN}"
)
DAMAGES = {
    "marks": Damage(
        (
            ("truncate -s 3000 marks.sqlite; rm -f marks.sqlite-wal", "disk image is malformed"),
            (
                "head -c 100 /dev/zero | dd of=marks.sqlite conv=notrunc 2> /dev/null",
                "file is not a database",
            ),
            ("head -c 20000 /dev/urandom > marks.sqlite", "file is not a database"),
            ("rm -f marks.sqlite*", "No such file or directory"),
            (_OTHER_KEYS, "belongs to other keys than this gate has now"),
        ),
        "`knockgate replay reset`",
        "knockgate replay reset --clock-right --yes",
        stops_all=True,
    ),
    "keys": Damage(
        (("echo noise > gate.keys", "not TOML"),),
        "each line is KEY = VALUE",
        _NEW_CARDS,
        stops_all=True,
        new_card=True,
    ),
    "devices": Damage(
        (
            (
                "echo noise > devices; chmod 600 devices; chown knockgate-listener devices",
                "devices:1: is no line of a list of devices",
            ),
        ),
        "a line is `known` or `barred`",
        "echo '# noise' > devices",
    ),
    "packets": Damage(
        (("head -c 9000 /dev/urandom > replay.sqlite", "replay.sqlite: file is not a database"),),
        f"mv {STATE}/replay.sqlite {STATE}/replay.sqlite.old",
        f"mv {STATE}/replay.sqlite {STATE}/replay.sqlite.old",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_not_started_on_and_the_hint_mends_it(name: str, site: Broken) -> None:
    damage, machine = DAMAGES[name], site.machine
    site.knocks_in("sealed")
    knock = packet_of(site, "sealed", site.bag / "knock")
    shell(machine, f"systemctl stop {LISTENER}; rm -rf /root/state; cp -a {STATE} /root/state")
    for do, says in damage.does:
        shell(
            machine,
            f"systemctl stop {LISTENER}; rm -f {STATE}/*; cp -a /root/state/. {STATE}/; rm -f {STATE}/*-wal; "
            f"cd {STATE}; {do}",
        )
        begin(machine, LISTENER)
        assert until_status(machine, LISTENER, says).startswith("cannot start: ")
        assert damage.hint in log_of(machine, LISTENER)
        assert site.is_open("sealed")  # who is in stays in
    machine.tell("knockgate", "close", "sealed", "--all")
    send(site, "sealed", knock)
    site.knocks_in("kernel")  # the kernel needs none of it
    assert not site.is_open("sealed")
    done = machine.run(["knockgate", "doctor", "--quiet"])
    assert done.returncode == 1 and "not-running" in done.stdout and "says why" in done.stdout
    if damage.stops_all:
        refused_to = machine.run(damage.repair.split("; ")[-1].split())
        assert f"systemctl stop {BOTH}" in refused_to.stderr
        machine.tell("systemctl", "stop", *HALVES)
    shell(machine, f"cd {STATE}; {damage.repair}")
    if damage.new_card:
        site.take_card(shell(machine, "echo /root/cards/*").strip())
    begin(machine, *HALVES)
    until_active(machine, *HALVES)
    site.knocks_in("sealed", "packet", "daemon")


def test_networks_that_are_noise_are_told_of_and_that_is_all(site: Broken) -> None:
    machine = site.machine
    shell(
        machine,
        f"systemctl stop {LISTENER}; cd {STATE}; head -c 300 /dev/urandom > known-networks-sealed; "
        f"head -c 99999 /dev/urandom > known-networks; systemctl start {LISTENER}",
    )
    assert "nobody is known any more" in log_of(machine, LISTENER)
    site.knocks_in("sealed", "packet")


# --- the runner ---------------------------------------------------------------------------------------


def test_what_a_runner_that_cannot_start_did_not_take_is_not_run_late(site: Broken) -> None:
    """Nor told as if it had been; what is asked for afterwards is run (control)."""
    machine, told, pending = site.machine, "/root/told", "/var/lib/knockgate-runner/pending.sqlite"
    command = f'[doors.daemon.commands]\nopen = ["/bin/sh", "-c", "echo %IP% >> {told}"]\n'
    shell(
        machine,
        f"mkdir -p -m 700 {pending.rpartition('/')[0]}; head -c 9000 /dev/urandom > {pending}; "
        f"cp -p {gate.CONFIG} /root/gate.toml; cat >> {gate.CONFIG} <<'EOF'\n{command}EOF\n"
        f"systemctl reload {WARDEN}",
    )
    try:
        site.knocks_in("daemon")
        until_status(machine, RUNNER, "cannot start: ")
        until(
            lambda: "commands of daemon are not run for" in log_of(machine, LISTENER),
            "the listener tells it",
            20.0,
        )
        machine.tell("rm", pending)
        until_active(machine, RUNNER)
        until(lambda: "it was asked for too long ago" in log_of(machine, RUNNER), "the runner tells it", 20.0)
        machine.tell("knockgate", "close", "daemon", "--all")
        site.knocks_in("daemon")
        until(lambda: machine.run(["cat", told]).stdout, "it is run")
        assert machine.tell("cat", told) == f"{CLIENT}\n"
    finally:
        machine.tell("cp", "-p", "/root/gate.toml", gate.CONFIG)
        machine.tell("systemctl", "reload", WARDEN)
        until_active(machine, *HALVES)


# --- gate.toml ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (f"rm {gate.CONFIG}", "no such file"),
        (f"chown root:root {gate.CONFIG}; chmod 600 {gate.CONFIG}", "cannot be read: Permission denied"),
        (f"head -c 200 /root/gate.toml > {gate.CONFIG}", "steps is missing"),
    ],
    ids=["gone", "for others", "half written"],
)
def test_without_a_configuration_all_is_as_it_was_and_afterwards_too(
    do: str, says: str, site: Broken
) -> None:
    """All that is missing is put right: nobody has to start anything."""
    machine = site.machine
    site.knocks_in("sealed")
    shell(machine, f"cp -p {gate.CONFIG} /root/gate.toml; {do}")
    for unit in (*HALVES, KEEPER):
        machine.tell("systemctl", "kill", "-s", "KILL", unit)
    assert until_status(machine, WARDEN, says).startswith("cannot start: ")
    assert "the doors are guarded as they were last" in log_of(machine, WARDEN)
    if "Permission" in says:
        folder = "/etc/knockgate"
        hint = f"chown root:knockgate {folder} {gate.CONFIG}; chmod 0750 {folder}; chmod 0640 {gate.CONFIG}"
        assert hint in log_of(machine, WARDEN) and "run it as root" not in log_of(machine, WARDEN, lines=5)
    assert site.open_doors() == {"kernel", "sealed"}
    site.machine.run(["systemctl", "reload", WARDEN])
    assert site.open_doors() == {"kernel", "sealed"}
    machine.tell("cp", "-p", "/root/gate.toml", gate.CONFIG)
    until_active(machine, *HALVES)
    assert site.open_doors() == {"kernel", "sealed"}
    site.close()
    site.knocks_in(*PORTS)


def test_a_configuration_that_is_wrong_from_the_boot_on_is_waited_for(site: Broken) -> None:
    """The warden's first start fails, and so its job: the listener's must not end with it."""
    machine = site.machine
    machine.tell("systemctl", "stop", *HALVES)
    shell(machine, f"cp -p {gate.CONFIG} /root/gate.toml; head -c 200 /root/gate.toml > {gate.CONFIG}")
    begin(machine, *HALVES)
    until_status(machine, WARDEN, "cannot start: ")
    machine.tell("cp", "-p", "/root/gate.toml", gate.CONFIG)
    until_active(machine, *HALVES)
    site.knocks_in("sealed")
    assert json.loads(machine.tell("knockgate", "status", "--json"))["guarded"]
    assert status(machine)["warden"]
