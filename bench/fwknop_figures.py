"""One function a figure: the gate and fwknopd in turn, told with ``emit``. ``README.md`` explains them."""

from __future__ import annotations

import contextlib
import os
import statistics
import struct
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.fwknop_lab import SPA_PORT, Count, Guard, Lab
from bench.gate_lab import ENOUGH
from bench.junk import KINDS, frames
from bench.stage import ATTEMPTS, FILES, emit
from bench.tries import Tries
from knockgate.errors import Unavailable

__all__ = ["FIGURES", "again", "disk", "told_of", "until_open", "work"]

T = TypeVar("T")
With = Callable[[int], contextlib.AbstractContextManager[Guard]]

#: Packets made at once: Debian's client takes 10 ms for each, and they are good for two minutes.
_AT_ONCE = 200
#: Seconds for which a knocker tries to connect, as ``knockgate knock`` does.
_PATIENCE = 5.0
#: Of the file for fwknopd without pauses: a second or two of its work, by the number of keys.
_OFFLINE = {1: 40_000, 10: 8_000, 100: 1_000, 1000: 100}


def first_connection(lab: Lab) -> None:
    """From a packet's leaving to the first connection that is accepted; nothing else goes on."""
    for name, guard, knocks in (
        ("knockgate", lab.gate, lab.args.connects),
        ("fwknopd", lab.fwknopd, max(10, lab.args.connects // 10)),
    ):
        times: list[float | None] = []
        with guard(1):
            lab.expect_shut(4)
            for begin in range(0, knocks, _AT_ONCE):
                sources = [lab.source(4) for _ in range(min(_AT_ONCE, knocks - begin))]
                for source, packet in [(each, lab.packet(each)) for each in sources]:
                    left_at = lab.send(source, packet)
                    times.append(until_open(lab, source, left_at))
        more = {"fdatasync_ms": disk(Path(lab.args.state))} if name == "knockgate" else {}
        emit("figure", figure="first_connection", subject=name, tried=len(times), **told_of(times), **more)


def until_open(lab: Lab, source: str, left_at: float) -> float | None:
    """Seconds until a connection is accepted: a new SYN every 0.2 ms, later every 2 ms."""
    gap = 0.0002
    with lab.site.client.inside(), Tries(lab.host_address(4), source) as tries:
        while (now := time.monotonic()) - left_at < _PATIENCE:
            tries.begin(now)
            if tries.accepted(gap):
                return time.monotonic() - left_at
            gap = min(gap * 1.05, 0.002)
    return None


def junk(lab: Lab) -> None:
    """Junk as fast as it can be refused, by the number of keys."""
    for kind in KINDS:
        for keys in lab.args.keys:
            # Of random junk fwknopd says nothing, and looks at a thousand a second whatever comes.
            guards = [("knockgate", lab.gate)] + [("fwknopd", lab.fwknopd)] * (kind == "mimic")
            for name, guard in guards:
                told = again(partial(work, lab, guard, keys, kind))
                emit("figure", figure="junk", subject=f"{name}, {keys} keys, {kind}", **told)
            subject = f"fwknopd offline, {keys} keys, {kind}"
            emit("figure", figure="junk", subject=subject, **_offline(lab, kind, keys))


def work(lab: Lab, guard: With, keys: int, kind: str, length: int | None = None) -> dict[str, object]:
    """What a guard does in a flood; ``length`` is that of a packet, if it is not fwknop's."""
    with guard(keys) as running, lab.junk(kind, lab.args.seconds + 2, length) as arrived:
        time.sleep(0.5)
        before, done = lab.reading(running)
        time.sleep(lab.args.seconds)
        after, more = lab.reading(running)
        rate = _checked(lab, arrived())
    looked_at, cpu, took = more.looked_at - done.looked_at, after.cpu_s - before.cpu_s, after.at - before.at
    return {
        "arrived_per_s": rate,
        "looked_at_per_s": round(looked_at / took),
        "cpu": round(cpu / took, 3),
        "waited": round((after.waited_s - before.waited_s) / took, 3),
        "us_each": round(cpu / looked_at * 1e6, 1) if looked_at else None,
        "per_core_second": round(looked_at / cpu) if cpu else None,
        "lost": _lost(done, more),
    }


def _lost(before: Count, after: Count) -> int | None:
    return None if before.lost is None or after.lost is None else after.lost - before.lost


def _offline(lab: Lab, kind: str, keys: int) -> dict[str, object]:
    """The processor's time for the packets of a file, less that for one packet: starting takes some too."""
    number = _OFFLINE[keys if kind == "mimic" else 1]  # what is not base64 is tried with no key
    one, all_of_them = FILES / "one.pcap", FILES / "junk.pcap"
    text, size = frames(kind, number, lab.length, (bytes(6), bytes(6)), lab.host_address(4), SPA_PORT)
    _write_capture(one, text[:size], size)
    _write_capture(all_of_them, text, size)
    lab.clear()
    start = min(lab.fwknopd_offline(keys, one, 1) for _ in range(3))
    cpu = min(lab.fwknopd_offline(keys, all_of_them, number) for _ in range(3)) - start
    lab.clear()
    each = cpu / (number - 1)
    return {"us_each": round(each * 1e6, 1), "per_core_second": round(1 / each)}


def _write_capture(path: Path, text: bytearray, size: int) -> None:
    """The frames that lie side by side in ``text``, as a file of pcap-savefile(5)."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        record = struct.pack("=IIII", 0, 0, size, size)  # the time of no packet is looked at
        for at in range(0, len(text), size):
            file.write(record + text[at : at + size])


def flood(lab: Lab) -> None:
    """Genuine knocks, one attempt each, in the middle of junk from made-up addresses."""
    for keys in lab.args.flooded:
        for kind in KINDS:
            subject = f"{keys} keys, {kind}"
            for name, guard in (("knockgate", lab.gate), ("fwknopd", lab.fwknopd)):
                _tell_flood(f"{name}, {subject}", again(partial(_flooded, lab, guard, keys, kind)))
        told = again(partial(_flooded, lab, lab.gate, keys, "mimic", known=True))
        _tell_flood(f"knockgate, {keys} keys, mimic, known networks", told)


def _tell_flood(subject: str, told: tuple[list[float | None], dict[str, object]]) -> None:
    times, more = told
    emit("figure", figure="flood", subject=subject, tried=len(times), **told_of(times), **more)


def _flooded(
    lab: Lab, guard: With, keys: int, kind: str, *, known: bool = False
) -> tuple[list[float | None], dict[str, object]]:
    """``known``: from networks out of which somebody has knocked before, else each from a new one."""
    seconds = lab.args.seconds
    with guard(keys) as running:
        lab.expect_shut(4)
        sources = [lab.source(4) if known else lab.stranger() for _ in range(lab.args.knocks)]
        if known:
            _introduce(lab, sources)
        packets = [(source, lab.packet(source)) for source in sources]
        with lab.junk(kind, seconds + 2) as arrived:
            time.sleep(1)  # what a queue takes in its first moments says nothing about a flood
            before, done = lab.reading(running)
            knockers = _knockers(lab, packets, seconds)
            times = _turns(lab, knockers, seconds)
            rate = _checked(lab, arrived())
            after, more = lab.reading(running)
            left = {each: knocker for each, knocker in knockers.items() if each not in times}
            times |= _turns(lab, left, 2 * _PATIENCE)
    took = after.at - before.at
    return [times[source] for source, _ in packets], {
        "arrived_per_s": rate,
        # Of what is not base64 fwknopd says nothing.
        "looked_at_per_s": round((more.looked_at - done.looked_at) / took) or None,
        "cpu": round((after.cpu_s - before.cpu_s) / took, 3),
        "lost": _lost(done, more),
    }


_Knocker = Generator[None, None, float | None]


def _introduce(lab: Lab, sources: Sequence[str]) -> None:
    """Have a neighbour of each of them knock."""
    for network in sorted({source.rpartition(".")[0] for source in sources}):
        neighbour = f"{network}.254"
        if until_open(lab, neighbour, lab.send(neighbour, lab.packet(neighbour))) is None:
            raise Unavailable("measurement failed: a knock before the flood did not open")


def _knockers(lab: Lab, packets: Sequence[tuple[str, bytes]], seconds: float) -> dict[str, _Knocker]:
    """By their sources, one after the other in that time."""
    began = time.monotonic()
    return {
        source: _knocker(lab, source, packet, began + seconds * number / len(packets))
        for number, (source, packet) in enumerate(packets)
    }


def _turns(lab: Lab, knockers: Mapping[str, _Knocker], seconds: float) -> dict[str, float | None]:
    """They take turns, so that one that waits holds up nobody; what those found that have ended."""
    end, left = time.monotonic() + seconds, dict(knockers)
    found: dict[str, float | None] = {}
    with lab.site.client.inside():
        while left and time.monotonic() < end:
            for source, knocker in list(left.items()):
                try:
                    next(knocker)
                except StopIteration as over:
                    found[source] = over.value
                    del left[source]
            time.sleep(0.0005)
    return found


def _knocker(lab: Lab, source: str, packet: bytes, at: float) -> _Knocker:
    """Knocks at that time, then connects until it is let in; yields whenever there is nothing to do."""
    while time.monotonic() < at:
        yield
    left_at = lab.send_amid(source, packet)
    next_at, gap = left_at, 0.002
    with Tries(lab.host_address(4), source) as tries:
        while (now := time.monotonic()) < left_at + _PATIENCE:
            if now >= next_at:
                tries.begin(now)
                next_at, gap = now + gap, min(gap * 1.3, 0.2)
            if tries.accepted():
                return now - left_at
            yield
    return None


class _TooFew(Unavailable):
    """A flood that was none, because others had the machine."""


def _checked(lab: Lab, rate: float) -> int:
    if rate < ENOUGH * lab.args.rate:
        raise _TooFew(f"measurement failed: only {rate:.0f} packets/s arrived", hint="a lower --rate")
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
    """Median milliseconds until a page is on the disk, where the claims lie."""
    times = []
    file = os.open(folder / "page", os.O_CREAT | os.O_WRONLY, 0o600)
    for number in range(100):
        os.pwrite(file, bytes(4096), number * 4096)
        began = time.perf_counter()
        os.fdatasync(file)
        times.append(time.perf_counter() - began)
    os.close(file)
    return round(statistics.median(times) * 1e3, 3)


def told_of(times: Sequence[float | None]) -> dict[str, object]:
    """How many opened, and how long that took."""
    there = sorted(each for each in times if each is not None)
    return {
        "opened": len(there),
        "median_ms": round(statistics.median(there) * 1e3, 3) if there else None,
        "p99_ms": round(there[int(len(there) * 0.99) - 1] * 1e3, 3) if len(there) >= 100 else None,
    }


FIGURES: dict[str, Callable[[Lab], None]] = {each.__name__: each for each in (first_connection, junk, flood)}
