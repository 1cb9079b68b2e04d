"""A staged machine for tools/setup.sh, with recorders in place of the programs that change one.

The script's files of the machine are staged below a folder (SETUP_ROOT), and PATH begins with a folder
of stand-ins that write down how they were called. What is real: bash, coreutils, grep, sed, flock. That
Debian's packages really come without a running daemon is shown where real systemd runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import REPO

ALL = [
    "fish",
    "groff-base",
    "man-db",
    "mandoc",
    "zsh",
    "procps",
    "python3-cffi-backend",
    "openssh-client",
    "openssh-server",
    "openssl",
    "strace",
    "nftables",
    "iptables",
    "knockd",
    "fwknop-server",
    "fwknop-client",
    "nmap",
    "iproute2",
    "util-linux",
    "python3",
    "python3-venv",
    "tcpdump",
    "systemd",
]

STAND_INS = {
    "id": 'echo "$FAKE_UID"',
    # What is installed is a file of names; what a package ships is a file named after it.
    "dpkg-query": """
case $1 in
-L) cat "$FAKE/files/$2" 2>/dev/null ;;
*) shift 3; status=0
   if [ $# = 0 ]; then sed 's/^/installed /' "$FAKE/installed"; exit; fi
   for name; do grep -qx -- "$name" "$FAKE/installed" && echo "installed $name" || status=1; done
   exit $status ;;
esac""",
    # Installing puts the names on the list and makes the links that Debian's scripts make, and asks
    # policy-rc.d as they do.
    "apt-get": """
echo "apt-get $*" >>"$FAKE/log"
case " $* " in
*" update "*) exit 0 ;;
*" --simulate "*) [ ! -e "$FAKE/no-lists" ] || { rm "$FAKE/no-lists"; exit 100; }; exit 0 ;;
esac
[ ! -e "$FAKE/fail" ] || exit 100
for asked in knockd.service ssh.service; do
    "$SETUP_ROOT/usr/sbin/policy-rc.d" $asked start; echo "policy $asked $?" >>"$FAKE/log"
done
for name; do case $name in -* | install | *=*) ;; *) echo "$name" >>"$FAKE/installed" ;; esac; done
ln -s x "$SETUP_ROOT/etc/systemd/system/multi-user.target.wants/knockd.service"
ln -s x "$SETUP_ROOT/etc/rc3.d/S01knockd"
[ ! -e "$FAKE/hang" ] || { touch "$FAKE/hanging"; sleep 1; }""",
    "systemctl": 'echo "systemctl $*" >>"$FAKE/log"; exit "${FAKE_SYSTEMCTL:-0}"',
    "deb-systemd-helper": 'echo "deb-systemd-helper $*" >>"$FAKE/log"',
    "update-rc.d": 'echo "update-rc.d $*" >>"$FAKE/log"',
    "sudo": """echo "sudo $*" >>"$FAKE/log"; [ "$FAKE_SUDO" = yes ] || exit 1
[ "$1" != -n ] || shift
export FAKE_UID=0; exec "$@"
""",
}


class Machine:
    """A staged machine: its files, its stand-ins, and what they were asked to do."""

    def __init__(self, folder: Path) -> None:
        self.fake = folder / "fake"
        self.root = folder / "the machine"
        self.repo = folder / "a clone"
        self.policy = self.root / "usr/sbin/policy-rc.d"
        self.state = self.root / "var/lib/knockgate-setup"
        for name in (
            "etc/systemd/system/multi-user.target.wants",
            "etc/init.d",
            "etc/rc3.d",
            "lib/systemd/system",
            "run",
            "usr/sbin",
            "usr/bin",
            "var/lib",
        ):
            (self.root / name).mkdir(parents=True)
        (self.fake / "files").mkdir(parents=True)
        (self.fake / "bin").mkdir()
        for name, text in STAND_INS.items():
            self.program(self.fake / "bin" / name, text)
        self.installed("bash", "openssh-server")
        self.ships("knockd", "/lib/systemd/system/knockd.service", "/etc/init.d/knockd")
        self.ships("openssh-server", "/lib/systemd/system/ssh.service")
        (self.root / "lib/systemd/system/ssh.service").touch()
        (self.root / "etc/systemd/system/multi-user.target.wants/ssh.service").symlink_to("x")
        for name in ("tools/setup.sh", "requirements/dev.txt", "pyproject.toml"):
            (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, self.repo / name)

    @staticmethod
    def program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def installed(self, *names: str) -> None:
        (self.fake / "installed").write_text("".join(f"{name}\n" for name in names))

    def ships(self, package: str, *files: str) -> None:
        (self.fake / "files" / package).write_text("".join(f"{name}\n" for name in files))

    def start(self, *arguments: str, uid: int = 0, sudo: str = "no", **more: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PATH": f"{self.fake / 'bin'}:/usr/bin:/bin",
            "SETUP_ROOT": str(self.root),
            "FAKE": str(self.fake),
            "FAKE_UID": str(uid),
            "FAKE_SUDO": sudo,
        }
        return subprocess.Popen(
            [self.repo / "tools/setup.sh", *arguments],
            env=environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a Ctrl-C can be sent to all of it
        )

    def run(
        self, *arguments: str, uid: int = 0, sudo: str = "no", **more: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, uid=uid, sudo=sudo, **more)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @property
    def log(self) -> list[str]:
        log = self.fake / "log"
        return log.read_text().splitlines() if log.exists() else []

    def assert_right(self) -> None:
        """Nothing of the set-up is left on the machine."""
        assert not self.policy.exists()
        assert not self.state.exists()
        assert [path.name for path in self.policy.parent.iterdir()] == []
