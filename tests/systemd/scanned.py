"""A machine that boots while somebody scans it, and which only then sets its network up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import until_active
from tests.systemd.machine import ADDRESS6, CLIENT, Hardware, hardware
from tests.systemd.scan import EVERYWHERE, Scan
from tests.systemd.site import Site, key_pair, secrets_of

__all__ = ["NETWORK", "booted", "built", "script"]

#: Which brings the interface up when networks may begin; the service begins when there is one.
NETWORK = f"""
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
ExecStart=/bin/ip address replace {ADDRESS6}/64 dev eth0 nodad
ExecStart=/bin/ip route replace default via {CLIENT}
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


def script(folder: Path, packages: Path, *, guarded: bool = True) -> str:
    """What is laid down before the first boot; the client's part lands in the folder."""
    rest = f"{NETWORK}{gate.offline() if guarded else ''}"
    return gate.prepare(packages, secrets_of(folder), key_pair(folder), rest=rest)


@contextlib.contextmanager
def built(folder: Path, targets: Sequence[str] = EVERYWHERE) -> Iterator[tuple[Hardware, Scan]]:
    """A machine that is switched off, and a scanner who is at it already."""
    scan = Scan(folder, targets)
    with hardware() as machine:
        machine.near.tell("ip", "link", "set", "eth0", "down")
        scan.begin(machine.near, machine.client)
        try:
            yield machine, scan
        finally:
            scan.end()


@contextlib.contextmanager
def booted(
    folder: Path, *, guarded: bool, targets: Sequence[str] = EVERYWHERE
) -> Iterator[tuple[Site, Scan, Hardware]]:
    """A machine that is up, with its service; ``guarded``: and with the gate."""
    packages = gate.bundle(folder / "knockgate")
    text = script(folder, packages, guarded=guarded)
    with built(folder, targets) as (machine, scan), machine.boot(prepare=text, lend=[packages]) as running:
        until_active(running, "lab-door")
        until(scan.of_control, "the control answers", 30.0)
        site = Site(running, folder, packages)
        if guarded:
            site.take_card()
        yield site, scan, machine
