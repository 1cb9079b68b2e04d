"""``knockgate doctor`` and ``check`` on a gate that systemd runs: what is wrong there, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import CONFIG, HALVES, LISTENER, WARDEN, until_active
from tests.systemd.machine import NEEDS, Machine, boot
from tests.systemd.site import Site, key_pair, secrets_of

pytestmark = NEEDS

LINES = "/etc/knockgate/lines"
ONCE = f"""
[doors.once]
ports = ["tcp/83"]
[doors.once.sequence]
one_time = "{LINES}"
runs_in = "daemon"
"""
#: What is found on this machine, whatever state the gate is in: it is a test's, and no real host.
OF_THE_MACHINE = {"clock-trusted", "state-layered", "no-listener", "not-looked-at"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    bag = tmp_path_factory.mktemp("client")
    packages = gate.bundle(tmp_path_factory.mktemp("packages") / "knockgate")
    rest = gate.offline() + f"printf '7100,7200\\n' > {LINES}\nchmod 600 {LINES}\n"
    with boot(
        prepare=gate.prepare(packages, secrets_of(bag), key_pair(bag), rest=rest), lend=[packages]
    ) as m:
        until_active(m, *HALVES)
        gate.begin_service(m)
        yield Site(m, bag)


def findings(machine: Machine) -> dict[str, dict[str, Any]]:
    """Warnings and errors, by id, but for those of the machine."""
    done = machine.run(["knockgate", "doctor", "--json"])
    assert done.returncode in (0, 1), done.stderr
    found = [each for each in json.loads(done.stdout)["findings"] if each["severity"] in ("warning", "error")]
    return {each["id"]: each for each in found if each["id"] not in OF_THE_MACHINE}


def mend(machine: Machine, finding: dict[str, Any]) -> None:
    """Do as it says, up to the first part that is not for a shell."""
    for command in finding["fix"].split("; "):
        if "=" not in command and not command.startswith("journalctl"):
            machine.tell("sh", "-c", command)


def reload(machine: Machine) -> None:
    machine.tell("systemctl", "reload", WARDEN)
    until(lambda: "not-running" not in findings(machine), "the listener has begun anew")


def test_a_gate_as_it_was_installed(site: Site) -> None:
    assert findings(site.machine) == {}


def test_a_file_of_one_time_sequences_that_no_unit_can_mark(site: Site) -> None:
    machine = site.machine
    machine.tell("sh", "-c", f"printf '%s' '{ONCE}' >> {CONFIG}")
    warning = "warning: once: knockgate-listener cannot write "
    assert warning in machine.run(["knockgate", "check"]).stderr
    reload(machine)
    told = findings(machine)
    assert set(told) == {"closed-to-unit"}
    log = f"door once cannot be opened: {LINES}: "
    until(lambda: log in machine.tell("journalctl", "-u", LISTENER, "-o", "cat"), "the listener says so")

    mend(machine, told["closed-to-unit"])
    moved = f"/var/lib/knockgate/{LINES.rpartition('/')[2]}"
    machine.tell("sed", "-i", f's|"{LINES}"|"{moved}"|', CONFIG)
    assert f'one_time = "{moved}"' in told["closed-to-unit"]["fix"]
    assert warning not in machine.run(["knockgate", "check"]).stderr
    reload(machine)
    assert findings(machine) == {}
    machine.tell("systemctl", "restart", LISTENER)
    until(lambda: findings(machine) == {}, "the listener answers")
    since = machine.property_of(LISTENER, "InvocationID")
    machine.client.tell(
        *("python3", "-Ic"),
        "import socket\nfor port in (7100, 7200):\n"
        "    s = socket.socket(); s.setblocking(False); s.connect_ex(('10.77.0.1', port))",
    )
    until(lambda: machine.tell("cat", moved).startswith("#"), "the line is marked as used")
    assert "cannot be opened: all lines" in machine.tell("journalctl", f"_SYSTEMD_INVOCATION_ID={since}")


def test_a_configuration_that_the_halves_cannot_read(site: Site) -> None:
    site.machine.tell("chgrp", "root", CONFIG)
    told = findings(site.machine)
    assert set(told) == {"closed-to-unit"} and f"cannot read {CONFIG}" in told["closed-to-unit"]["seen"]
    mend(site.machine, told["closed-to-unit"])
    assert findings(site.machine) == {}


def test_a_half_that_does_not_run(site: Site) -> None:
    site.machine.tell("systemctl", "stop", LISTENER)
    told = findings(site.machine)
    assert set(told) == {"not-running"}
    mend(site.machine, told["not-running"])
    until_active(site.machine, *HALVES)
    until(lambda: findings(site.machine) == {}, "the listener answers")


def test_what_starts_at_boot_wherever_the_units_lie(site: Site) -> None:
    machine, units = site.machine, [f"{unit}.service" for unit in HALVES]
    for _ in range(2):
        machine.tell("systemctl", "disable", f"{LISTENER}.service")
        told = findings(machine)
        assert set(told) == {"not-at-boot"} and "hears no knock" in told["not-at-boot"]["seen"]
        machine.tell("systemctl", "disable", *units)
        told = findings(machine)
        assert set(told) == {"not-at-boot"} and "nothing that runs" in told["not-at-boot"]["seen"]
        mend(machine, told["not-at-boot"])
        assert findings(machine) == {}
        # A second time as a package lays them down.
        machine.tell("sh", "-c", "mv /etc/systemd/system/knockgate-* /usr/lib/systemd/system/ || :")
        machine.tell("systemctl", "daemon-reload")
        machine.tell("systemctl", "reenable", *units)
    machine.tell("systemctl", "mask", f"{LISTENER}.service")
    assert "not-at-boot" in findings(machine)
    machine.tell("systemctl", "unmask", f"{LISTENER}.service")
    machine.tell("systemctl", "enable", "knockgate-rules.service")
    told = findings(machine)
    assert set(told) == {"twice-at-boot"}
    mend(machine, told["twice-at-boot"])
    assert findings(machine) == {}


def test_a_key_in_words(site: Site) -> None:
    def explained(key: str) -> tuple[int, str]:
        done = site.machine.run(["knockgate", "check", "--explain", key])
        return done.returncode, done.stdout + done.stderr

    status, words = explained("alice")
    assert status == 0 and "packet" in words and "tcp/81" in words
    public = (site.bag / "id.pub").read_text().split()[2]
    for name in ("people", public):
        status, words = explained(name)
        assert status == 0 and "sealed" in words and "tcp/82" in words
    assert explained("nobody-knows")[0] == 2
    site.machine.tell("chmod", "0666", "/home/jo/.ssh/authorized_keys")
    status, words = explained("people")
    assert status == 1 and "/home/jo/.ssh/authorized_keys" in words
    site.machine.tell("chmod", "0600", "/home/jo/.ssh/authorized_keys")
    assert explained("people")[0] == 0
