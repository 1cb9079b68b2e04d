"""One source tries all ports in ascending order, as a port scanner does, and then tries the door.

It knows no sequence. Whoever hears only the ports of its sequences sees the steps, in order, and nothing of
what came in between. The control is the right knock of another source, which must open.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from functools import partial

from bench import packets
from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.measuring import again, checked, until_open
from bench.results import Value
from bench.subjects import SUBJECTS, Subject
from bench.wire import PORT
from knockgate.errors import Unavailable

__all__ = ["FIGURE", "SWEEPS"]

_PORTS = range(1, 10_001)
_RATES = (10_000, 50_000)
#: At each rate.
SWEEPS = 3
#: SYNs that are sent at once.
_BATCH = 25


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    subject = SUBJECTS[name]
    with subject.start(lab, None):
        lab.expect_shut(4)
        for rate in _RATES:
            yield Finding(f"{rate:,}/s", again(partial(_swept, lab, subject, rate)))


def _swept(lab: Lab, subject: Subject, rate: int) -> dict[str, Value]:
    rates, opened = [], 0
    for _ in range(SWEEPS):
        source = lab.source(4)
        rates.append(_sweep(lab, source, rate))
        time.sleep(0.2)  # what it begins may take a while
        with lab.site.client.inside():
            opened += lab.try_once(4, source) is not None
        _control(lab, subject)
    return {"sent_per_s": checked(min(rates), rate), "swept": SWEEPS, "opened": opened}


def _sweep(lab: Lab, source: str, rate: int) -> float:
    """SYNs a second."""
    path, chance = lab.path(source), random.Random(source)  # noqa: S311 - source ports
    frames = [packets.tcp(path, port, packets.SYN, chance) for port in _PORTS]
    with lab.site.observer.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind(("to-host", 0))
    with sock:
        before, began = lab.received(), time.monotonic()
        for number, frame in enumerate(frames):
            if number % _BATCH == 0 and (wait := began + number / rate - time.monotonic()) > 0:
                time.sleep(wait)
            sock.send(frame)
        took = time.monotonic() - began
    if lab.received() - before < len(frames):
        raise Unavailable("measurement failed: a part of the sweep did not arrive")
    return len(frames) / took


def _control(lab: Lab, subject: Subject) -> None:
    """The right knock opens, or it was not the strictness that kept the sweep out."""
    source = lab.source(4)
    if until_open(lab, source, partial(subject.way.send, lab, source, None)) is None:
        raise Unavailable(f"measurement failed: {subject.title}: the right knock does not open tcp/{PORT}")


FIGURE = Figure("sweep", ("knockd", "lane-a", "kernel", "daemon"), _measure)
