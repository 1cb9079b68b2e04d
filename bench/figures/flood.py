"""Genuine knocks, one attempt each, while junk of the knock's own kind is aimed at the knock port.

At a sequence it is SYNs to its first port, each from an address that nobody used before, so that each begins
a sequence. At packets it is datagrams of the right length with all that a stranger can know of them.

A genuine packet is handed to the junk's sender, which puts it anywhere in one of its batches. Sent by a
process of its own it would leave while the sender pauses, and that is when the queue at the host has room.
The steps of a sequence are 5 ms apart.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import PATIENCE, again, checked
from bench.results import Value
from bench.stage import Reading
from bench.subjects import SUBJECTS, Subject, Way
from bench.tries import Tries

__all__ = ["FIGURE"]

_Knocker = Generator[None, None, float | None]


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    for keys in lab.args.flooded if subject.name in ("fwknopd", "fwknop") else [None]:
        yield Finding(f"{keys} keys" if keys else "", again(partial(_flooded, lab, subject, keys)))


def _junk(lab: Lab, way: Way, seconds: float) -> AbstractContextManager[object]:
    length = way.length(lab)
    if length is None:
        return lab.spoofed(4, seconds)
    return lab.junk(way.junk, seconds, length, port=way.port)


def _flooded(lab: Lab, subject: Subject, keys: int | None) -> dict[str, Value]:
    seconds = lab.args.seconds
    with subject.start(lab, keys) as running:
        lab.expect_shut(4)
        # From networks out of which nobody has knocked before; for sequences that is all the same.
        sources = [lab.stranger() for _ in range(lab.args.knocks)]
        made = [(each, subject.way.make(lab, each)) for each in sources]
        with _junk(lab, subject.way, seconds + 2) as arrived:
            time.sleep(1)  # what a queue takes in its first moments says nothing about a flood
            before = [Reading.of(each) for each in running.processes]
            done, began = running.count(), time.monotonic()
            knockers = _knockers(lab, subject.way, made, seconds)
            times = _turns(lab, knockers, seconds)
            took, rate = time.monotonic() - began, arrived()  # type: ignore[operator]
            after, more = [Reading.of(each) for each in running.processes], running.count()
            left = {each: knocker for each, knocker in knockers.items() if each not in times}
            times |= _turns(lab, left, 2 * PATIENCE)
    cpu = sum(now.cpu_s - then.cpu_s for then, now in zip(before, after, strict=True))
    return {
        "arrived_per_s": checked(rate, lab.args.rate),
        "tried": len(made),
        "opened": sum(times[source] is not None for source, _ in made),
        "opened_ms": [_ms(times[source]) for source, _ in made],
        "cpu_percent": round(cpu / took * 100, 1),
        "looked_at_per_s": round((more.looked_at - done.looked_at) / took) if done and more else None,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)


def _knockers(
    lab: Lab, way: Way, made: Sequence[tuple[str, bytes | None]], seconds: float
) -> dict[str, _Knocker]:
    """By their sources, one after the other in that time."""
    began = time.monotonic()
    return {
        source: _knocker(lab, way, source, packet, began + seconds * number / len(made))
        for number, (source, packet) in enumerate(made)
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


def _knocker(lab: Lab, way: Way, source: str, packet: bytes | None, at: float) -> _Knocker:
    """Knocks at that time, then connects until it is let in; yields whenever there is nothing to do."""
    while time.monotonic() < at:
        yield
    left_at = lab.knock(4, source, 0.005) if packet is None else lab.send_amid(source, packet, port=way.port)
    next_at, gap = left_at, 0.002
    with Tries(lab.host_address(4), source) as tries:
        while (now := time.monotonic()) < left_at + PATIENCE:
            if now >= next_at:
                tries.begin(now)
                next_at, gap = now + gap, min(gap * 1.3, 0.2)
            if tries.accepted():
                return now - left_at
            yield
    return None


FIGURE = Figure("flood", tuple(SUBJECTS), _measure)
