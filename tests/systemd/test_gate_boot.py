"""From before process 1 starts somebody tries a door every 10 ms: at boot, and while others flush tables."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd import gate, scanner
from tests.systemd import machine as machines
from tests.systemd.gate import CONTROL, HALVES, WARDEN, until_active
from tests.systemd.machine import ADDRESS, CLIENT, Host, Machine, boot
from tests.systemd.test_gate_units import Site, key_pair, secrets_of

_obstacle = machines.why_not()
pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.skipif(_obstacle is not None, reason=f"no machine with systemd: {_obstacle}"),
]

#: Which brings the interface up when networks may begin; the service begins when there is one.
NETWORK = """
cat > /etc/systemd/system/lab-network.service <<'EOF'
[Unit]
DefaultDependencies=no
After=network-pre.target
Wants=network-pre.target network.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set eth0 up
[Install]
WantedBy=multi-user.target
EOF
cat > /etc/systemd/system/lab-door.service <<'EOF'
[Unit]
After=network.target
[Service]
ExecStart=/usr/bin/python3 -I /usr/local/lib/service.py
[Install]
WantedBy=multi-user.target
EOF
printf '#!/usr/sbin/nft -f\\nflush ruleset\\n' > /etc/nftables.conf
systemctl enable lab-network lab-door nftables 2> /dev/null
"""


class Scan:
    """What a scanner has seen so far. ``begin`` is for ``boot``'s ``before``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / f"scan-{port}"
        self._port = port

    def begin(self, near: Host, client: Host) -> None:
        (link,) = json.loads(near.tell("ip", "-j", "link", "show", "dev", "eth0"))
        words = ["wire", link["address"], CLIENT, ADDRESS, str(self._port), str(self.file)]
        self.process = client.start(
            [sys.executable, "-m", "tests.systemd.scanner", *words], PYTHONPATH=f"{gate.REPOSITORY}"
        )
        until(lambda: self.file.exists() and "began" in self.file.read_text(), "the scanner has begun")

    def answers(self) -> list[tuple[float, str]]:
        rows = [line.split() for line in self.file.read_text().splitlines()]
        return [(float(row[0]), row[1]) for row in rows if row[0][0].isdigit()]

    def count(self) -> int:
        return len(self.answers())

    def end(self) -> int:
        """How many SYNs were sent."""
        self.process.terminate()
        self.process.wait()
        return int(self.file.read_text().splitlines()[-1].split()[2])


@contextlib.contextmanager
def booted(folder: Path, *, guarded: bool) -> Iterator[tuple[Machine, Scan, Scan, Path]]:
    """A machine, with somebody at a door and at a port that is none."""
    packages = gate.bundle(folder / "knockgate")
    rest = f"{NETWORK}{gate.offline() if guarded else ''}"
    script = gate.prepare(packages, secrets_of(folder), key_pair(folder), rest=rest)
    door, control = Scan(folder, gate.PORTS["kernel"]), Scan(folder, CONTROL)

    def before(near: Host, client: Host) -> None:
        near.tell("ip", "link", "set", "eth0", "down")
        door.begin(near, client)
        control.begin(near, client)

    with boot(prepare=script, lend=[packages], before=before) as machine:
        try:
            until_active(machine, "lab-door")
            until(lambda: any(kind == "open" for _, kind in control.answers()), "the control answers")
            yield machine, door, control, folder
        finally:
            for each in (door, control):
                each.process.kill()
                each.process.wait()


def longest(times: list[float]) -> float:
    """Seconds from the first to the last of answers that came without one missing in between."""
    runs, begin = [0.0], None
    for before, now in itertools.pairwise(times):
        begin = before if begin is None else begin
        if now - before > 2.5 * scanner.EVERY:
            begin = None
        else:
            runs.append(now - begin)
    return max(runs) + (scanner.EVERY if times else 0)


def test_without_the_units_the_door_answers_from_the_moment_the_network_is_up(tmp_path: Path) -> None:
    with booted(tmp_path, guarded=False) as (_, door, control, _):
        until(lambda: any(kind == "open" for _, kind in door.answers()), "the door answers")
        first, other = door.answers()[0], control.answers()[0]
        print(f"first answers: {first}, {other}; of {door.end()} SYNs {door.count()} were answered")
        assert abs(first[0] - other[0]) < 1


def test_with_them_it_never_does_and_whoever_flushes_all_tables_changes_nothing(tmp_path: Path) -> None:
    with booted(tmp_path, guarded=True) as (machine, door, control, bag):
        until_active(machine, *HALVES)
        assert door.count() == 0 and control.count() > 0
        site = Site(machine, bag)
        (bag / "card").write_text(machine.tell("cat", "/root/gate.card"))
        (bag / "card").chmod(0o600)

        def exposed(act: Callable[[], object]) -> float:
            """Seconds for which the door answered because of that."""
            before, controls = door.count(), control.count()
            act()
            until(lambda: control.count() > controls + 50, "half a second of the control")
            return longest([at for at, _ in door.answers()[before:]])

        others: dict[str, Callable[[], object]] = {
            "nft flush ruleset": lambda: machine.tell("nft", "flush", "ruleset"),
            "systemctl restart nftables": lambda: machine.tell("systemctl", "restart", "nftables"),
            "kill -9 of the warden": lambda: machine.tell("systemctl", "kill", "-s", "KILL", WARDEN),
            "interface down and up": lambda: machine.tell(
                "sh", "-c", "ip link set eth0 down; ip link set eth0 up"
            ),
            "reload": lambda: machine.tell("systemctl", "reload", WARDEN),
        }
        owned = "nobody else can change" in machine.property_of(WARDEN, "StatusText")
        figures = {name: exposed(act) for name, act in others.items()}
        print(f"owned: {owned}; answered for, in seconds: {figures}")
        assert max(figures.values()) <= (0 if owned else 0.05), figures
        until_active(machine, *HALVES)
        assert until(lambda: site.knock("sealed"), "sealed opens", 20.0)
        assert site.knock("packet")  # a sequence of this source would be reset by the scan

        gone = exposed(lambda: machine.tell("sh", "-c", f"systemctl stop {WARDEN}; knockgate down"))
        assert gone > 0.05  # control: such answers are seen
        watch = machine.tell("systemctl", "cat", WARDEN)
        (start,) = [line for line in watch.splitlines() if line.startswith("ExecStart=")]
        machine.tell("mkdir", "-p", f"/etc/systemd/system/{WARDEN}.service.d")
        text = f"[Service]\nExecStart=\n{start} --watch\n"
        path = f"/etc/systemd/system/{WARDEN}.service.d/watch.conf"
        machine.tell("sh", "-c", f"printf %s '{text}' > {path}; systemctl daemon-reload")
        machine.tell("systemctl", "start", *HALVES)
        watched = {name: exposed(act) for name, act in others.items() if "kill" not in name}
        print(f"as before Linux 6.9, answered for, in seconds: {watched}")
        assert max(watched.values()) <= 0.05, watched
        assert "it is back" in machine.tell("journalctl", "--no-pager", "-u", WARDEN)
        assert until(lambda: site.knock("sealed"), "sealed opens", 20.0)
        print(f"of {door.end()} SYNs at the door {door.count()} were answered, in all of this")
        control.end()
