"""The tutorial's steps under a real systemd, from another machine's point of view.

Every wait is for a condition. A door that must stay shut is shown shut beside the same knock that opens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.machine import ADDRESS, ADDRESS6, CLIENT, NEEDS, Machine, boot

from knockdemo import scan
from knockdemo.units import GUARDS, INSTANCES

pytestmark = NEEDS

REPOSITORY = Path(__file__).resolve().parents[2]
#: Seconds that a door stays open: enough for a scan and the restart of three units on a busy machine.
WINDOW = 10
DOORS = {"A": 6500, "B": 6501, "C": 6502}
KNOCKS = {"A": ("7000", "8000", "9000"), "B": ("7100", "7200", "7300")}
CONTROL = 6510
SHUT = dict.fromkeys(DOORS, "filtered")
WHERE_IT_IS = "/etc", "/usr/lib", "/var/lib/knockdemo", "/run/fwknop"


@dataclass
class Site:
    """The machine with the demonstration on it, and what the client carried away from it."""

    machine: Machine
    bag: Path
    before: set[str]

    def states(self, address: str = ADDRESS) -> dict[str, str]:
        """What a scan from the client sees of the three doors, beside a port that is merely closed."""
        command = scan.scan_command(address, [*DOORS.values(), CONTROL])
        seen = scan.scan(self.machine.client.run, command)
        assert seen[CONTROL].state == "closed", "the control: nothing listens there and nothing guards it"
        return {lane: seen[port].state for lane, port in DOORS.items()}

    def wait_until_shut(self) -> None:
        """No door is open, and each of the three daemons has a socket to hear the next knock."""
        until(lambda: self.states() == SHUT, "every door is shut", WINDOW + 30.0)

        def listening() -> int:
            """Packet sockets, and fwknopd's UDP one where it is built without pcap."""
            return len(self.machine.tell("cat", "/proc/net/packet").splitlines()[1:]) + binds_its_port(
                self.machine
            )

        until(lambda: listening() == 3, "three daemons listen")

    def knock(self, lane: str) -> str:
        """Knock from the client and wait for the door; returns the banner."""
        if lane == "C":
            self.machine.client.tell(*self.packet(ADDRESS, CLIENT), HOME=str(self.bag))
        else:
            client = self.bag / "knock-client.py"
            self.machine.client.tell(
                *(sys.executable, str(client), ADDRESS, *KNOCKS[lane], "--check", str(DOORS[lane]))
            )
        return until(lambda: self.banner(DOORS[lane]), f"the door of lane {lane} opens", 5.0)

    def packet(self, address: str, source: str) -> list[str]:
        """The fwknop client's command line; no key stands on it."""
        keys = str(self.bag / "client.fwknoprc")
        return ["fwknop", "--rc-file", keys, "-n", "knockdemo", "--no-save-args", "-a", source, "-D", address]

    def banner(self, port: int) -> str:
        """What the service says to the client; empty if it cannot be reached."""
        code = (
            "import socket, sys\n"
            "try: s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)\n"
            "except OSError: sys.exit()\n"
            "print(s.makefile().read(), end='')"
        )
        return self.machine.client.tell(sys.executable, "-I", "-c", code, ADDRESS, str(port))

    def accepted(self) -> list[tuple[str, str]]:
        """Sources that rules of lanes B and C let in just now, with the port."""
        rules = self.machine.tell("iptables", "-S")
        found = re.finditer(r"-s (\S+)/32 -p tcp -m tcp --dport (650[12]) .*ACCEPT", rules)
        return [(match[1], match[2]) for match in found]


def state_of(machine: Machine) -> set[str]:
    """Files, rules and units, one fact a line: what must be the same after as before."""
    found = machine.run(["find", *WHERE_IT_IS, "-printf", "%p %y %m %U:%G %l\\n"]).stdout
    found += machine.tell("sh", "-c", "md5sum /etc/knockd.conf /etc/fwknop/*")
    for command in ("nft list ruleset", "iptables-save", "ip6tables-save"):
        found += "".join(f"{command}: {line}\n" for line in machine.tell(*command.split()).splitlines())
    found += "\n".join(machine.unit_files())
    return set(found.splitlines())


def carry(machine: Machine, bag: Path) -> None:
    """What the installer says to carry to the client, with its mode."""
    for path, mode in (
        ("/usr/lib/knockdemo/knock-client.py", 0o755),
        ("/etc/knockdemo/client.fwknoprc", 0o600),
    ):
        copy = bag / Path(path).name
        copy.write_text(machine.tell("cat", path))
        copy.chmod(mode)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are now: somebody may be working on them while this runs."""
    copy = tmp_path_factory.mktemp("checkout") / "src"
    shutil.copytree(REPOSITORY / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def knockdemo(checkout: Path) -> list[str]:
    """The command as root runs it out of a checkout; on a machine or at the start of a shell's line."""
    return [
        "env",
        f"PYTHONPATH={checkout}",
        "PYTHONDONTWRITEBYTECODE=1",
        "/usr/bin/python3",
        "-m",
        "knockdemo",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Site]:
    """Installed as root out of a checkout, then what the installer says, which is the tutorial's step 5."""
    with boot(lend=[checkout]) as machine:
        before = state_of(machine)
        report = json.loads(machine.tell(*knockdemo(checkout), "install", f"--window={WINDOW}", "--json"))
        assert (report["interface"], report["address"]) == ("eth0", ADDRESS)
        assert report["next"] == [
            "systemctl daemon-reload",
            f"systemctl enable --now {' '.join(GUARDS)}",
            f"systemctl enable --now {' '.join(INSTANCES)}",
        ]
        for command in report["next"]:
            machine.tell(*command.split())
        bag = tmp_path_factory.mktemp("client")
        carry(machine, bag)
        yield Site(machine, bag, before)


def test_all_seven_are_active(site: Site) -> None:
    assert site.machine.is_active(*GUARDS, *INSTANCES) == ["active"] * 7


def test_systemd_accepts_the_installed_units(site: Site) -> None:
    names = [f"{name}.service" for name in (*GUARDS, *INSTANCES)]
    done = site.machine.run(["systemd-analyze", "verify", "--man=no", *names])
    ours = [
        line
        for line in done.stderr.splitlines()
        if any(name.split("@")[0] in line for name in (*GUARDS, *INSTANCES))
    ]
    assert ours == []


def test_invisible_then_each_knock_opens_its_own_door(site: Site) -> None:
    site.wait_until_shut()
    assert site.states(ADDRESS6) == SHUT
    for lane, port in DOORS.items():
        assert site.knock(lane) == f"You knocked. Welcome to the secret service on port {port}.\n"
        seen = site.states()
        assert seen[lane] == "open"
        assert all(seen[later] == "filtered" for later in DOORS if later > lane)
    site.wait_until_shut()


@pytest.mark.parametrize("lane", DOORS)
def test_an_open_door_survives_the_restart_of_the_others(site: Site, lane: str) -> None:
    site.wait_until_shut()
    own = {"A": "knock-demo", "B": "knockd", "C": "fwknopd"}[lane]
    site.knock(lane)
    site.machine.tell("systemctl", "restart", *(unit for unit in GUARDS if unit != own))
    # The restart of a guard takes the services that depend on it along; the door is what counts.
    until(lambda: site.banner(DOORS[lane]), "the service behind the open door answers", 5.0)
    assert site.states() == {**SHUT, lane: "open"}
    for program in ("iptables", "ip6tables"):
        drops = [rule for rule in site.machine.tell(program, "-S", "INPUT").splitlines() if "DROP" in rule]
        assert drops == [f"-A INPUT -p tcp -m tcp --dport {port} -j DROP" for port in (6501, 6502)]
    until(
        lambda: site.machine.is_active(*GUARDS, *INSTANCES) == ["active"] * 7,
        "all seven are active again",
        10.0,
    )


def test_stopping_the_guards_opens_nothing(site: Site) -> None:
    site.wait_until_shut()
    site.machine.tell("systemctl", "stop", *GUARDS)
    drops = site.machine.tell("iptables", "-S", "INPUT")
    assert drops.count("-j DROP") == 2
    assert "tcp dport 6500 drop" in site.machine.tell("nft", "list", "table", "inet", "knockdemo")
    # The services require their guards, so they are stopped as well, behind doors that are still shut.
    assert site.machine.is_active(*INSTANCES) == ["inactive"] * 3
    assert site.states() == SHUT
    site.machine.tell("systemctl", "start", *GUARDS, *INSTANCES)
    assert site.states() == SHUT


def test_a_killed_daemon_comes_back(site: Site) -> None:
    for unit in ("knock-demo", "knockd", "fwknopd"):
        process = site.machine.property_of(unit, "MainPID")
        site.machine.tell("kill", "-KILL", process)
        until(
            lambda u=unit, p=process: (  # type: ignore[misc]
                site.machine.is_active(u) == ["active"]
                and site.machine.property_of(u, "MainPID") not in ("0", p)
            ),
            f"{unit} is started again",
            20.0,
        )


def test_the_tour_from_another_machine(site: Site, checkout: Path) -> None:
    site.wait_until_shut()
    keys = ["--rc-file", str(site.bag / "client.fwknoprc")]
    command = [sys.executable, "-m", "knockdemo", "tour", ADDRESS, f"--window={WINDOW}", *keys]
    done = site.machine.client.run(command, HOME=str(site.bag), PYTHONPATH=str(checkout))
    assert done.returncode == 0, done.stdout + done.stderr


def binds_its_port(machine: Machine) -> bool:
    """Whether fwknopd was built without pcap and receives on a socket (Debian 13, Ubuntu 24.04)."""
    lines = machine.tell("cat", "/proc/net/udp").splitlines()[1:]
    return any(line.split()[1].endswith(f":{62201:04X}") for line in lines)


def test_a_knock_over_loopback_opens_neither_b_nor_c(site: Site) -> None:
    """Who sniffs one interface does not hear another; a fwknopd that binds its port hears them all."""
    site.wait_until_shut()
    own = ADDRESS, "127.0.0.1"
    over_loopback = [(address, "6502") for address in own] if binds_its_port(site.machine) else []
    program = "/usr/lib/knockdemo/knock-client.py"
    for address in own:
        site.machine.tell("/usr/bin/python3", program, address, *KNOCKS["B"])
        command = site.packet(address, address)
        command[command.index("--rc-file") + 1] = "/etc/knockdemo/client.fwknoprc"
        site.machine.tell(*command)
    # The daemons hear in order: once they have let the client in, they have heard what came before.
    site.knock("B")
    site.knock("C")
    assert sorted(site.accepted()) == sorted([(CLIENT, "6501"), (CLIENT, "6502"), *over_loopback])


def test_installing_again_changes_nothing(site: Site, checkout: Path) -> None:
    report = json.loads(site.machine.tell(*knockdemo(checkout), "install", "--json"))
    assert report["changes"] == []


def test_uninstalling_leaves_nothing(site: Site, checkout: Path) -> None:
    """The last one: with a door open, a daemon killed, and everything running."""
    site.wait_until_shut()
    site.knock("B")
    # Nobody is left to take this rule away.
    site.machine.tell("systemctl", "kill", "--signal=KILL", "--kill-whom=all", "knockd.service")
    site.machine.tell("/usr/bin/python3", "-m", "knockdemo", "uninstall")
    after = state_of(site.machine)
    assert (after - site.before, site.before - after) == (set(), set())
    assert site.machine.tell("systemctl", "--failed", "--no-legend") == ""
    assert site.machine.tell(*knockdemo(checkout), "uninstall") == "nothing is installed\n"


def test_a_daemon_of_the_users_own_is_not_replaced(checkout: Path) -> None:
    with boot(lend=[checkout]) as machine:
        machine.tell("systemctl", "start", "knockd")
        until(lambda: machine.is_active("knockd") == ["active"], "Debian's knockd runs")
        before = state_of(machine)
        done = machine.run([*knockdemo(checkout), "install"])
        assert done.returncode == 2
        assert re.fullmatch(
            r"knockdemo: knockd \(process \d+\) is running .*\n  hint: .*disable --now knockd\n", done.stderr
        )
        assert state_of(machine) == before


def test_what_was_enabled_before_is_enabled_again(checkout: Path) -> None:
    names = {"fwknop-server.service", "knockd.service"}
    with boot(prepare=f"systemctl enable {' '.join(sorted(names))}", lend=[checkout]) as machine:
        # knockd is enabled, but was not started: what runs with settings of its own is not replaced.
        machine.tell("systemctl", "stop", *names)
        before = state_of(machine)
        assert machine.enabled() >= names
        assert "disabling fwknop-server.service" in machine.run([*knockdemo(checkout), "install"]).stderr
        assert "fwknop-server.service" not in machine.enabled()
        machine.tell(*knockdemo(checkout), "uninstall")
        after = state_of(machine)
        assert (after - before, before - after) == (set(), set())


def test_the_machine_ends_with_the_test_process(tmp_path: Path) -> None:
    """Killed with no chance to clean up: no process, control group or mount point remains."""
    code = (
        "import sys\nsys.path[:0] = sys.argv[1:]\nfrom tests.systemd.machine import boot\n"
        "with boot() as machine:\n"
        "    print(machine.cgroup, machine.process, flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(REPOSITORY), str(REPOSITORY / "src")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as owner:
        assert owner.stdout
        group, process = owner.stdout.readline().split()
        assert Path(group).is_dir()
        assert Path(f"/proc/{process}").is_dir()
        assert list(tmp_path.iterdir())
        owner.kill()
    until(lambda: not Path(group).exists(), "the control group goes", 20.0)
    until(lambda: not list(tmp_path.iterdir()), "the mount point goes", 20.0)
    # Whoever inherits the orphan may take a moment to collect it.
    until(lambda: not Path(f"/proc/{process}").exists(), "the first process is gone", 20.0)


def enabled_offline(checkout: Path) -> str:
    """Installed and enabled in a tree where systemd does not run yet."""
    command = " ".join(knockdemo(checkout))
    return f"{command} install --window {WINDOW}\nsystemctl enable {' '.join((*GUARDS, *INSTANCES))}"


def test_a_boot_with_everything_enabled(checkout: Path, tmp_path: Path) -> None:
    """From the first process on: guarded before the network is up and before a service listens."""
    with boot(prepare=enabled_offline(checkout), lend=[checkout]) as machine:
        until(lambda: machine.is_active(*GUARDS, *INSTANCES) == ["active"] * 7, "all seven are active", 30.0)
        assert "cycle" not in machine.tell("journalctl", "--no-pager", "-b", "-u", "init.scope")

        def moment(unit: str, name: str) -> int:
            return int(machine.property_of(unit, f"{name}TimestampMonotonic"))

        base = moment("demo-firewall-base.service", "ActiveEnter")
        assert base < moment("network-pre.target", "ActiveEnter")
        for daemon in ("knockd", "fwknopd"):
            assert base < moment(daemon, "ExecMainStart")
        assert moment("knock-demo", "ActiveEnter") < moment("secret-service@6500", "ExecMainStart")
        for instance in INSTANCES[1:]:
            assert base < moment(instance, "ExecMainStart")
        carry(machine, tmp_path)
        site = Site(machine, tmp_path, set())
        site.wait_until_shut()
        for lane in DOORS:
            site.knock(lane)


def test_a_firewall_that_is_reset_takes_the_guards_along(checkout: Path, tmp_path: Path) -> None:
    """Debian's nftables.service empties the ruleset whenever it starts; restarting it brings ours back."""
    with boot(prepare=enabled_offline(checkout), lend=[checkout]) as machine:
        site = Site(machine, tmp_path, set())
        machine.tell("systemctl", "start", "nftables")
        assert site.states() == dict.fromkeys(DOORS, "open"), (
            "the control: a bare start has emptied everything"
        )
        machine.tell("systemctl", "restart", "nftables")
        until(lambda: site.states() == SHUT, "every door is shut again", 10.0)
        until(lambda: machine.is_active(*GUARDS, *INSTANCES) == ["active"] * 7, "all are active again", 10.0)
