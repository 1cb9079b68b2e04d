"""A machine for Debian packages of ours, with its real sshd, and a client who has the package's files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.folders import let_others_in
from tests.netns import until
from tests.systemd.gate import CONFIG, CONTROL, HALVES, LISTENER, REPOSITORY, until_active
from tests.systemd.machine import ADDRESS, ADDRESS6, CLIENT, Machine
from tests.systemd.scan import Scan
from tests.systemd.scanned import NETWORK
from tools import deb

__all__ = ["TARGETS", "Packaged", "built", "prepare"]

#: The door, and what is none, over IPv4 and IPv6.
TARGETS = tuple(f"{host},{port}" for port in (22, CONTROL) for host in (ADDRESS, ADDRESS6))
_SERVICE = (
    "import socket\n"
    f"s = socket.create_server(('::', {CONTROL}), family=socket.AF_INET6, dualstack_ipv6=True)\n"
    "while True: s.accept()[0].sendall(b'hello')"
)
#: What tells of the version; the rest of a copy is as here.
_VERSION = "src/knockgate/__init__.py"
_CAPTURE = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as wire:
    wire.bind(("wire", 3))
    open(sys.argv[1] + ".begun", "w").close()
    while True:
        packet = wire.recv(4096)
        head = (packet[0] & 15) * 4
        is_udp = packet[0] >> 4 == 4 and packet[9] == 17
        if is_udp and int.from_bytes(packet[head + 2:head + 4], "big") == 62202:
            break
with open(sys.argv[1], "wb") as file:
    file.write(packet[head + 8:])
"""
#: The listener keeps the file locked, so it is a copy that is read.
_MARKS = """
import glob, shutil, sqlite3, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    for file in glob.glob(sys.argv[1] + "*"):
        shutil.copy(file, folder)
    marks = sqlite3.connect(folder + "/marks.sqlite")
    print(*sorted(map(repr, marks.execute("SELECT * FROM marks"))), sep="\\n")
"""
_CUT = """
setsid dpkg -i "$1" > /dev/null 2>&1 &
until [ "$(dpkg-query -W -f '${db:Status-Status}' knockgate)" = "$2" ]; do kill -0 $! || exit 1; done
kill -KILL -$!
wait
"""
_SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[2], 0))
s.sendto(open(sys.argv[1], "rb").read(), (sys.argv[3], 62202))
"""


def built(folder: Path, version: str) -> Path:
    """A package of that version, from a copy of this checkout; the wheels are those of `make deb`."""
    copy = folder / f"copy-{version}"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "tools", "packaging", "requirements", "examples", "docs"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    for name in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy)
    line = (copy / _VERSION).read_text()
    (copy / _VERSION).write_text(line.replace('__version__ = "', f'__version__ = "{version}" # was "'))
    out = folder / "packages"
    out.mkdir(exist_ok=True)
    if not (out / "deb-libraries").exists():
        asked = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
        libraries = deb.fetch(REPOSITORY / "build" / "deb-libraries", asked.stdout.strip())
        (out / "deb-libraries").symlink_to(libraries)
    done = subprocess.run(
        [sys.executable, "-m", "tools.deb", str(out)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy}/src:{copy}", "SOURCE_DATE_EPOCH": "1700000000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (package,) = out.glob(f"knockgate_{version}_*.deb")
    let_others_in(out)
    return package


def prepare(key: str) -> str:
    """The machine's sshd and its user jo, at each boot; and packages may start what they like."""
    return f"""
        {NETWORK}
        systemctl enable ssh 2> /dev/null
        rm -f /usr/sbin/policy-rc.d
        useradd -m -s /bin/sh jo || :
        mkdir -p /home/jo/.ssh
        (umask 077; printf '%s\\n' {shlex.quote(key)} > /home/jo/.ssh/authorized_keys)
        chmod 700 /home/jo /home/jo/.ssh
        chown -R jo: /home/jo
        ssh-keygen -A > /dev/null
        printf %s {shlex.quote(_SERVICE)} > /usr/local/lib/service.py
    """


@dataclass
class Packaged:
    """The machine; the bag of its client; and who scans its door."""

    machine: Machine
    bag: Path
    scan: Scan

    # --- at the machine -------------------------------------------------------------------------------

    def dpkg(self, *words: str) -> str:
        """What it said; it never asks."""
        done = self.machine.run(["dpkg", "--force-confold", *words], DEBIAN_FRONTEND="noninteractive")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def cut_short(self, package: Path, status: str) -> None:
        """Install it, and kill dpkg and all that it has started once the package has that status."""
        done = self.machine.run(["sh", "-c", _CUT, "cut", str(package), status])
        assert done.returncode == 0, done.stderr
        assert self.status() == status

    def status(self) -> str:
        return self.machine.tell("dpkg-query", "-W", "-f", "${db:Status-Status}", "knockgate")

    def deaf(self) -> float:
        """Seconds for which there was no listener, when it was started last."""
        was, since = (
            int(self.machine.property_of(LISTENER, f"{name}TimestampMonotonic"))
            for name in ("ActiveExit", "ActiveEnter")
        )
        return (since - was) / 1e6

    def lease(self) -> dict[str, Any]:
        """The only one that lives."""
        status = json.loads(self.machine.run(["knockgate", "status", "--json"]).stdout)
        (lease,) = status["leases"]
        found: dict[str, Any] = lease
        return found

    def knocks(self) -> list[dict[str, Any]]:
        """What became of those that somebody has signed, newest first."""
        found: list[dict[str, Any]] = json.loads(self.machine.tell("knockgate", "explain", "--json"))[
            "knocks"
        ]
        return found

    def kept(self) -> dict[str, str]:
        """What must survive all but a purge: files by their digests, and what is remembered of devices."""
        state = "/var/lib/knockgate"
        files = [CONFIG, f"{state}/gate.keys", f"{state}/devices"]
        lines = self.machine.tell("sha256sum", *files).splitlines()
        marks = self.machine.tell("python3", "-I", "-c", _MARKS, f"{state}/marks.sqlite")
        return {line.split()[1]: line.split()[0] for line in lines} | {"marks": marks}

    def close(self, config: str = CONFIG) -> None:
        self.machine.tell("knockgate", "close", "ssh", "--all", "--config", config)

    def until_running(self) -> None:
        until_active(self.machine, *HALVES)

    # --- at the client --------------------------------------------------------------------------------

    def unpack(self, package: Path) -> None:
        """Have the client use the package's files, where it has no root and no /usr of its own."""
        subprocess.run(["dpkg-deb", "-x", str(package), str(self.bag / "unpacked")], check=True)
        launcher = (self.bag / "unpacked/usr/bin/knockgate").read_text()
        (self.bag / "knockgate").write_text(launcher.replace("/usr/lib/", f"{self.bag}/unpacked/usr/lib/"))
        (self.bag / "knockgate").chmod(0o755)
        connect = f"ProxyCommand env HOME={self.bag} {self.bag}/knockgate connect --source {CLIENT} %h %p"
        lines = ["User jo", "BatchMode yes", f"IdentityFile {self.bag}/id", "IdentitiesOnly yes", connect]
        lines += [f"UserKnownHostsFile {self.bag}/known_hosts", "StrictHostKeyChecking accept-new"]
        (self.bag / "config").write_text("\n".join(lines) + "\n")

    def trust(self) -> None:
        (self.bag / "card").write_text(self.machine.tell("cat", "/root/card"))
        words = ["home", ADDRESS, f"{self.bag}/card", "--wait", "tcp/22", "-i", f"{self.bag}/id"]
        self.tell("trust", *words)

    def tell(self, *words: str) -> str:
        return self.machine.client.tell(f"{self.bag}/knockgate", *words, HOME=str(self.bag))

    def knock(self) -> bool:
        words = [f"{self.bag}/knockgate", "knock", "home", "--source", CLIENT, "--timeout", "3s"]
        return self.machine.client.run(words, HOME=str(self.bag)).returncode == 0

    def ssh(self, command: str) -> str:
        """By the real ssh, which knocks if it has to."""
        return self.machine.client.tell("ssh", "-F", f"{self.bag}/config", ADDRESS, command)

    def session(self) -> Session:
        """One that goes on, and writes a line every 50 ms."""
        command = "while :; do echo on; sleep 0.05; done"
        words = ["ssh", "-F", f"{self.bag}/config", ADDRESS, command]
        file = self.bag / "session"
        script = f"exec {shlex.join(words)} > {file} 2>&1"
        return Session(self.machine.client.start(["sh", "-c", script]), file)

    def is_open(self) -> bool:
        """Whether sshd answers the client at once, without a knock."""
        code = (
            "import socket, sys\n"
            "s = socket.create_connection((sys.argv[2], 22), 0.5, (sys.argv[1], 0))\n"
            "s.settimeout(10); print(s.recv(4).decode())"
        )
        done = self.machine.client.run([sys.executable, "-I", "-c", code, CLIENT, ADDRESS])
        return done.stdout == "SSH-\n"

    def captured(self) -> Path:
        """Knock, and keep the packet."""
        file = self.bag / "packet"
        process = self.machine.client.start([sys.executable, "-I", "-c", _CAPTURE, str(file)])
        until(lambda: Path(f"{file}.begun").exists(), "the wire is listened to")
        assert self.knock()
        assert process.wait(10) == 0
        return file

    def send(self, packet: Path) -> None:
        """As it was."""
        self.machine.client.tell(sys.executable, "-I", "-c", _SEND, str(packet), CLIENT, ADDRESS)


@dataclass
class Session:
    """An ssh session under way."""

    process: subprocess.Popen[bytes]
    file: Path

    def lines(self) -> int:
        return self.file.read_text().count("on\n") if self.file.exists() else 0

    def until_lively(self) -> None:
        before = self.lines()
        until(lambda: self.lines() > before + 5, "the session goes on", 20.0)
        assert self.process.poll() is None

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
