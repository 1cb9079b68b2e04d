"""What a guard remembers of knocks of before, a million of them: size, start, and a knock beside it.

fwknopd's is its file of digests, one line a packet it has taken. Ours is the file of marks, one a device:
SQLite's own way of writing many rows at once puts them there, since a million claims, each on the disk before
the next, would take an hour. All of it is read back by the real guard, which then takes real knocks.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import until_open
from bench.results import Value
from bench.stage import FILES
from bench.subjects import SUBJECTS
from knockgate.errors import Unavailable

__all__ = ["FIGURE"]

_KNOCKS = 20
#: As fwknopd writes them: digest, protocol, source and its port, destination and its port, time.
_LINE = "{} 17 10.5.0.1 40000 192.0.2.1 62201 {}\n"
_DIGESTS = FILES / "fwknopd/digest.cache"


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    for count in lab.args.remembered:
        yield Finding(str(count), _once(lab, name, count))


def _once(lab: Lab, name: str, count: int) -> dict[str, Value]:
    lab.clear()
    lab.took_filling = 0.0
    if name == "fwknopd":
        _DIGESTS.parent.mkdir(mode=0o700, exist_ok=True)
        _write_digests(_DIGESTS, count)
    else:
        lab.fill_marks = lambda path: _write_marks(path, count)
    subject, times = SUBJECTS[name], []
    try:
        began = time.monotonic()
        with subject.start(lab, None) as running:
            started = time.monotonic() - began - lab.took_filling
            lab.expect_shut(4)
            for _ in range(_KNOCKS):
                source = lab.source(4)
                knock = partial(subject.way.send, lab, source, subject.way.make(lab, source))
                times.append(until_open(lab, source, knock))
            stored = None if name == "fwknopd" else _stored(lab)
            size = _DIGESTS.stat().st_size if name == "fwknopd" else _size_of_marks(lab)
            resident = sum(_resident(each) for each in running.processes)
    finally:
        _DIGESTS.unlink(missing_ok=True)
        lab.fill_marks = None
    opened = [each for each in times if each is not None]
    if started <= 0:
        raise Unavailable(f"measurement failed: it started in {started:.3f} s, without what filled its file")
    if len(opened) < _KNOCKS // 2:
        raise Unavailable(f"measurement failed: {len(opened)} of {_KNOCKS} knocks opened beside {count:,}")
    return {
        "start_ms": round(started * 1e3, 1),
        "size_MB": round(size / 1e6, 2),
        "stored_MB": None if stored is None else round(stored / 1e6, 3),
        "rss_MB": round(resident / 1e6, 1),
        "first_ms": round(statistics.median(opened) * 1e3, 2),
    }


def _write_digests(path: Path, count: int) -> None:
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    with path.open("w") as file:
        file.write("# <digest> <proto> <src_ip> <src_port> <dst_ip> <dst_port> <time>\n")
        for _ in range(count):
            file.write(_LINE.format(base64.b64encode(os.urandom(32)).decode().rstrip("="), now))
    path.chmod(0o600)


def _write_marks(path: Path, count: int) -> None:
    """Into a file that ``SqliteMarks`` has made; one device of each of so many keys."""
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    with contextlib.closing(sqlite3.connect(path)) as base:
        rows = ((os.urandom(32), os.urandom(16), 0, now - number) for number in range(count))
        base.executemany("INSERT INTO marks VALUES (?, ?, ?, ?)", rows)
        base.commit()
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with contextlib.closing(sqlite3.connect(path)) as base:
        ((found,),) = base.execute("SELECT count(*) FROM marks").fetchall()
    if found != count:
        raise Unavailable(f"measurement failed: {found} marks of {count} are in the file")


def _size_of_marks(lab: Lab) -> int:
    return sum(each.stat().st_size for each in Path(lab.state).glob("marks.sqlite*"))


def _stored(lab: Lab) -> int | None:
    """Bytes of rows of marks, of those that the file has; None where this SQLite does not tell (dbstat)."""
    with contextlib.closing(sqlite3.connect(f"file:{lab.state}/marks.sqlite?mode=ro", uri=True)) as base:
        try:
            ((found,),) = base.execute("SELECT sum(payload) FROM dbstat WHERE name = 'marks'").fetchall()
        except sqlite3.OperationalError:
            return None
    return int(found or 0)


def _resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


FIGURE = Figure("state", ("fwknopd", "sealed"), _measure, rounds=3)
