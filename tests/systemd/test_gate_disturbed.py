"""What is done to firewall, network and services while somebody scans: doors stay shut, and knocks open them.

After each disturbance everybody who may knocks with all four kinds of knocks, over IPv4 and IPv6, and nothing
was started again for that. The scanner is somebody else; that he would see answers is shown beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from tests.netns import until
from tests.systemd.gate import (
    CONFIG,
    CONTROL,
    HALVES,
    KEEPER,
    LISTENER,
    PORTS,
    WARDEN,
    process_of,
    until_active,
)
from tests.systemd.machine import ADDRESS, ADDRESS6, CLIENT, CLIENT6, NEEDS, Hardware
from tests.systemd.scan import EVERYWHERE, SCANNER, SCANNER6, Exposure, Scan
from tests.systemd.scanned import booted
from tests.systemd.site import Site, open_ends

pytestmark = NEEDS

#: Another address of the machine's, and the one of a second network card.
NEW, NEW6 = "10.77.0.9", "fd77::9"
SECOND, SECOND6, MAC2 = "10.78.0.1", "fd78::1", "02:77:00:00:00:02"
TARGETS = (
    *EVERYWHERE,
    *(f"{host},{port}" for host in (NEW, NEW6) for port in (PORTS["kernel"], CONTROL)),
    *(f"{host},{port},{MAC2}" for host in (SECOND, SECOND6) for port in (PORTS["kernel"], CONTROL)),
)
#: Seconds for which a door may answer, at most, where the kernel lets others remove the table.
MOST = 0.05


@dataclass
class Disturbed:
    site: Site
    scan: Scan
    hardware: Hardware
    figures: dict[str, Exposure]

    def tell(self, script: str) -> str:
        return self.site.machine.tell("sh", "-euc", script)

    def measure(self, name: str, act: Callable[[], object]) -> float:
        figure = self.figures[name] = self.scan.exposed(act)
        return figure.seconds

    def move(self, old: str, old6: str, new: str, new6: str) -> None:
        """From these addresses to those."""
        self.tell(f"ip address del {old}/24 dev eth0; ip address del {old6}/64 dev eth0")
        self.give("eth0", new, new6)

    def give(self, interface: str, address: str, address6: str) -> None:
        self.tell(
            f"ip address add {address}/24 dev {interface}; ip link set {interface} up;"
            f"ip address add {address6}/64 dev {interface} nodad"
        )

    def until_up(self) -> None:
        """Until the halves are, whichever of them begins anew."""
        until_active(self.site.machine, *HALVES)

    def knock(self, host: str = ADDRESS, host6: str = ADDRESS6) -> None:
        """All doors are shut to who knocks, and each kind of knock opens its own."""
        ends = [(door, *end) for end in ((CLIENT, host), (CLIENT6, host6)) for door in PORTS]
        tried = {(source, at, PORTS[door]) for door, source, at in ends}
        client = self.site.machine.client
        assert open_ends(client, tried) == set()  # control
        try:
            assert self.site.knock_all(ends) == ""
            assert open_ends(client, tried) == tried
        finally:
            self.site.close()
        assert open_ends(client, tried) == set()


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    with booted(tmp_path_factory.mktemp("client"), guarded=True, targets=TARGETS) as (site, scan, hardware):
        until_active(site.machine, *HALVES)
        found = Disturbed(site, scan, hardware, {})
        found.knock()
        assert scan.of_doors() == []
        yield found
        sent = scan.end()
        rows = [
            f"{name:<45} {each.seconds * 1000:4.0f} ms {each.answers:5} answers, the scanner late by "
            f"{each.late * 1000:.0f} ms"
            for name, each in found.figures.items()
        ]
        print("", *rows, f"{sent} SYNs in all", sep="\n")


def interface_down_and_up(at: Disturbed) -> None:
    at.tell(f"ip link set eth0 down; ip link set eth0 up; ip address replace {ADDRESS6}/64 dev eth0 nodad")


def interface_made_anew(at: Disturbed) -> None:
    at.tell("ip link del eth0")
    at.hardware.plug()
    at.give("eth0", ADDRESS, ADDRESS6)


def rules_of_somebody_else(at: Disturbed) -> None:
    chain = "chain in { type filter hook input priority 0; policy accept; }"
    at.tell(f"echo 'table inet other {{ {chain}; }}' | nft -f -")


def own_rules_that_begin_with_a_flush(at: Disturbed) -> None:
    at.tell("printf 'flush ruleset\ntable inet other {}\n' | nft -f -")


def iptables_restore(at: Disturbed) -> None:
    at.tell("for each in iptables ip6tables; do $each-save > /tmp/$each; $each-restore < /tmp/$each; done")


DISTURBANCES: dict[str, Callable[[Disturbed], object]] = {
    "nft flush ruleset": lambda at: at.tell("nft flush ruleset"),
    "systemctl restart nftables": lambda at: at.tell("systemctl restart nftables"),
    "nft -f with somebody else's table": rules_of_somebody_else,
    "nft -f that begins with a flush": own_rules_that_begin_with_a_flush,
    "iptables-restore": iptables_restore,
    "interface down and up": interface_down_and_up,
    "interface removed and made anew": interface_made_anew,
    "systemctl daemon-reload": lambda at: at.tell("systemctl daemon-reload"),
    "systemctl daemon-reexec": lambda at: at.tell("systemctl daemon-reexec"),
    "systemctl reload knockgate-warden": lambda at: at.tell(f"systemctl reload {WARDEN}"),
}
#: Of each half.
RESTARTS = {
    f"{what} {unit}": command.format(unit)
    for unit in (WARDEN, LISTENER, KEEPER)
    for what, command in (
        ("systemctl restart", "systemctl restart {}"),
        ("kill -9 of", "systemctl kill -s KILL {}"),
    )
}


@pytest.mark.parametrize("name", [*DISTURBANCES, *RESTARTS])
def test_doors_stay_shut_and_all_kinds_of_knocks_open_them(disturbed: Disturbed, name: str) -> None:
    act = DISTURBANCES.get(name) or (lambda at: at.tell(RESTARTS[name]))
    owned = "nobody else can change" in disturbed.site.machine.property_of(WARDEN, "StatusText")
    halves = [process_of(disturbed.site.machine, unit) for unit in HALVES]
    assert disturbed.measure(name, lambda: act(disturbed)) <= (0 if owned else MOST), disturbed.figures[name]
    disturbed.until_up()
    if name in DISTURBANCES and "reload knockgate" not in name:
        assert [
            process_of(disturbed.site.machine, unit) for unit in HALVES
        ] == halves  # it needs no new start
    disturbed.knock()


def test_what_is_let_in_is_answered(disturbed: Disturbed) -> None:
    """Control: the scanner would see it, at each door and over IPv4 and IPv6."""
    opening = "; ".join(f"knockgate open {door} {who}" for door in PORTS for who in (SCANNER, SCANNER6))
    before = len(disturbed.scan.of_doors())
    disturbed.tell(opening)
    disturbed.scan.until_heard()
    new = disturbed.scan.of_doors()[before:]
    assert {(each.host, each.port) for each in new} == {
        (host, port) for host in (ADDRESS, ADDRESS6) for port in PORTS.values()
    }
    disturbed.site.close()
    assert disturbed.measure("control: nobody is let in any more", lambda: None) == 0


def test_another_address(disturbed: Disturbed) -> None:
    def change() -> None:
        disturbed.move(ADDRESS, ADDRESS6, NEW, NEW6)
        disturbed.scan.until_heard(hosts=(NEW, NEW6))
        disturbed.knock(NEW, NEW6)
        disturbed.move(NEW, NEW6, ADDRESS, ADDRESS6)

    assert disturbed.measure("another address, and back", change) == 0
    disturbed.knock()


def test_a_second_interface_that_comes_later(disturbed: Disturbed) -> None:
    client = disturbed.site.machine.client
    client.tell("ip", "route", "add", "10.78.0.0/24", "dev", "wire")
    client.tell("ip", "route", "add", "fd78::/64", "dev", "wire")
    for address in (SECOND, SECOND6):  # else the first card would answer for it
        client.tell("ip", "neighbour", "replace", address, "lladdr", MAC2, "dev", "wire")

    def appear() -> None:
        disturbed.hardware.plug("eth1", MAC2)
        disturbed.give("eth1", SECOND, SECOND6)
        disturbed.scan.until_heard(hosts=(SECOND, SECOND6))
        disturbed.knock(SECOND, SECOND6)
        disturbed.tell("ip link del eth1")

    assert disturbed.measure("a second interface that comes later, and goes", appear) == 0
    disturbed.knock()


def test_the_one_interface_that_is_named_goes_and_comes(disturbed: Disturbed) -> None:
    machine, tell = disturbed.site.machine, disturbed.tell
    tell(f"cp -p {CONFIG} /root/gate.toml; sed -i 's/^.gate.$/&\\ninterface = \"eth0\"/' {CONFIG}")
    assert (
        disturbed.measure("reload that names the interface", lambda: tell(f"systemctl reload {WARDEN}")) == 0
    )
    disturbed.until_up()
    disturbed.knock()
    halves = [process_of(machine, unit) for unit in HALVES]
    for act in (interface_down_and_up, interface_made_anew):
        name = f"{act.__name__.replace('_', ' ')}, and it is named"
        assert disturbed.measure(name, partial(act, disturbed)) == 0
        disturbed.knock()
    assert [process_of(machine, unit) for unit in HALVES] == halves
    tell(f"cp -p /root/gate.toml {CONFIG}; systemctl reload {WARDEN}")
    disturbed.until_up()
    disturbed.knock()


def test_the_one_interface_that_is_named_comes_when_the_listener_has_given_up(disturbed: Disturbed) -> None:
    """It looks again every few seconds, as at a boot with a card that is slow."""
    machine = disturbed.site.machine
    tell = disturbed.tell
    tell(f"cp -p {CONFIG} /root/gate.toml; sed -i 's/^.gate.$/&\\ninterface = \"eth0\"/' {CONFIG}")
    tell(f"systemctl reload {WARDEN}")
    disturbed.until_up()

    def come_late() -> None:
        tell("ip link del eth0")
        assert machine.run(["systemctl", "restart", LISTENER]).returncode != 0
        disturbed.hardware.plug()
        disturbed.give("eth0", ADDRESS, ADDRESS6)
        disturbed.until_up()

    assert disturbed.measure("interface that comes late, and it is named", come_late) == 0
    disturbed.knock()
    tell(f"cp -p /root/gate.toml {CONFIG}; systemctl reload {WARDEN}")
    disturbed.until_up()


def test_a_listener_that_hangs_is_started_again(disturbed: Disturbed) -> None:
    """Its watchdog ends it after half a minute. Sequences of the kernel open meanwhile."""
    machine = disturbed.site.machine
    before = process_of(machine, LISTENER)

    def hang() -> None:
        machine.tell("kill", "-STOP", str(before))
        assert disturbed.site.knock("kernel")
        assert not disturbed.site.knock("sealed")  # control: nobody hears it
        until(lambda: process_of(machine, LISTENER) not in (0, before), "its watchdog ends it", 90.0)

    assert disturbed.measure("a listener that hangs", hang) == 0
    disturbed.until_up()
    disturbed.site.close()
    disturbed.knock()


@pytest.fixture(scope="module")
def watched(disturbed: Disturbed) -> Disturbed:
    """The same as on a kernel that does not let us own the table."""
    text = disturbed.site.machine.tell("systemctl", "cat", WARDEN)
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    folder = f"/etc/systemd/system/{WARDEN}.service.d"
    disturbed.tell(
        f"systemctl stop {WARDEN}; knockgate down; mkdir -p {folder};"
        f"printf '[Service]\\nExecStart=\\n%s --watch\\n' '{start}' > {folder}/watch.conf;"
        f"systemctl daemon-reload; systemctl start {' '.join(HALVES)}"
    )
    disturbed.until_up()
    assert "the table is watched" in disturbed.site.machine.property_of(WARDEN, "StatusText")
    return disturbed


@pytest.mark.parametrize("name", DISTURBANCES)
def test_before_linux_6_9_the_table_is_put_back(watched: Disturbed, name: str) -> None:
    assert watched.measure(f"{name}, --watch", lambda: DISTURBANCES[name](watched)) <= MOST, watched.figures
    watched.until_up()
    watched.knock()
    if "flush" in name:
        assert "it is back" in watched.site.machine.tell("journalctl", "--no-pager", "-u", WARDEN)


def test_a_table_that_is_taken_away_is_seen(watched: Disturbed) -> None:
    """Control: nobody puts it back while the warden is stopped."""
    machine = watched.site.machine
    machine.tell("systemctl", "stop", WARDEN)
    assert (
        watched.measure(
            "control: the warden is stopped, nft flush ruleset",
            lambda: machine.tell("nft", "flush", "ruleset"),
        )
        > MOST
    )
    machine.tell("systemctl", "start", *HALVES)
    watched.until_up()
    watched.knock()
