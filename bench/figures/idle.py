"""What a subject takes while nobody knocks: memory, wake-ups, and the time until it guards and listens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.processes import memory
from bench.subjects import SUBJECTS, Running

__all__ = ["FIGURE"]


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    began = time.monotonic()
    with subject.start(lab, 1) as running:
        started = time.monotonic() - began
        time.sleep(2.0)  # until what begins with it is over
        before, at = _wakeups(running), time.monotonic()
        time.sleep(lab.args.idle)
        woken, took = _wakeups(running) - before, time.monotonic() - at
        resident, shared = memory(running.processes)
    yield Finding(
        "",
        {
            "start_ms": round(started * 1e3, 1),
            "rss_MB": round(resident / 1e6, 2),
            "pss_MB": round(shared / 1e6, 2),
            "processes": len(running.processes),
            "wakeups_per_minute": round(woken / took * 60, 1),
        },
    )


def _wakeups(running: Running) -> int:
    """Of all threads: how often each went to sleep by itself (proc(5), voluntary_ctxt_switches)."""
    total = 0
    for process in running.processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            found = re.search(
                r"^voluntary_ctxt_switches:\s+(\d+)", (thread / "status").read_text(), re.MULTILINE
            )
            total += int(found.group(1)) if found else 0
    return total


FIGURE = Figure("idle", tuple(SUBJECTS), _measure)
