"""examples/cloud-init, by Debian's cloud-init on a booted machine, with everything but the cloud.

`make examples` fetches cloud-init's packages into a folder below build; on that machine alone they are
installed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.examples import STRANGER, Example
from tests.systemd.gate import HALVES, REPOSITORY
from tests.systemd.machine import CLIENT, NEEDS, boot
from tests.systemd.packaged import Packaged, built
from tests.systemd.scan import Scan
from tests.systemd.site import key_pair

EXAMPLE = REPOSITORY / "examples" / "cloud-init" / "user-data.yaml"
PACKAGES = REPOSITORY / "build" / "cloud-init"
pytestmark = [
    *NEEDS,
    pytest.mark.skipif(
        not list(PACKAGES.glob("cloud-init_*.deb")),
        reason="no packages of cloud-init; `make examples` fetches them",
    ),
]

#: What a cloud would do: the data lies on a disk. Its network is ours.
_SEED = "/var/lib/cloud/seed/nocloud"
_SETTINGS = """
datasource_list: [NoCloud]
network: {config: disabled}
apt: {preserve_sources_list: true}
locale: C.UTF-8
"""


class Cloud(Example):
    def does(self, *words: str) -> None:
        """A stage of cloud-init's, as its units have it; it takes as long as it takes."""
        process = self.host.machine.start(["cloud-init", *words])
        status = process.wait(400)
        said = self.host.machine.run(["cat", "/var/log/cloud-init-output.log"]).stdout
        assert status == 0, said


def user_data(key: str, package: Path) -> str:
    """The example, with what somebody has put in."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    text = EXAMPLE.read_text()
    for pattern, own in (
        (r"ssh-ed25519 \S+ jo@laptop", key),
        (r"203\.0\.113\.0/24", f"{CLIENT}/32"),
        (r"https://files\.example/\S+", f"file://{package}"),
        (r"0{64}", f'"{digest}"'),
    ):
        text, number = re.subn(pattern, own, text)
        assert number == 1, pattern
    return text


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    package = built(tmp_path_factory.mktemp("packages"), "0.8")
    bag = tmp_path_factory.mktemp("client")
    seed = tmp_path_factory.mktemp("seed")
    (seed / "user-data").write_text(user_data(key_pair(bag), package))
    (seed / "meta-data").write_text("instance-id: one\nlocal-hostname: machine\n")
    (seed / "settings").write_text(_SETTINGS)
    with boot(prepare="rm -f /root/*.card; ssh-keygen -A", lend=[package.parent, seed, PACKAGES]) as machine:
        machine.tell("systemctl", "start", "ssh")
        install = f"dpkg -i --force-unsafe-io {PACKAGES}/*.deb >/tmp/dpkg 2>&1"
        process = machine.start(["sh", "-c", install], DEBIAN_FRONTEND="noninteractive")
        assert process.wait(400) == 0, machine.tell("cat", "/tmp/dpkg")
        machine.tell("mkdir", "-p", _SEED)
        machine.tell("cp", f"{seed}/user-data", f"{seed}/meta-data", _SEED)
        machine.tell("cp", f"{seed}/settings", "/etc/cloud/cloud.cfg.d/99-here.cfg")
        machine.client.tell("ip", "address", "add", f"{STRANGER}/24", "dev", "wire")
        host = Packaged(machine, bag, Scan(bag, ()))
        host.unpack(package)
        yield Cloud(host)


def test_it_is_behind_a_gate_after_its_first_boot(cloud: Cloud) -> None:
    host, machine = cloud.host, cloud.host.machine
    said = machine.run(["cloud-init", "schema", "--config-file", f"{_SEED}/user-data"])
    assert said.returncode == 0 and "Valid" in said.stdout, said.stdout + said.stderr
    machine.tell("sh", "-c", f"sed 's/permissions: .*/permissions: 640/' {_SEED}/user-data > /tmp/wrong")
    wrong = machine.run(["cloud-init", "schema", "--config-file", "/tmp/wrong"])
    assert wrong.returncode != 0 and "permissions" in wrong.stderr  # the control
    until(lambda: cloud.reaches(STRANGER), "sshd answers everybody")
    cloud.does("init", "--local")
    cloud.does("init")
    assert "jo" in machine.tell("getent", "passwd", "jo")
    cloud.does("modules", "--mode=config")
    assert cloud.reaches(STRANGER)  # nothing is shut so far
    cloud.does("modules", "--mode=final")
    cloud.must_be_guarded()
    assert machine.tell("stat", "-c", "%a", "/root/everybody.card") == "600\n"
    (host.bag / "card").write_text(machine.tell("cat", "/root/everybody.card"))
    cloud.must_open_to(host.bag / "card")


def test_where_the_package_is_another_one_nothing_is_shut(cloud: Cloud) -> None:
    """On the same machine, once more from the start: what it has by now is taken away first."""
    machine = cloud.host.machine
    machine.tell("sh", "-c", "systemctl disable --now knockgate-listener knockgate-warden && knockgate down")
    machine.tell("sh", "-c", f'sed -Ei \'s/"[0-9a-f]{{64}}"/"{"0" * 64}"/\' {_SEED}/user-data')
    machine.tell("cloud-init", "clean", "--logs")
    cloud.does("init", "--local")
    cloud.does("init")
    cloud.does("modules", "--mode=config")
    process = machine.start(["cloud-init", "modules", "--mode=final"])
    assert process.wait(300) != 0
    assert "WARNING: 1 computed checksum did NOT match" in machine.tell(
        "cat", "/var/log/cloud-init-output.log"
    )
    assert machine.is_active(*HALVES) == ["inactive"] * 2 and cloud.reaches(STRANGER)
