"""Junk that is refused in a second of one core, by the number of keys that it could be of."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.figures import Figure, Finding
from bench.junk import frames
from bench.lab import Lab
from bench.measuring import again, checked
from bench.peers import SPA_PORT
from bench.results import Value
from bench.stage import FILES, Reading
from bench.subjects import SUBJECTS, Subject
from knockgate.errors import Unavailable

__all__ = ["FIGURE"]

_SUBJECTS = ("fwknopd", "fwknop", "sealed", "sealed-small")
#: Of the file for fwknopd without pauses: a second or two of its work, by the number of keys.
_OFFLINE = {1: 40_000, 10: 8_000, 100: 1_000, 1000: 100}


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    for keys in lab.args.keys:
        yield Finding(f"{keys} keys", again(partial(_flooded, lab, subject, keys)))
        if subject.is_peer:
            # It sleeps between packets whatever comes. This is what it could do, to its advantage twice: what
            # the kernel takes to hand a packet over is not in it, and there is no flood on the other core.
            yield Finding(f"{keys} keys, out of a file", _out_of_a_file(lab, keys))


def _flooded(lab: Lab, subject: Subject, keys: int) -> dict[str, Value]:
    way = subject.way
    flood = lab.junk(way.junk, lab.args.watched + 2, way.length(lab), port=way.port)
    with subject.start(lab, keys) as running, flood as arrived:
        if running.looks is None or running.guard is None:
            raise AssertionError("whoever refuses packets counts them")
        time.sleep(0.5)
        then, before = Reading.of(running.looks), running.guard.count()
        time.sleep(lab.args.watched)
        now, after = Reading.of(running.looks), running.guard.count()
        rate = checked(arrived(), lab.args.rate)
    looked_at, cpu, took = after.looked_at - before.looked_at, now.cpu_s - then.cpu_s, now.at - then.at
    return {
        "arrived_per_s": rate,
        "looked_at_per_s": round(looked_at / took),
        "cpu_percent": round(cpu / took * 100, 1),
        "us_each": round(cpu / looked_at * 1e6, 2) if looked_at else None,
        "refused_per_core_s": round(looked_at / cpu) if cpu else None,
        "lost_per_s": None if after.lost is None else round((after.lost - (before.lost or 0)) / took),
    }


def _out_of_a_file(lab: Lab, keys: int) -> dict[str, Value]:
    """The processor's time for the packets of a file, less that for one packet: starting takes some too."""
    number = _OFFLINE[keys]
    one, all_of_them = FILES / "one.pcap", FILES / "junk.pcap"
    text, size = frames("mimic", number, lab.length, (bytes(6), bytes(6)), lab.host_address(4), SPA_PORT)
    _write_capture(one, text[:size], size)
    _write_capture(all_of_them, text, size)
    lab.clear()
    start = min(lab.fwknopd_offline(keys, one, 1) for _ in range(2))
    cpu = min(lab.fwknopd_offline(keys, all_of_them, number) for _ in range(2)) - start
    lab.clear()
    if cpu <= 0:
        raise Unavailable("measurement failed: a file of packets took fwknopd no longer than one packet")
    each = cpu / (number - 1)
    return {"us_each": round(each * 1e6, 2), "refused_per_core_s": round(1 / each)}


def _write_capture(path: Path, text: bytearray, size: int) -> None:
    """The frames that lie side by side in ``text``, as a file of pcap-savefile(5)."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        record = struct.pack("=IIII", 0, 0, size, size)  # the time of no packet is looked at
        for at in range(0, len(text), size):
            file.write(record + text[at : at + size])


FIGURE = Figure("refused", _SUBJECTS, _measure)
