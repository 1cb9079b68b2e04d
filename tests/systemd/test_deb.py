"""The Debian package on a booted machine with its real sshd: a life from the first install to the purge.

The tests are in the order of that life, and each begins where the one before has ended.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd import machine as machines
from tests.systemd.gate import CONFIG, HALVES, KEEPER, WARDEN, process_of
from tests.systemd.machine import NEEDS, Hardware, Machine
from tests.systemd.packaged import TARGETS, Packaged, built, prepare
from tests.systemd.scan import SCANNER, Scan
from tests.systemd.site import key_pair

pytestmark = [
    *NEEDS,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb"),
]

UNITS = (*(f"{half}.service" for half in (*HALVES, KEEPER, "knockgate-runner", "knockgate-rules")),)


class Life:
    """A host, and the packages for it."""

    def __init__(self, hardware: Hardware, scan: Scan, bag: Path, packages: tuple[Path, Path]) -> None:
        self.first, self.next = packages
        self._hardware, self._power = hardware, contextlib.ExitStack()
        machine = self._boot(prepare(key_pair(bag)))
        self.host = Packaged(machine, bag, scan)
        self.before = self.names()
        assert "/etc/knockgate" not in self.before

    def _boot(self, script: str = ":") -> Machine:
        return self._power.enter_context(self._hardware.boot(prepare=script, lend=[self.first.parent]))

    def boot_again(self) -> None:
        self.host.machine.shut_down()
        self._power.close()
        self.host.machine = self._boot()

    def end(self) -> None:
        self._power.close()

    def names(self) -> set[str]:
        """Of files that were written on the disk and are called after us, or belong to nobody."""
        disk = Path(f"/proc/{self._hardware._keeper}/root{self._hardware._base}/upper")
        logs = disk / "var" / "log"
        written = {each for each in disk.rglob("*knockgate*") if not each.is_relative_to(logs)}
        ours = {f"/{each.relative_to(disk)}" for each in written}
        searched = [
            "/etc",
            "/run",
            "/var/lib",
            "(",
            "-nouser",
            "-o",
            "-nogroup",
            "-o",
            "-name",
            "*knockgate*",
            ")",
        ]
        return ours | {*self.host.machine.tell("find", *searched).splitlines()}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("packages")
    packages = built(folder, "0.8"), built(folder, "0.9")
    bag = tmp_path_factory.mktemp("client")
    scan = Scan(bag, TARGETS)
    with machines.hardware() as hardware:
        scan.begin(hardware.near, hardware.client)
        found = Life(hardware, scan, bag, packages)
        try:
            scan.until_heard()
            yield found
        finally:
            found.end()
            scan.end()


def enabled(host: Packaged) -> list[str]:
    return host.machine.run(["systemctl", "is-enabled", *HALVES, "knockgate-rules"]).stdout.split()


def unguarded(host: Packaged) -> bool:
    """Whether the door answers who scans it, and goes on to."""
    before = len(host.scan.of_doors())
    host.scan.until_heard()
    return len(host.scan.of_doors()) - before > 40


def test_a_first_install_makes_what_is_needed_and_starts_nothing(life: Life) -> None:
    host = life.host
    said = host.dpkg("-i", str(life.first))
    assert "nothing was enabled or started" in said and "systemctl enable --now" in said
    assert enabled(host) == ["disabled"] * 3
    assert host.machine.is_active(*HALVES) == ["inactive"] * 2
    assert unguarded(host)
    assert host.machine.tell("stat", "-c", "%a %U:%G", "/etc/knockgate") == "750 root:knockgate\n"
    assert host.machine.run(["ls", CONFIG]).returncode != 0
    assert host.machine.tell("knockgate", "--version").endswith(" 0.8\n")
    assert host.machine.tell("dpkg", "-V", "knockgate") == ""
    host.machine.tell("sh", "-c", "man -w knockgate-knock && man -w gate.toml")
    again = host.machine.run(["knockgate", "uninstall"])
    assert again.returncode == 2 and "apt remove knockgate" in again.stderr


def test_systemd_finds_no_fault_with_the_units_and_little_to_say_against_them(life: Life) -> None:
    machine = life.host.machine
    done = machine.run(["systemd-analyze", "verify", "--man=no", *UNITS])
    assert [line for line in done.stderr.splitlines() if "knockgate" in line] == []
    scores = {}
    for unit in (*HALVES, KEEPER):
        found = machine.tell("systemd-analyze", "security", "--no-pager", f"{unit}.service").splitlines()[-1]
        scores[unit] = float(found.split(": ")[1].split()[0])
    print(f"exposure: {scores}")
    assert max(scores.values()) <= 1.5


def test_with_a_gate_ssh_comes_in_by_knocking_and_a_stranger_gets_no_answer(life: Life) -> None:
    host = life.host
    host.unpack(life.first)
    host.machine.tell("knockgate", "init", "--user", "jo", "--lease", "30m", "-o", "/root/card")
    host.trust()
    assert host.is_open()  # control
    host.machine.tell("knockgate", "install", "--now")
    assert enabled(host) == ["enabled", "enabled", "disabled"]
    assert (
        host.machine.run(["find", "/etc/systemd/system", "-name", "knockgate*.service", "-type", "f"]).stdout
        == ""
    )
    host.until_running()
    assert not host.is_open()
    assert host.ssh("id -un") == "jo\n"
    (device,) = json.loads(host.machine.tell("knockgate", "device", "list", "--json"))["devices"]
    host.machine.tell("knockgate", "device", "enrol", device["row"], "--name", "laptop")


def test_an_upgrade_keeps_keys_leases_and_sessions_and_is_guarded_all_the_time(life: Life) -> None:
    host = life.host
    host.close()
    packet = host.captured()
    session = host.session()
    session.until_lively()
    before, lease = host.kept(), host.lease()
    processes = [process_of(host.machine, half) for half in HALVES]
    exposure = host.scan.exposed(lambda: print(host.dpkg("-i", str(life.next))))
    host.until_running()
    print(f"while it was upgraded: {exposure}; no listener for {host.deaf():.1f} s")
    assert exposure.answers == 0
    assert host.machine.tell("knockgate", "--version").endswith(" 0.9\n")
    assert all(process_of(host.machine, half) not in processes for half in HALVES)
    assert host.kept() == before
    after = host.lease()
    assert (after["door"], after["source"]) == (lease["door"], lease["source"])
    assert 0 < after["left"] < lease["left"]
    assert host.is_open()  # by that lease
    session.until_lively()
    host.close()
    session.until_lively()
    assert not host.is_open()
    host.send(packet)
    until(lambda: "replay" in str(host.knocks()[0]), "the old packet is refused")
    assert not host.is_open()
    assert host.knock() and host.is_open()
    session.until_lively()
    session.end()
    assert host.scan.exposed(lambda: host.machine.tell("knockgate", "open", "ssh", SCANNER)).answers > 40
    host.close()


def test_the_same_version_again_changes_nothing(life: Life) -> None:
    host = life.host
    assert host.knock()
    before = host.kept()
    exposure = host.scan.exposed(lambda: host.dpkg("-i", str(life.next)))
    assert exposure.answers == 0
    host.until_running()
    assert host.is_open() and host.kept() == before
    host.close()
    assert host.knock()


@pytest.mark.parametrize("status", ["half-installed", "half-configured"])
def test_an_upgrade_that_is_killed_leaves_a_gate_that_works(life: Life, status: str) -> None:
    host = life.host
    host.close()
    exposure = host.scan.exposed(lambda: host.cut_short(life.first, status))
    assert exposure.answers == 0
    assert until(host.knock, "it opens", 30.0)
    host.dpkg("-i", str(life.first))
    host.until_running()
    host.close()
    assert host.knock()


def test_an_upgrade_can_be_finished_after_a_reboot(life: Life) -> None:
    host = life.host
    host.close()
    packet = host.captured()
    host.dpkg("--unpack", str(life.next))
    assert host.knock()
    exposure = host.scan.exposed(life.boot_again)
    assert exposure.answers == 0
    assert host.status() == "unpacked"
    host.until_running()
    assert not host.is_open()
    host.send(packet)
    assert until(host.knock, "it opens", 30.0)
    assert len([each for each in host.knocks() if "replay" in str(each)]) == 1
    host.dpkg("--configure", "-a")
    host.until_running()
    host.close()
    assert host.knock()


def test_a_configuration_that_is_wrong_stops_neither_dpkg_nor_the_gate(life: Life) -> None:
    host = life.host
    host.close()
    host.machine.tell("sh", "-c", f"cp -p {CONFIG} /root/gate.toml; echo '[doors.ssh' >> {CONFIG}")
    processes = [process_of(host.machine, half) for half in HALVES]
    said: list[str] = []
    exposure = host.scan.exposed(lambda: said.append(host.dpkg("-i", str(life.first))))
    assert exposure.answers == 0
    assert "still of the version before" in said[0] and "gate.toml" in said[0]
    assert "ok installed" in host.machine.tell("dpkg", "-s", "knockgate")
    assert [process_of(host.machine, half) for half in HALVES] == processes
    assert host.knock() and host.is_open()
    # Whoever starts it anew without reading has doors that are shut.
    host.close("/root/gate.toml")
    host.scan.exposed(lambda: host.machine.run(["systemctl", "restart", "--no-block", *HALVES]))
    until(lambda: process_of(host.machine, WARDEN) != processes[0], "it begins anew")
    assert host.scan.exposed(lambda: None).answers == 0 and not host.is_open()
    host.machine.tell("cp", "-p", "/root/gate.toml", CONFIG)
    until(host.knock, "it goes on once the file is right", 40.0)
    host.until_running()


def moved_out_of_reach(host: Packaged) -> None:
    """Behind a link to where root alone looks: `check` takes it, and no unit can read it."""
    host.machine.tell("sh", "-c", f"cp -p {CONFIG} /root/gate.toml; ln -sf /root/gate.toml {CONFIG}")


def taken_away(host: Packaged) -> None:
    host.machine.tell("mv", CONFIG, "/root/gate.toml")


@pytest.mark.parametrize("spoil", [moved_out_of_reach, taken_away])
def test_a_gate_whose_units_could_not_start_goes_on(life: Life, spoil: Callable[[Packaged], None]) -> None:
    host = life.host
    processes = [process_of(host.machine, half) for half in HALVES]
    spoil(host)
    try:
        said = host.dpkg("-i", str(life.first))
    finally:
        host.machine.tell("mv", "--no-target-directory", "/root/gate.toml", CONFIG)
    assert "still of the version before" in said and CONFIG in said
    assert [process_of(host.machine, half) for half in HALVES] == processes
    host.close()
    assert host.knock()
    host.dpkg("-i", str(life.first))  # the control
    host.until_running()
    assert all(process_of(host.machine, half) not in processes for half in HALVES)


def test_removed_nothing_runs_and_the_doors_stay_shut_and_all_that_counts_is_kept(life: Life) -> None:
    host = life.host
    host.close()
    before = host.kept()
    said: list[str] = []
    exposure = host.scan.exposed(lambda: said.append(host.dpkg("--remove", "knockgate")))
    assert "THE DOORS STAY SHUT" in said[0] and exposure.answers == 0
    assert host.kept() == before
    everything = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "knockgate*"]
    assert host.machine.run(everything).stdout == ""
    assert host.machine.run(["pgrep", "-f", "/usr/lib/knockgate"]).stdout == ""
    gone = ("/usr/", "/run/", "/etc/systemd/")
    assert {each for each in life.names() - life.before if each.startswith(gone)} == set()


def test_installed_again_it_is_as_before(life: Life) -> None:
    host = life.host
    before = host.kept()
    said: list[str] = []
    exposure = host.scan.exposed(lambda: said.append(host.dpkg("-i", str(life.next))))
    assert exposure.answers == 0 and "nothing was enabled" not in said[0]
    host.until_running()
    assert enabled(host) == ["enabled", "enabled", "disabled"]
    assert host.kept() == before
    assert host.ssh("id -un") == "jo\n"


def test_units_of_another_installation_are_told_of_and_taken_away(life: Life) -> None:
    host = life.host
    script = (
        "PYTHONPATH=/usr/lib/knockgate python3 -m knockgate install --root /tmp/tree --packages /opt/gate"
    )
    host.machine.tell("sh", "-c", f"mkdir -p /tmp/tree; {script}; cp -r /tmp/tree/. /")
    assert "/usr/bin/knockgate install" in host.dpkg("-i", str(life.next))
    assert "remove /etc/systemd/system/knockgate-warden.service" in host.machine.tell("knockgate", "install")
    host.machine.tell("systemctl", "try-restart", *HALVES)
    host.until_running()
    assert host.machine.property_of(WARDEN, "FragmentPath").startswith(("/usr/lib/", "/lib/"))
    until(host.knock, "it opens", 20.0)


def test_purged_nothing_of_ours_is_left(life: Life) -> None:
    host = life.host
    host.close()
    assert not host.is_open()
    found = host.machine.tell("sh", "-c", "getent passwd; getent group; nft list tables")
    assert len(re.findall("knockgate", found)) >= 8  # control
    assert {"/etc/knockgate", "/usr/bin/knockgate", "/var/lib/knockgate-warden"} <= life.names()  # control
    assert "all doors are open" in host.dpkg("--purge", "knockgate")
    assert "knockgate" not in host.machine.tell("sh", "-c", "getent passwd; getent group; nft list tables")
    assert life.names() == life.before
    assert "knockgate" not in host.machine.run(["dpkg", "-l", "knockgate"]).stdout
    assert unguarded(host) and host.is_open()
