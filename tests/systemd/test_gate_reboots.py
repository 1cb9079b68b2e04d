"""A machine that is rebooted, in order and by power loss, while somebody scans it: what outlives that.

Disk and network are those of before. Clocks and the boot's identity are injected, since a boot in here has
the kernel and the clock of this host: each boot has an identity of its own, and in the last one it is 1970.
The disk loses nothing that was written, synchronised or not: that is for test_sealed_crash.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import HALVES, LISTENER, PORTS, until_active
from tests.systemd.machine import ADDRESS, ADDRESS6, CLIENT, CLIENT6, NEEDS, Hardware
from tests.systemd.scan import Scan
from tests.systemd.scanned import built, script
from tests.systemd.site import Site, open_ends

pytestmark = [*NEEDS, pytest.mark.skipif(not shutil.which("cc"), reason="not installed: cc")]

CLOCKS = Path(__file__).parents[1] / "interop" / "clocks.c"
SECOND = 10**9
#: The door for sealed knocks is for devices that were enrolled, and the gate believes its clock when it may.
FURNISH = f"""
sed -i 's/^clock = .*/clock = "auto"/' {gate.CONFIG}
printf '[doors.sealed.sealed]\\ndevices = "known"\\n' >> {gate.CONFIG}
mkdir -p /usr/lib/lab /etc/systemd/system/{LISTENER}.service.d
cat > /etc/systemd/system/{LISTENER}.service.d/clocks.conf <<'EOF'
[Service]
Environment=LD_PRELOAD=/usr/lib/lab/clocks.so TEST_CLOCKS=/usr/lib/lab/clocks
BindReadOnlyPaths=/usr/lib/lab/boot_id:/proc/sys/kernel/random/boot_id
EOF
"""
#: Writes the frames of all datagrams to the gate into a file, a line each.
RECORD = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("wire", 3))
with open(sys.argv[1], "w") as told:
    print("begun", file=told, flush=True)
    while True:
        frame = wire.recv(4096)
        port = int.from_bytes(frame[36:38], "big")
        if frame[12:14] == b"\\x08\\x00" and frame[23] == 17 and port in (62201, 62202):
            print(frame.hex(), file=told, flush=True)
"""
SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.bind(("wire", 0))
for frame in sys.argv[1:]:
    wire.send(bytes.fromhex(frame))
"""
KEPT = "/etc/knockgate /var/lib/knockgate-warden /var/lib/knockgate/gate.keys /var/lib/knockgate/devices"


@dataclass
class Life:
    """Of one machine, over its boots."""

    folder: Path  # what its client has, and what is lent to it
    hardware: Hardware
    scan: Scan
    packages: Path
    site: Site = field(init=False)

    @contextlib.contextmanager
    def boot(self, furnish: str = "", *, in_1970: bool = False) -> Iterator[Site]:
        """With the gate up, and nobody having got an answer so far."""
        answers = len(self.scan.of_doors())
        # What is added to the wall clock and the uptime, and how far off the kernel says to be: see clocks.c.
        clocks = 0, 0, 1000
        if in_1970:
            up = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            clocks = 20 * SECOND - time.time_ns(), 20 * SECOND - up, 16_000_000
        (self.folder / "clocks").write_bytes(struct.pack("=qqq", *clocks))
        identity = (
            f"echo {os.urandom(16).hex()} > /usr/lib/lab/boot_id; cp {self.folder}/clocks* /usr/lib/lab"
        )
        with self.hardware.boot(prepare=furnish + identity, lend=[self.packages, self.folder]) as machine:
            self.site = Site(machine, self.folder, self.packages)
            until_active(machine, "lab-door", *HALVES)
            self.scan.until_heard()
            assert len(self.scan.of_doors()) == answers
            yield self.site

    def open_doors(self) -> set[str]:
        """To the client, over IPv4 or IPv6."""
        ways = (CLIENT, ADDRESS), (CLIENT6, ADDRESS6)
        ends = {(*way, port) for way in ways for port in PORTS.values()}
        found = {port for _, _, port in open_ends(self.hardware.client, ends)}
        return {door for door, port in PORTS.items() if port in found}

    def told(self, *words: str) -> Any:  # noqa: ANN401 - as json.loads
        return json.loads(self.site.machine.tell("knockgate", *words, "--json"))

    def clock(self) -> str:
        """What the gate thinks of it."""
        state: str = self.told("status")["daemon"]["sealed"]["clock"]["state"]
        return state

    def replayed(self) -> dict[str, int]:
        """How many replays were refused, of each kind of packets; ``duplicate``: by who has just had it."""
        daemon = self.told("status")["daemon"]
        counts = {kind: daemon[kind]["refused"] for kind in ("sealed", "packets")}
        reasons = ("replayed", "duplicate")
        return {kind: sum(each.get(reason, 0) for reason in reasons) for kind, each in counts.items()}

    def kept(self) -> tuple[str, list[tuple[str, ...]]]:
        """Configuration, keys, what was said of devices and the rules of last time; and the marks."""
        script = f"find {KEPT} -type f | sort | xargs sha256sum; find {KEPT} -printf '%p %m %u:%g\\n' | sort"
        devices = self.told("device", "list")["devices"]
        names = ("row", "state", "key", "era", "issued")
        marks = [tuple(str(each[name]) for name in names) for each in devices]
        return self.site.machine.tell("sh", "-c", script), marks

    def knock(self, door: str) -> None:
        assert until(lambda: self.site.knock(door), f"{door} opens", 20.0)

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[str]]:
        """The frames that have gone to the gate; they are there when it ends."""
        frames: list[str] = []
        file = self.folder / "frames"
        recorder = self.hardware.client.start([sys.executable, "-I", "-c", RECORD, str(file)])
        until(lambda: file.exists() and "begun" in file.read_text(), "the recorder has begun")
        try:
            yield frames
            until(lambda: file.read_text().count("\n") == 3, "both packets are recorded")
            frames += file.read_text().splitlines()[1:]
        finally:
            recorder.kill()
            recorder.wait()

    def replay(self, frames: list[str]) -> None:
        """They are refused, each of them, and nothing opens."""
        before = self.replayed()
        assert self.open_doors() == set()
        self.hardware.client.tell(sys.executable, "-I", "-c", SEND, *frames)
        after = {kind: count + 1 for kind, count in before.items()}
        until(lambda: self.replayed() == after, "both are refused as replays", 20.0)
        assert self.open_doors() == set()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    folder = tmp_path / "client"
    folder.mkdir()
    compiler = ["cc", "-shared", "-fPIC", "-O1", "-o", str(folder / "clocks.so"), str(CLOCKS)]
    subprocess.run(compiler, check=True)
    with built(folder) as (hardware, scan):
        yield Life(folder, hardware, scan, gate.bundle(tmp_path / "knockgate"))


def test_what_outlives_a_reboot(life: Life) -> None:
    with life.boot(script(life.folder, life.packages) + FURNISH) as site:
        site.take_card()
        assert not site.knock("sealed")  # the device is not enrolled
        (device,) = life.told("device", "list")["devices"]
        site.machine.tell("knockgate", "device", "enrol", device["row"], "--name", "laptop")
        for door in ("kernel", "daemon"):
            life.knock(door)
        life.knock("sealed")  # the gate has read what was said of the device
        site.close()
        with life.recording() as frames:
            life.knock("sealed")
            life.knock("packet")
        assert life.open_doors() == {"sealed", "packet"}
        site.close()
        life.replay(frames)  # control: so it is without a reboot
        site.machine.tell("knockgate", "open", "kernel", CLIENT, "--for", "1h")
        life.knock("sealed")
        assert life.open_doors() == {"kernel", "sealed"}
        assert life.clock() == "sure"
        kept = life.kept()
        assert [mark[1] for mark in kept[1]] == ["known"]
    # Power loss: no process of the machine's had a chance to do anything.

    with life.boot() as site:
        as_before(life, kept, frames)
        assert life.clock() == "sure"
        kept = life.kept()
        site.machine.shut_down()
        assert life.scan.of_doors() == []  # also while services are stopped, of which one flushes all tables

    with life.boot():
        as_before(life, kept, frames)
        kept = life.kept()

    with life.boot(in_1970=True):
        as_before(life, kept, frames)
        assert life.clock() == "floored"
    sent = life.scan.end()
    print(f"of {sent} SYNs none was answered at a door, and {len(life.scan.of_control())} at the control")
    assert life.scan.of_doors() == []


def as_before(life: Life, kept: tuple[str, list[tuple[str, ...]]], frames: list[str]) -> None:
    """All is, but that no lease has outlived the boot; and everybody who may can knock."""
    assert life.open_doors() == set()
    assert life.told("status")["leases"] == []
    assert life.kept() == kept
    life.replay(frames)
    for door in PORTS:
        life.knock(door)  # control
    assert life.open_doors() == set(PORTS)
