"""A backup on a machine that has lost all of its gate: the units find what they need, of whom it must be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.gate import CONFIG, HALVES
from tests.systemd.machine import NEEDS, boot
from tests.systemd.packaged import Packaged, built, prepare
from tests.systemd.scan import Scan
from tests.systemd.site import key_pair

pytestmark = [
    *NEEDS,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb"),
]

STATE = "/var/lib/knockgate"
#: Mode and owner of each file.
OURS = {
    CONFIG: "640 root:knockgate",
    "/etc/knockgate": "750 root:knockgate",
    STATE: "700 knockgate-listener:knockgate",
    f"{STATE}/gate.keys": "600 knockgate-listener:knockgate",
    f"{STATE}/marks.sqlite": "600 knockgate-listener:knockgate",
}


def recorded(host: Packaged, name: str) -> Path:
    """A knock that has opened, by somebody who keeps it."""
    host.machine.tell("knockgate", "close", "ssh", "--all")
    return Path(shutil.copy(host.captured(), host.bag / name))


def owners(host: Packaged) -> dict[str, str]:
    return {path: host.machine.tell("stat", "-c", "%a %U:%G", path).strip() for path in OURS}


def test_a_gate_that_was_purged_is_there_again(tmp_path: Path) -> None:
    package = built(tmp_path, "0.8")
    bag = tmp_path / "client"
    bag.mkdir()
    with boot(
        prepare=prepare(key_pair(bag)) + "rm -f /root/*.card /root/card", lend=[package.parent]
    ) as machine:
        host = Packaged(machine, bag, Scan(bag, ()))
        machine.tell("systemctl", "start", "ssh")
        host.dpkg("-i", str(package))
        host.unpack(package)
        machine.tell("knockgate", "init", "--user", "jo", "-o", "/root/card")
        host.trust()
        machine.tell("sh", "-c", f"chgrp knockgate {CONFIG} && chmod 640 {CONFIG}")  # as at the next boot
        machine.tell("systemctl", "enable", "--now", *HALVES)
        host.until_running()
        knocks = [recorded(host, "before")]
        machine.tell("knockgate", "backup", "/root/gate.tar")
        knocks.append(recorded(host, "after"))
        assert owners(host) == OURS

        host.dpkg("-P", "knockgate")
        assert machine.run(["ls", STATE]).returncode != 0 and machine.run(["ls", CONFIG]).returncode != 0
        assert host.is_open()
        host.dpkg("-i", str(package))
        machine.tell("knockgate", "restore", "--clock-right", "/root/gate.tar")
        machine.tell("systemctl", "enable", "--now", *HALVES)
        host.until_running()
        assert owners(host) == OURS
        for number, packet in enumerate(knocks, 1):
            host.send(packet)
            until(lambda: len(host.knocks()) == number, "it is heard")  # noqa: B023 - called at once
            assert host.knocks()[0]["reason"] == "replayed"
        assert not host.is_open()
        assert host.knock() and host.is_open()  # the control, with the card of before
