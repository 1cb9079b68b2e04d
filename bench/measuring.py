"""What figures have in common: doors that are waited for, floods that must have arrived, and a disk."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.lab import Lab
from bench.stage import ATTEMPTS, emit
from bench.tries import Tries
from bench.wire import ENOUGH
from knockgate.errors import Unavailable

__all__ = ["PATIENCE", "again", "checked", "disk", "until_open"]

T = TypeVar("T")

#: Seconds for which a knocker tries to connect, as ``knockgate knock`` does.
PATIENCE = 5.0
#: Pages that are written to a disk, and seconds before each.
_PAGES, _PAUSE = 50, 0.01


class _TooFew(Unavailable):
    """A flood that was none, because others had the machine."""


def until_open(lab: Lab, source: str, knock: Callable[[], float]) -> float | None:
    """Seconds from a knock's end until a connection is accepted: a SYN every 0.2 ms, later every 2 ms.

    ``knock`` is made in the client's network, and returns the monotonic time at which its last packet left.
    """
    gap = 0.0002
    with lab.site.client.inside(), Tries(lab.host_address(4), source) as tries:
        left_at = knock()
        while (now := time.monotonic()) - left_at < PATIENCE:
            tries.begin(now)
            if tries.accepted(gap):
                return time.monotonic() - left_at
            gap = min(gap * 1.05, 0.002)
    return None


def checked(rate: float, asked: float) -> int:
    """Packets a second that arrived; raises Unavailable where they are not what was asked for."""
    if rate < ENOUGH * asked:
        raise _TooFew(
            f"measurement failed: only {rate:.0f} packets/s arrived", hint="leave the machine alone meanwhile"
        )
    return round(rate)


def again(measure: Callable[[], T]) -> T:
    """Until the flood has arrived, twice more at most."""
    for _ in range(ATTEMPTS - 1):
        try:
            return measure()
        except _TooFew as error:
            emit("progress", text=f"thrown away: {error.message}")
    return measure()


def disk(folder: Path) -> float:
    """Median milliseconds until a page that is written over is on the disk, where the claims lie.

    One at a time with a pause, as knocks come: some disks take ten times as long after one.
    """
    times = []
    file = os.open(folder / "page", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    for number in range(_PAGES):
        os.pwrite(file, bytes(4096), number * 4096)
    os.fsync(file)
    for number in range(_PAGES):
        time.sleep(_PAUSE)
        os.pwrite(file, bytes(4096), number * 4096)
        began = time.perf_counter()
        os.fdatasync(file)
        times.append(time.perf_counter() - began)
    os.close(file)
    return round(statistics.median(times) * 1e3, 3)
