"""Where a process's time goes: what it imports when it starts, and the functions it is in while it works.

Imports are what ``python -X importtime`` tells, each half's for itself. Functions are those of py-spy, which
reads them out of the process's memory some hundred times a second and changes nothing in it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.stage import FILES
from knockgate.errors import Unavailable

__all__ = ["OTHERS", "functions", "import_times", "imports", "spy", "wrapper"]

_IMPORTS = FILES / "imports"
_TIME = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \| +([\w.]+)$", re.MULTILINE)
#: As what each package is told; a virtual environment has some of its own, which are others.
_PACKAGES = {
    "standard library": "standard library",
    "cryptography": "cryptography",
    "_cffi_backend": "cryptography",
    "bcrypt": "cryptography",
    "click": "click",
    "knockgate": "knockgate",
    "knockdemo": "knockgate",
}
#: What waits for packets: py-spy cannot tell its sleep from its work, so neither is here.
_WAITING = re.compile(r"^(EpollSelector\.select|Capture\._wait|select)\b")
_RATE = 250
#: So many functions have a name of their own in a profile.
_MOST = 9
OTHERS = "others"


def wrapper() -> Path:
    """A program to start instead of Python: each process tells what it imports, in a file of its own."""
    shutil.rmtree(_IMPORTS, ignore_errors=True)
    _IMPORTS.mkdir(parents=True)
    path = FILES / "python"
    # Whoever starts others by the name that Python has of itself starts them by this one.
    path.write_text(
        f'#!/bin/sh\nexec 2>>{_IMPORTS}/$$\necho "$@" >&2\n'
        f'exec {shlex.quote(sys.executable)} -X importtime "$@"\n'
    )
    path.chmod(0o755)
    return path


def import_times() -> dict[str, dict[str, float]]:
    """Milliseconds by package, of each process that the wrapper has started, by which half it is."""
    found = {}
    for path in sorted(_IMPORTS.iterdir()):
        text = path.read_text(errors="replace")
        half = re.search(r"\b(warden|listener|runner|keeper)\b", text.partition("\n")[0])
        found[half.group(1) if half else "supervisor"] = imports(text)
    return found


def imports(text: str) -> dict[str, float]:
    """Milliseconds by package, out of what ``-X importtime`` told."""
    found: Counter[str] = Counter()
    for micros, name in _TIME.findall(text):
        package = name.partition(".")[0]
        if package in sys.stdlib_module_names:
            package = "standard library"
        found[_PACKAGES.get(package, OTHERS)] += int(micros)
    return {name: round(micros / 1e3, 1) for name, micros in found.most_common()}


def spy() -> str:
    """Its path; raises Unavailable where it is not installed."""
    here = Path(sys.executable).with_name("py-spy")
    path = str(here) if here.exists() else shutil.which("py-spy")
    if path is None:
        raise Unavailable(
            "no profile without py-spy", hint="make bench installs it, out of requirements/bench.txt"
        )
    return path


def functions(process: int, seconds: float) -> dict[str, float]:
    """Percent of its time, by the innermost function; raises Unavailable."""
    raw = FILES / "functions"
    argv = [spy(), "record", "-p", str(process), "-d", str(max(1, round(seconds))), "-r", str(_RATE)]
    done = subprocess.run(
        [*argv, "-f", "raw", "-F", "-o", str(raw)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"measurement failed: py-spy: {done.stderr.strip()[-300:]}")
    return shares(raw.read_text().splitlines())


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Percent by the innermost function, those of little weight in one: out of py-spy's ``raw`` lines."""
    found: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        name = re.match(r"(.+) \((.+?)(:\d+)?\)$", frames.rpartition(";")[2])
        if name and not _WAITING.match(name.group(1)):
            found[f"{name.group(1)}, {_short(name.group(2))}"] += int(count)
    total = found.total() or 1
    rows = {name: round(count / total * 100, 1) for name, count in found.most_common(_MOST)}
    rest = 100 - sum(rows.values())
    return {**rows, **({OTHERS: round(rest, 1)} if rest >= 0.1 and found else {})}


def _short(path: str) -> str:
    return path.rpartition("knockgate/")[2]
