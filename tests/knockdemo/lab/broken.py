"""Lanes broken on purpose: ``python3 broken.py NAME``, run inside the lab's namespaces.

Each scenario breaks one thing of one lane, asks only the questions that should notice, and prints
the answers as the stage does. Nothing of this is reachable from the installed program.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from knockdemo.install import File
from knockdemo.lab import questions
from knockdemo.lab.asking import Asking
from knockdemo.lab.ssh import entered
from knockdemo.lab.stage import STAGE, emit, prepare
from knockdemo.lab.wait import until
from knockdemo.lanes import choose
from knockdemo.units import GATE, GATE_RULES
from knockgate.config.doors import parse
from knockgate.errors import KnockgateError
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.store.marks import SqliteMarks

WINDOW = 4
SSHD_CONFIG = "/etc/knockdemo/sshd_config"
UNGUARD = ("iptables", "-D", "INPUT", "-p", "tcp", "--dport")
Files = dict[str, File]


def edit(path: str, old: str, new: str) -> Callable[[Files], None]:
    """A change of one installed file; the text that goes must be there, or the scenario tests nothing."""

    def change(files: Files) -> None:
        text = files[path].content.decode()
        if old not in text:
            raise AssertionError(f"{path} has no {old!r}")
        files[path] = replace(files[path], content=text.replace(old, new).encode())

    return change


def at_host(asking: Asking, *argv: str) -> None:
    asking.site.host.do(argv)


def decoy() -> Asking:
    """Knockd gets a second door, whose port lies between the ports of the first."""
    door = "[openSecret]"
    more = "[decoy]\n    sequence = 7150,7250\n    tcpflags = syn\n    start_command = /bin/true\n\n"
    asking = prepare(choose("B"), WINDOW, edit("/etc/knockd.conf", door, more + door))
    questions.before(asking)
    questions.knocked(asking)
    questions.swept(asking)
    return asking


def without_reset() -> Asking:
    """Lane A's tracker no longer sees packets to ports of no sequence."""

    def change(files: Files) -> None:
        program = STAGE / "root/usr/lib/knockdemo/no-reset.py"
        files["/usr/lib/knockdemo/no-reset.py"] = File(
            0o755,
            b"import sys\n"
            b"from knockdemo import daemon\n"
            b"from knockgate.effects import PacketSeen\n"
            b"from knockgate.mechanisms.sequence import KnockTracker\n"
            b"feed = KnockTracker.feed\n"
            b"def deaf(self, event, now):\n"
            b"    if isinstance(event, PacketSeen) and event.observation.port not in (7000, 8000, 9000):\n"
            b"        return ()\n"
            b"    return feed(self, event, now)\n"
            b"KnockTracker.feed = deaf\n"
            b"sys.exit(daemon.main())\n",
        )
        edit("/etc/systemd/system/knock-demo.service", "-m knockdemo.daemon", str(program))(files)

    asking = prepare(choose("A"), WINDOW, change)
    questions.before(asking)
    questions.knocked(asking)
    questions.swept(asking)
    return asking


def edit_gate(old: str, new: str) -> Callable[[Files], None]:
    """A change of the gate.toml of lanes D and F, compiled anew."""

    def change(files: Files) -> None:
        edit(GATE, old, new)(files)
        rules = compiled(files[GATE].content.decode())
        files[GATE_RULES] = replace(files[GATE_RULES], content=rules.encode())

    return change


def compiled(text: str) -> str:
    return compile_ruleset(parse(text, GATE))


def lease_for_the_network() -> Asking:
    """Lane D's leases are for the network that a source is in."""

    def change(files: Files) -> None:
        for old in ("update @leases4 { ip saddr .", "ip saddr . meta l4proto . th dport @leases4"):
            edit(GATE_RULES, old, old.replace("saddr", "saddr & 255.255.255.0"))(files)

    asking = prepare(choose("D"), WINDOW, change)
    questions.before(asking)
    questions.knocked(asking)
    return asking


def silent_syns() -> Asking:
    """Lane D with three SYNs, its knock ports as silent as before: swept with its reset and without it."""
    mixed, up, down = (
        '"tcp/7400", "udp/7500", "tcp/7600"',
        '"tcp/7400", "tcp/7500", "tcp/7600"',
        '"tcp/7600", "tcp/7500", "tcp/7400"',
    )
    asking = prepare(choose("D"), WINDOW, edit_gate(mixed, down))
    ascending = compiled(asking.daemons.staged(GATE).read_text().replace(down, up))
    asking.sweep["descending steps"] = questions.sweep(asking, "ascending")["D"]
    rules = asking.daemons.staged(GATE_RULES)
    for name, text in {
        "ascending steps": ascending,
        "without reset": "".join(line for line in ascending.splitlines(keepends=True) if not _resets(line)),
    }.items():
        rules.write_text(text)
        at_host(asking, "nft", "-f", str(rules))
        asking.sweep[name] = questions.sweep(asking, "ascending")["D"]
    return asking


def _resets(line: str) -> bool:
    """The rules for packets to ports of no sequence."""
    return line.startswith("add rule inet knockgate guard ") and " delete @" in line


def gate_ipv4_only() -> Asking:
    """Lane D's table looks at IPv4 alone."""
    rule = "add rule inet knockgate guard "
    first = f'{rule}iif "lo" accept'
    asking = prepare(choose("D"), WINDOW, edit(GATE_RULES, first, f"{rule}meta nfproto ipv6 accept\n{first}"))
    return seen_over_ipv6(asking)


def endless_lease() -> Asking:
    """Lane D opens for far longer than the window."""
    asking = prepare(choose("D"), WINDOW, edit_gate(f'lease = "{WINDOW}s"', 'lease = "900s"'))
    questions.before(asking)
    questions.killed(asking)
    return asking


def forgetful() -> Asking:
    """fwknopd is restarted without its digest cache between the knock and the replay."""
    asking = prepare(choose("C"), WINDOW)
    questions.before(asking)
    questions.knocked(asking)
    caches = [path for path in Path("/run/fwknop").iterdir() if "digest" in path.name]
    for path in caches:
        path.unlink()
    asking.daemons.restart("fwknopd.service")
    questions.replayed(asking)
    return asking


def forgetful_gate() -> Asking:
    """Lane F's daemon is killed, and begins without knowing which packets it took."""
    asking = prepare(choose("F"), WINDOW)
    questions.before(asking)
    questions.knocked(asking)
    unit = asking.lanes[0].UNITS[-1]
    asking.daemons.kill(unit)
    for path in asking.daemons.staged("/var/lib/knockgate").glob("replay.*"):
        path.unlink()
    asking.daemons.start(unit)
    questions.replayed(asking)
    return asking


def forgetful_marks() -> Asking:
    """Lane E's gate begins with marks that know of nothing.

    No command makes such ones: with those of ``knockgate replay reset`` nothing is taken that is older.
    """
    asking = prepare(choose("E"), WINDOW)
    questions.before(asking)
    questions.knocked(asking)
    unit = asking.lanes[0].UNITS[-1]
    asking.daemons.kill(unit)
    folder = asking.daemons.staged("/var/lib/knockgate")
    for path in folder.glob("marks.*"):
        path.unlink()
    keys = tomllib.loads((folder / "gate.keys").read_text())
    SqliteMarks.create(folder / "marks.sqlite", bytes.fromhex(keys["incarnation"]))
    asking.daemons.start(unit)
    questions.replayed(asking)
    return asking


def remembering_gate() -> Asking:
    """They are restarted, and know what they knew."""
    asking = prepare(choose("E,F"), WINDOW)
    questions.before(asking)
    questions.knocked(asking)
    asking.daemons.restart(asking.lanes[0].UNITS[-1])
    questions.replayed(asking)
    return asking


def rule_gone(lane: str, *argv: str) -> Asking:
    """The rule that shuts a door is taken away before anybody looks."""
    asking = prepare(choose(lane), WINDOW)
    at_host(asking, *argv)
    questions.before(asking)
    return asking


def gate_gone(lane: str) -> Asking:
    """The gate's daemon is dead, as it owns the table, and then the table is taken away."""
    asking = prepare(choose(lane), WINDOW)
    asking.daemons.kill(asking.lanes[0].UNITS[-1])
    # Its halves end a moment later, and until then the table has an owner.
    delete = ["nft", "delete", "table", "inet", "knockgate"]
    until(lambda: asking.site.host.run(delete).returncode == 0, 10, "the table goes")
    questions.before(asking)
    return asking


def for_everybody() -> Asking:
    """Knockd's rule forgets to say for whom."""
    asking = prepare(choose("B"), WINDOW, edit("/etc/knockd.conf", "-s %IP% ", ""))
    questions.before(asking)
    questions.knocked(asking)
    return asking


def nobody_home() -> Asking:
    """Lane B's daemon runs, but its command opens nothing."""
    asking = prepare(
        choose("B"), WINDOW, edit("/etc/knockd.conf", "--dport 6501 -j ACCEPT", "--dport 1 -j ACCEPT")
    )
    questions.before(asking)
    questions.knocked(asking)
    return asking


def ageless() -> Asking:
    """fwknopd no longer looks at the time in a packet."""
    path = "/etc/fwknop/fwknopd.conf"
    asking = prepare(choose("C"), WINDOW, edit(path, "PCAP_INTF", "ENABLE_SPA_PACKET_AGING N;\nPCAP_INTF"))
    questions.before(asking)
    questions.knocked(asking)
    questions.dated(asking)
    return asking


def ageless_gate() -> Asking:
    """The gate does not know what time it is."""
    asking = prepare(choose("E,F"), WINDOW, edit(GATE, 'clock = "trusted"', 'clock = "unknown"'))
    questions.before(asking)
    questions.knocked(asking)
    questions.dated(asking)
    return asking


def ssh_asks(*change: str) -> Asking:
    """Lane E's second door, with a change of one installed file."""
    asking = prepare(choose("E"), WINDOW, edit(*change))
    questions.before(asking)
    entered(asking)
    return asking


def ipv4_only() -> Asking:
    """The base firewall shuts IPv4 alone, as many do."""
    script = "/usr/lib/knockdemo/demo-firewall-base.sh"
    asking = prepare(choose("B"), WINDOW, edit(script, 'families="iptables ip6tables"', "families=iptables"))
    return seen_over_ipv6(asking)


def seen_over_ipv6(asking: Asking) -> Asking:
    """What the only lane's door looks like before a knock, over IPv4 and over IPv6."""
    questions.before(asking)
    (lane,) = asking.lanes
    asking.note(
        lane, ipv6={"before": asking.scan(asking.site.client, [lane.PORT], ipv6=True)[lane.PORT].state}
    )
    return asking


def main_process_only() -> Asking:
    """knockd's main process is killed, and the child that waits to close the door is not."""
    asking = prepare(choose("B"), WINDOW)
    questions.before(asking)
    asking.daemons.kill = lambda unit: type(asking.daemons).kill(asking.daemons, unit, children=False)  # type: ignore[assignment,misc,method-assign]
    questions.killed(asking)
    return asking


def never_closing() -> Asking:
    """Lane B opens for far longer than the window: every later question must refuse to begin."""
    asking = prepare(
        choose("B"), WINDOW, edit("/etc/knockd.conf", "cmd_timeout   = 4", "cmd_timeout   = 900")
    )
    questions.before(asking)
    questions.knocked(asking)
    questions.replayed(asking)
    return asking


def dead_daemon() -> Asking:
    """A daemon that died by itself: what would be measured means nothing."""
    asking = prepare(choose("A"), WINDOW)
    at_host(asking, "kill", "-9", str(asking.daemons.pid("knock-demo.service")))
    questions.knocked(asking)
    return asking


def whole_tour() -> Asking:
    """``knockdemo tour`` from the client, against the lab's host."""
    asking = prepare(choose("A,B,C"), WINDOW)
    tour = [*asking.python, "-m", "knockdemo", "tour", asking.site.host.address4, "--window", str(WINDOW)]
    for name, more in {
        "good": ["--json", "-", "--rc-file", str(asking.rc_file)],
        "human": ["--lanes", "A", "--rc-file", str(asking.rc_file)],
        "no keys": ["--rc-file", "/nowhere"],
        "no lane": ["--lanes", "D"],
        "no host": [],
    }.items():
        command = [*tour, *more] if name != "no host" else [*tour[:4], "no.such.host.invalid", "--lanes", "A"]
        done = asking.site.client.run(command)
        asking.sweep[name] = [done.returncode, done.stdout, done.stderr]
    # And against a host where nothing is guarded any more: the tour must say no.
    at_host(asking, *UNGUARD, "6501", "-j", "DROP")
    done = asking.site.client.run([*tour, "--lanes", "B", "--json", "-"])
    asking.sweep["unguarded"] = [done.returncode, done.stdout, done.stderr]
    return asking


SCENARIOS: dict[str, Callable[[], Asking]] = {
    "decoy": decoy,
    "without-reset": without_reset,
    "forgetful": forgetful,
    "forgetful-gate": forgetful_gate,
    "forgetful-marks": forgetful_marks,
    "remembering-gate": remembering_gate,
    "ssh-refused": lambda: ssh_asks(SSHD_CONFIG, ".ssh/authorized_keys", "none"),
    "ssh-cut-off": lambda: ssh_asks(SSHD_CONFIG, "UsePAM no", "UsePAM no\nChannelTimeout session:*=1s"),
    "ssh-endless-lease": lambda: ssh_asks(GATE, f'lease = "{WINDOW}s"', 'lease = "900s"'),
    "rule-a-gone": lambda: rule_gone("A", "nft", "flush", "chain", "inet", "knockdemo", "input"),
    "rule-d-gone": lambda: rule_gone("D", "nft", "flush", "chain", "inet", "knockgate", "guard"),
    "rule-e-gone": lambda: gate_gone("E"),
    "rule-f-gone": lambda: gate_gone("F"),
    "rule-b-gone": lambda: rule_gone("B", *UNGUARD, "6501", "-j", "DROP"),
    "rule-c-gone": lambda: rule_gone("C", *UNGUARD, "6502", "-j", "DROP"),
    "for-everybody": for_everybody,
    "lease-for-the-network": lease_for_the_network,
    "silent-syns": silent_syns,
    "gate-ipv4-only": gate_ipv4_only,
    "endless-lease": endless_lease,
    "nobody-home": nobody_home,
    "ageless": ageless,
    "ageless-gate": ageless_gate,
    "ipv4-only": ipv4_only,
    "main-process-only": main_process_only,
    "never-closing": never_closing,
    "dead-daemon": dead_daemon,
    "tour": whole_tour,
}


if __name__ == "__main__":
    try:
        asked = SCENARIOS[sys.argv[1]]()
    except KnockgateError as error:
        emit("failed", message=str(error), hint=error.hint)
        sys.exit(1)
    emit("report", notes=asked.notes, sweep=asked.sweep)
