"""The lab as a process, and what a run of it must not leave."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

NOBODY = 65534
IS_ROOT = os.geteuid() == 0


class Left:
    """What a run must not leave: a context manager that compares before and after.

    This process adopts whatever loses its parent, so a process that outlives the lab is our child then.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.namespaces: set[str] = set()

    def __enter__(self) -> Self:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        self.before = self.state()
        return self

    def watch(self, process: subprocess.Popen[str]) -> None:
        """Remember the namespaces that the process's descendants live in."""
        for pid in descendants(process.pid):
            for kind in ("net", "mnt", "pid", "user"):
                try:
                    self.namespaces.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
                except OSError:
                    continue

    def __exit__(self, *_: object) -> None:
        end = time.clock_gettime(time.CLOCK_BOOTTIME)
        ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid", "user")}
        theirs = self.namespaces - ours
        # A dead process keeps its namespaces until somebody asks how it died.
        try:
            wait_for(lambda: reap() and not theirs & namespaces_in_use(end), "the lab's namespaces are gone")
            wait_for(lambda: self.state() == self.before, f"{self.state()} is {self.before} again")
        finally:
            ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # other tests' orphans are nobody's business here

    def state(self) -> dict[str, object]:
        reap()
        rules = [["nft", "list", "ruleset"], ["iptables-save"]] if IS_ROOT else []
        return {
            "children": descendants(os.getpid()),
            "mounts": Path("/proc/self/mountinfo").read_text(),
            "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
            "files": sorted(str(path) for path in self.scratch.rglob("*")),
            "rules": [rules_of(command) for command in rules],
        }


def rules_of(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def reap() -> bool:
    """Take the status of adopted children; those that subprocess waits for are not ours to take."""
    for pid in descendants(os.getpid(), deep=False):
        stat = Path(f"/proc/{pid}/stat").read_text() if Path(f"/proc/{pid}").exists() else ""
        if ") Z " in stat and pid not in STARTED:
            os.waitpid(pid, 0)
    return True


STARTED: set[int] = set()


def descendants(pid: int, *, deep: bool = True) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *(descendants(child) if deep else [])]
    return sorted(found)


def namespaces_in_use(end: float) -> set[str]:
    """Those of processes that began before ``end``, in seconds since boot.

    The kernel gives numbers of namespaces out again: a younger process with one of them is another test's.
    """
    used = set()
    for link in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            # The fields after the name, which may hold anything, in parentheses; the 20th is when it began.
            began = int((link.parents[1] / "stat").read_text().rpartition(")")[2].split()[19])
            if began <= end * os.sysconf("SC_CLK_TCK"):
                used.add(os.readlink(link))
        except OSError:
            continue
    return used


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s: {what}"
        time.sleep(0.05)


def start(scratch: Path, *arguments: str, user: int | None = None) -> subprocess.Popen[str]:
    """``knockdemo lab`` with the arguments; ``user``: as whom, this test's own user by default."""
    home = str(scratch / "home")
    process = subprocess.Popen(
        ["/usr/bin/python3", "-m", "knockdemo", "lab", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(scratch / "code"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        # Ctrl-C goes to a group: it must not be the tests' own.
        process_group=0,
    )
    STARTED.add(process.pid)
    return process


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    STARTED.discard(process.pid)
    return process.returncode, out, err


def wait_for_stage(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until the words come up."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the lab ended before it said {words!r}")


def skip_if_forbidden(status: int, err: str) -> None:
    if status == 2 and "make namespaces" in err:
        pytest.skip(err.strip())
