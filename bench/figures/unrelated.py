"""What packets cost that have nothing to do with a knock: the time of all processes of a subject."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import again, checked
from bench.stage import Reading
from bench.subjects import SUBJECTS, Subject

__all__ = ["FIGURE"]

#: UDP, pure ACK and data to any port; and SYNs, which open connections, to ports of no sequence.
_KINDS = {"no opening": "no-opening", "SYN": "other-port"}


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    for case, kind in _KINDS.items():
        yield Finding(case, again(partial(_once, lab, subject, kind)))


def _once(lab: Lab, subject: Subject, kind: str) -> dict[str, float]:
    with subject.start(lab, None) as running, lab.unrelated(kind) as arrived:
        time.sleep(0.5)
        before = [Reading.of(each) for each in running.processes]
        began = time.monotonic()
        time.sleep(lab.args.watched)
        after = [Reading.of(each) for each in running.processes]
        took, rate = time.monotonic() - began, arrived()
    cpu = sum(now.cpu_s - then.cpu_s for then, now in zip(before, after, strict=True))
    return {"arrived_per_s": checked(rate, lab.args.unrelated), "cpu_percent": round(cpu / took * 100, 2)}


FIGURE = Figure("unrelated", tuple(SUBJECTS), _measure)
