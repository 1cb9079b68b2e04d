"""From a knock's last packet to the first connection that is accepted, while nothing else goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import disk, until_open
from bench.subjects import SUBJECTS

__all__ = ["FIGURE"]

#: Made at once: fwknop's client takes 10 ms for each, and a packet is good for two minutes.
_AT_ONCE = 200


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    # A peer that takes a tenth of a second for each says as much with fewer.
    knocks = lab.args.connects if not subject.is_peer else max(10, lab.args.connects // 10)
    times: list[float | None] = []
    with subject.start(lab, None):
        lab.expect_shut(4)
        for begin in range(0, knocks, _AT_ONCE):
            sources = [lab.source(4) for _ in range(min(_AT_ONCE, knocks - begin))]
            made = [(each, subject.way.make(lab, each)) for each in sources]
            for source, packet in made:
                times.append(until_open(lab, source, partial(subject.way.send, lab, source, packet)))
                time.sleep(0.01)  # so that each finds everybody asleep, as a knock does
    first = [None if each is None else round(each * 1e3, 3) for each in times]
    yield Finding("", {"first_ms": first, "disk_ms": disk(Path(lab.args.state))})


FIGURE = Figure("latency", tuple(SUBJECTS), _measure)
