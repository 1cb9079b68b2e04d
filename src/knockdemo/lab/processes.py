"""The lab's daemons: the same commands as the units', with the same files, in the host's namespace.

The files that ``install`` would lay down are written below a stage folder instead, and where a unit's
command names one of them, it is given the staged one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from knockdemo import install
from knockdemo.lab.hosts import Actor
from knockdemo.lab.wait import until
from knockgate.errors import Unavailable

__all__ = ["Daemons"]

_UNITS = "/etc/systemd/system"
_START_SECONDS = 20.0


class Daemons:
    """Starts, watches and ends units on the lab's host."""

    def __init__(self, host: Actor, files: Mapping[str, install.File], stage: Path) -> None:
        self._host = host
        self._files = files
        self._stage = stage
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ran: set[str] = set()  #: units whose one command has ended, having done its job
        for target, file in files.items():
            path = self.staged(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)

    def staged(self, target: str) -> Path:
        """Where a file that would be installed at ``target`` lies in the lab."""
        return self._stage / target.lstrip("/")

    def start(self, unit: str) -> None:
        """Start a unit and wait until it does its job; starting what runs already does nothing."""
        if unit in self._running or unit in self._ran:
            return
        text = self._text(unit)
        instance = re.search(r"@(.+)\.service", unit)
        command = [
            str(self.staged(word)) if word in self._files else word
            for word in install.exec_start(text, instance.group(1) if instance else "")
        ]
        command = [*_as_user(text), *command]
        kind = re.search(r"^Type=(\w+)", text, re.MULTILINE)
        if kind and kind.group(1) == "oneshot":
            self._host.do(command)
            self._ran.add(unit)
            return
        with self._notification(unit) as (environment, notified):
            with self._log_path(unit).open("ab") as log:
                self._running[unit] = subprocess.Popen(
                    self._host.command(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**self._host.environment, **environment},
                    # A session of its own: its children can be ended with it, as systemd does.
                    start_new_session=True,
                )
            if kind and kind.group(1) == "notify":
                until(lambda: self._lives(unit) and notified(), _START_SECONDS, f"{unit} is ready")
            else:
                until(lambda: self._lives(unit) and self._hears(unit), _START_SECONDS, f"{unit} listens")

    def restart(self, unit: str) -> None:
        """End it with SIGTERM, as ``systemctl restart`` does, then start it again."""
        process = self._running.pop(unit)
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{unit} did not end within 30 s of SIGTERM") from None
        self.start(unit)

    def kill(self, unit: str, *, children: bool = True) -> int:
        """SIGKILL to the daemon and all it started, as systemd does when a service's main process dies.

        With ``children`` False to the main process alone, as ``kill -9 PID`` does outside systemd.
        Returns how many processes that were: none where the unit's one command has ended long ago.
        """
        if unit in self._ran:
            return 0
        process = self._running.pop(unit)
        pids = (process.pid, *(_descendants(process.pid) if children else ()))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return len(pids)

    def pid(self, unit: str) -> int:
        """The main process of a running unit."""
        return self._running[unit].pid

    def log(self, unit: str) -> str:
        """Everything that the unit has said so far."""
        path = self._log_path(unit)
        return path.read_text(errors="replace") if path.exists() else ""

    def expect_alive(self) -> None:
        """Raise Unavailable if a daemon has ended by itself: what is measured then means nothing."""
        for unit in self._running:
            self._lives(unit)

    def _text(self, unit: str) -> str:
        template = re.sub(r"@.+\.service", "@.service", unit)
        for target in (f"{_UNITS}/{template}", f"{_UNITS}/{unit}.d/knockdemo.conf"):
            if target in self._files:
                return self._files[target].content.decode()
        raise Unavailable(f"no unit {unit}")

    def _log_path(self, unit: str) -> Path:
        return self._stage / f"{unit}.log"

    def _lives(self, unit: str) -> bool:
        status = self._running[unit].poll()
        if status is None:
            return True
        said = self.log(unit).strip().splitlines()
        raise Unavailable(f"{unit} ended with status {status}: {said[-1] if said else 'without a word'}")

    def _hears(self, unit: str) -> bool:
        """Whether it holds a packet socket (packet(7)) or a bound UDP one: its rules are made before.

        The latter is fwknopd's where it is built without pcap: Debian 13, Ubuntu 24.04.
        """
        process = Path(f"/proc/{self._running[unit].pid}")
        with contextlib.suppress(OSError):
            inodes = set()
            for table, column in (("packet", 8), ("udp", 9)):
                lines = (process / "net" / table).read_text().splitlines()[1:]
                inodes |= {f"socket:[{line.split()[column]}]" for line in lines}
            return any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir())
        return False

    @contextlib.contextmanager
    def _notification(self, unit: str) -> Iterator[tuple[dict[str, str], Callable[[], bool]]]:
        """A socket for sd_notify(3): yields (environment, has READY=1 come)."""
        path = self._stage / f"{unit}.notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
            sock.settimeout(0)

            def notified() -> bool:
                with contextlib.suppress(BlockingIOError):
                    return b"READY=1" in sock.recv(4096)
                return False

            yield {"NOTIFY_SOCKET": str(path)}, notified


def _as_user(unit_text: str) -> list[str]:
    """What comes before the command of a unit that names a user: in there the lab's files are that user's.

    The lab may be allowed no more than one user, so a user namespace makes us another one; with no more
    rights than the user would have, which is what counts.
    """
    user = re.search(r"^User=(\S+)", unit_text, re.MULTILINE)
    if not user:
        return []
    account = pwd.getpwnam(user[1])
    maps = [f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}"]
    return ["unshare", "--user", *maps, "--"]


def _descendants(pid: int) -> list[int]:
    """Children, their children and so on; knockd's have sessions of their own, so no group holds them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *_descendants(child)]
    return found
