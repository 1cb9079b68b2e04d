"""The machine that it is measured on."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from knockgate.errors import Unavailable

__all__ = ["machine", "two_cores"]


def machine() -> dict[str, object]:
    """What it is measured on."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    release = re.search(r'^PRETTY_NAME="?(.+?)"?$', Path("/etc/os-release").read_text(), re.MULTILINE)
    about = os.uname()
    return {
        "cpu": model.group(1) if model else "unknown model",
        "cores": len(os.sched_getaffinity(0)),
        "virtual": bool(re.search(r"^flags.*\bhypervisor\b", info, re.MULTILINE)),
        "memory_GB": round(int(memory.group(1)) / 1e6, 1) if memory else None,
        "kernel": f"{about.sysname} {about.release} {about.machine}",
        "system": release.group(1) if release else "unknown",
        "python": sys.version.split()[0],
        "rights": "root" if os.geteuid() == 0 else "ordinary user",
    }


def two_cores() -> list[int]:
    """The cores of floods, and of whom they are aimed at."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("a flood needs two cores", hint="one for the sender, one for who looks at packets")
    return cores[:2]
