"""Debian's packages of the daemons that the tutorial shows, installed with our set-up and without it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from tests.systemd.machine import NEEDS, Machine, boot

pytestmark = NEEDS

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("knockd", "fwknop-server", "nftables")
DAEMONS = ("knockd.service", "fwknop-server.service", "nftables.service")

#: What a package does that starts itself. Debian's own knockd of today does not; most daemons do.
EAGER = """#!/bin/sh
set -e
update-rc.d knockd defaults >/dev/null
deb-systemd-helper enable knockd.service >/dev/null
systemctl --system daemon-reload
deb-systemd-invoke start knockd.service >/dev/null
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the packages as files, since the machine has no way to the network."""
    folder = tmp_path_factory.mktemp("archives")
    (folder / "partial").mkdir()
    fetch = [
        "apt-get",
        "install",
        "-y",
        "--download-only",
        "--reinstall",
        "-o",
        f"Dir::Cache::archives={folder}",
    ]
    done = subprocess.run([*fetch, *PACKAGES], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"the packages cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    folder.chmod(0o755)
    return folder


def eager(archives: Path, folder: Path) -> Path:
    """A repository with a newer knockd, the same but for starting and enabling itself."""
    (original,) = archives.glob("knockd_*.deb")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", original, tree], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 9:9", control.read_text()))
    (tree / "DEBIAN/postinst").write_text(EAGER)
    package = folder / "knockd_9.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", tree, package],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    content = package.read_bytes()
    (folder / "Packages").write_text(
        f"{control.read_text().strip()}\nFilename: ./{package.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    return folder


def without_packages(archives: Path, repository: Path | None) -> str:
    """A machine that lacks the packages, can have them, and has no policy against starting daemons."""
    lines = [
        # The index of manual pages would be built anew after each step.
        "rm -f /usr/sbin/policy-rc.d /var/lib/man-db/auto-update",
        f"DEBIAN_FRONTEND=noninteractive apt-get -y purge {' '.join(PACKAGES)}",
        f"cp {archives}/*.deb /var/cache/apt/archives/",
    ]
    if repository:
        lines += [
            f"echo 'deb [trusted=yes] file:{repository} ./' >/etc/apt/sources.list.d/eager.list",
            (
                "apt-get -o Dir::Etc::sourcelist=sources.list.d/eager.list -o Dir::Etc::sourceparts=- "
                "-o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root update"
            ),
        ]
    return "\n".join(lines)


def installed(machine: Machine) -> set[str]:
    listed = machine.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *PACKAGES]).stdout
    return {line.split()[1] for line in listed.splitlines() if line.startswith("installed ")}


def test_a_package_may_start_and_enable_itself(archives: Path, tmp_path: Path) -> None:
    """The control of the next test: without our set-up there is something to prevent."""
    repository = eager(archives, tmp_path)
    with boot(
        prepare=without_packages(archives, repository), lend=[REPOSITORY, archives, repository]
    ) as machine:
        machine.tell("apt-get", "-y", "install", *PACKAGES, DEBIAN_FRONTEND="noninteractive")
        assert machine.is_active("knockd") == ["active"]
        assert "knockd.service" in machine.enabled()


@pytest.mark.parametrize("kind", ["Debian's", "eager"])
def test_our_set_up_starts_and_enables_none(archives: Path, tmp_path: Path, kind: str) -> None:
    repository = eager(archives, tmp_path) if kind == "eager" else None
    lend = [REPOSITORY, archives, *([repository] if repository else [])]
    with boot(prepare=without_packages(archives, repository), lend=lend) as machine:
        assert installed(machine) == set()
        before = machine.enabled()
        machine.tell(f"{REPOSITORY}/tools/setup.sh", "packages", "demo")
        assert installed(machine) == set(PACKAGES)
        version = machine.tell("dpkg-query", "-W", "-f", "${Version}", "knockd")
        assert (version == "9:9") == (kind == "eager")
        assert machine.is_active(*DAEMONS) == ["inactive"] * len(DAEMONS)
        for daemon in DAEMONS:
            assert machine.property_of(daemon, "InactiveExitTimestampMonotonic") == "0", "never tried either"
        assert machine.enabled() == before
        links = machine.run(["sh", "-c", "ls /etc/rc[2-5].d/S*knockd /etc/rc[2-5].d/S*fwknop-server"]).stdout
        assert links == ""
        assert machine.run(["test", "-e", "/usr/sbin/policy-rc.d"]).returncode == 1, "as it was before"
