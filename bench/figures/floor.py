"""What nothing written in Python can go below here: the interpreter, its packets, its sums, and the disk.

The halves of the gate are processes of Python; so beside them stand processes of the same interpreter that
do nothing, with nothing loaded, with the modules of the standard library that a half needs, and with the
library of cryptography too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import disk
from bench.processes import memory
from bench.results import Value
from bench.stage import FILES, Reading, prefer, running
from knockdemo.lab.wait import until
from knockgate.errors import Unavailable
from knockgate.spa.sealed import Suite

__all__ = ["FIGURE"]

_SRC = str(Path(__file__).resolve().parents[2] / "src")
#: What a half that takes sealed knocks imports, before it has read its configuration and after.
_HALF = "import knockgate.daemon.listener, knockgate.daemon.sealed"
_WAIT = "import os; os.write(1, b'.'); os.read(0, 1)"
_CRYPTOGRAPHY = "import cryptography.hazmat.bindings._rust"
_TIMES = 5
#: As ``bench.bare_ears`` calls them.
_WAYS = {
    "recv": "a SYN, by a system call",
    "ring": "a SYN, out of a ring",
    "gathered": "a SYN, counted in a ring",
}
_NETLINK_NETFILTER = 12


@lru_cache
def _standard() -> str:
    """Imports of what a half needs of the standard library."""
    code = f"import sys; sys.path.insert(0, {_SRC!r}); {_HALF}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    names = [
        name
        for name in done.stdout.split()
        if name.partition(".")[0] in sys.stdlib_module_names and not name.startswith("_")
    ]
    return f"import {', '.join(name for name in names if name not in ('sys', 'builtins'))}"


def _python(lab: Lab) -> Iterator[Finding]:  # noqa: ARG001 - as its siblings
    for name, code in (
        ("bare", ""),
        ("standard library", _standard()),
        ("standard library and cryptography", f"{_standard()}; {_CRYPTOGRAPHY}"),
    ):
        for count in (1, 3):
            found = [_waiting([sys.executable, "-I", "-c", f"{code}\n{_WAIT}"], count) for _ in range(_TIMES)]
            values = dict(
                zip(
                    ("start_ms", "rss_MB", "pss_MB"),
                    map(statistics.median, zip(*found, strict=True)),
                    strict=True,
                )
            )
            yield Finding(f"{name}, {count} process{'es' if count > 1 else ''}", values)


def _waiting(argv: list[str], count: int) -> tuple[float, float, float]:
    """Milliseconds until all of them, one after the other, wait; megabytes resident, and shared out."""
    processes = []
    began = time.monotonic()
    try:
        for _ in range(count):
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
            processes.append(process)
            if process.stdout is None or process.stdout.read(1) != b".":
                raise Unavailable("measurement failed: a bare Python ended")
        started = time.monotonic() - began
        resident, shared = memory(process.pid for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return round(started * 1e3, 1), round(resident / 1e6, 2), round(shared / 1e6, 2)


def _packets(lab: Lab) -> Iterator[Finding]:
    log = FILES / "ears.log"
    for how, case in _WAYS.items():
        lab.clear()
        with log.open("wb") as output:
            argv = [sys.executable, "-m", "bench.bare_ears", how]
            with running(lab.site.host, argv, output.fileno()) as process:
                until(lambda: b"listening" in log.read_bytes() or process.poll() is not None, 20, "bare ears")
                os.sched_setaffinity(process.pid, {lab.args.cores[1]})
                prefer(process.pid)
                before = Reading.of(process.pid)
                with lab.unrelated("other-port") as arrived:
                    time.sleep(lab.args.watched)
                    rate = arrived()
                after = Reading.of(process.pid)
                process.send_signal(signal.SIGTERM)
                process.wait(10)
        heard = int(log.read_text().split()[-1])
        values: dict[str, Value] = {
            "arrived_per_s": round(rate),
            "us_each": round((after.cpu_s - before.cpu_s) / max(1, heard) * 1e6, 2),
        }
        yield Finding(case, values)
    lab.clear()


def _sums(lab: Lab) -> Iterator[Finding]:
    key, datagram, packet = os.urandom(32), os.urandom(Suite.XWING.length), os.urandom(lab.length)
    for name, sum_of in (
        (
            f"BLAKE2s of {len(datagram) - 16:,} octets",
            lambda: hashlib.blake2s(datagram[16:], key=key).digest(),
        ),
        (f"HMAC-SHA256 of {len(packet)} octets", lambda: hmac.digest(key, packet, "sha256")),
    ):
        micros = _each(sum_of, 20_000)
        yield Finding(name, {"us_each": round(micros, 3), "per_core_s": round(1e6 / micros)})


def _machine(lab: Lab) -> Iterator[Finding]:
    yield Finding("fdatasync of a page", {"us_each": round(disk(Path(lab.args.state)) * 1e3, 1)})
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        # NFT_MSG_GETGEN (linux/netfilter/nf_tables.h): the least that nf_tables can be asked.
        request = struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0)

        def ask() -> None:
            sock.send(request)
            sock.recv(4096)

        yield Finding("netlink, there and back", {"us_each": round(_each(ask, 2000), 2)})


def _each(what: Callable[[], object], times: int) -> float:
    """Microseconds, the least of some rows."""
    best = float("inf")
    for _ in range(_TIMES):
        began = time.perf_counter()
        for _ in range(times):
            what()
        best = min(best, time.perf_counter() - began)
    return best / times * 1e6


_OF = {"python": _python, "packets": _packets, "sums": _sums, "machine": _machine}


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    return _OF[name](lab)


FIGURE = Figure("floor", tuple(_OF), _measure)
