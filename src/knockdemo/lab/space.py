"""Entering the lab: namespaces of its own, which end with us however we end.

The inside is process 1 of its own PID namespace, so when it dies the kernel ends all that it started;
its mounts, networks and rules go with the last process. What remains is to make sure that it dies with
us: ``unshare --kill-child`` ends it with ``unshare``, and a parent-death signal ends ``unshare`` with us,
``kill -9`` of us included.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import knockdemo
from knockdemo.lab.hosts import PATH
from knockgate.errors import Unavailable

__all__ = ["NEEDED", "enter", "missing_programs"]

#: Programs of the lab and the Debian packages they come from.
NEEDED = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "nft": "nftables",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "nmap": "nmap",
    "knockd": "knockd",
    "fwknop": "fwknop-client",
    "fwknopd": "fwknop-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}

_PR_SET_PDEATHSIG = 1


def missing_programs() -> dict[str, str]:
    """Program -> package, of what is not installed."""
    return {name: package for name, package in NEEDED.items() if not shutil.which(name, path=PATH)}


def enter(argv: Sequence[str], on_event: Callable[[Mapping[str, object]], None]) -> None:
    """Run ``argv`` inside new namespaces and hand over each JSON line that it prints.

    As root with root's rights, else in a user namespace where we are root. Raises Unavailable when the
    system forbids that or the inside fails. Must be called from the main thread: the parent-death signal
    fires when the thread that started the child ends.
    """
    if missing := missing_programs():
        packages = " ".join(sorted(set(missing.values())))
        raise Unavailable(f"not installed: {', '.join(missing)}", hint=f"apt install {packages}")
    flags = ["--mount", "--net", "--ipc", "--uts", "--pid", "--kill-child", "--mount-proc"]
    if os.geteuid():
        flags = ["--user", "--map-root-user", *flags]
    us = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != us:  # we died before the line above
            os._exit(1)

    process = subprocess.Popen(
        ["unshare", *flags, "--", *argv],
        stdin=subprocess.DEVNULL,
        # `python3 -m` would import from the user's folder first, and we may be root in here.
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PATH": PATH,
            "PYTHONPATH": str(Path(knockdemo.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        preexec_fn=die_with_us,  # noqa: PLW1509 - called from the main thread, before there are others
    )
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    started = False
    try:
        for line in process.stdout:
            started = True
            event = json.loads(line)
            if event["event"] == "failed":
                raise Unavailable(event["message"], hint=event["hint"])
            on_event(event)
        complaint = process.stderr.read().strip()
        if process.wait():
            raise _why_not(complaint, started=started)
        sys.stderr.write(complaint)
    finally:
        _end(process)


def _why_not(complaint: str, *, started: bool) -> Unavailable:
    last = complaint.splitlines()[-1] if complaint else "it ended without a word"
    if started or os.geteuid() == 0 or not last.startswith("unshare:"):
        return Unavailable(f"the lab broke off: {last}")
    return Unavailable(f"this system does not let ordinary users make namespaces ({last})", hint="use sudo")


def _end(process: subprocess.Popen[str]) -> None:
    """End the inside and wait until the kernel has taken all of it away.

    The inside's process 1 is ended first: ``unshare`` waits for it, and it goes last of its namespace.
    """
    if process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
