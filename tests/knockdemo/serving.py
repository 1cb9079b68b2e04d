"""The demo service as a process, and its clients."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 15.0


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Look again and again until it is so; a deadline, not a sleep, decides that it never will be."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def free_port() -> int:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


def environment(**extra: str) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY", "KNOCKDEMO"))
    }
    return clean | {"PYTHONPATH": str(ROOT / "src")} | extra


class Service:
    """The service as a process of its own, ready to serve; ``limit`` is its number of descriptors."""

    def __init__(self, *arguments: str, limit: int | None = None, **extra: str) -> None:
        command = [sys.executable, "-m", "knockdemo.secret_service", *arguments]
        if limit is not None:
            command = ["prlimit", f"--nofile={limit}:1024", *command]
        self.process = subprocess.Popen(command, env=environment(**extra), stderr=subprocess.PIPE, text=True)
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready_line = self.lines.get(timeout=DEADLINE_S)
        assert "listening on" in self.ready_line, self.ready_line
        # Ready is said as soon as clients may come; descriptors are worth counting once the loop has its own.
        wait_until(lambda: "anon_inode:[eventpoll]" in self.open_files().values(), "the loop runs")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put("")

    def open_files(self) -> dict[int, str]:
        """What each descriptor stands for; one that is closed while we look is left out."""
        found: dict[int, str] = {}
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(link.name)] = str(link.readlink())
        return found

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def voluntary_switches(self) -> int:
        """How often the process went to sleep of its own will; a busy loop does not."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile connections are made by the kernel and wait in the backlog."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: ") T " in stat.read_text(encoding="ascii"), "the service stops")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """Ask it to stop; returns its exit status and what it said after the ready line."""
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        said = [self.lines.get_nowait() for _ in range(self.lines.qsize())]
        return status, [line for line in said if line]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, port), timeout=DEADLINE_S)


def read_all(sock: socket.socket) -> bytes:
    text = b""
    while piece := sock.recv(4096):
        text += piece
    return text


def greeting(port: int) -> bytes:
    return f"You knocked. Welcome to the secret service on port {port}.\n".encode()


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "knockdemo.secret_service", *arguments],
        env=environment(**extra), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
