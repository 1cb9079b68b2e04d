"""Where ours spend what they spend: imports when they start, memory by kind, and time by function."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from bench import watched
from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.processes import memory_by_kind, name_of
from bench.results import Value
from bench.stage import FILES, Reading
from bench.subjects import SUBJECTS, Running, Subject
from bench.wire import DOOR, PORT
from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.ruleset import compile_ruleset

__all__ = ["FIGURE"]

_SUBJECTS = ("kernel", "lane-a", "daemon", "fwknop", "sealed")
#: Packets a second while functions are looked at; fewer than elsewhere, so that nothing waits for room.
_SYNS, _JUNK = 100_000, 40_000
_TURNS = 5
_CHAIN = "add rule inet knockgate door "
_Load = Callable[[], AbstractContextManager[object]]


#: Rules that a stranger's packet to the door comes by, by what they look for: a word that each kind has.
_RULES = {
    "the way to it, the set of leases, and the drop": ("@leases", "counter name shut"),
    "let in by hand, or by network": ("@given", "@networks"),
    "pauses, and connections of before": ("@paused", "@grace"),
    "whether it is for this host": ("fib ",),
    "the reset of a sequence": ("jump forget",),
}


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    if name == "kernel":
        yield Finding("a stranger's packet to the door, us", _door(lab))
        return
    subject = SUBJECTS[name]
    with _python(lab, watched.wrapper()), subject.start(lab, None):
        pass
    told = _of_lane_a() if name == "lane-a" else watched.import_times()
    for half, packages in told.items():
        yield Finding(f"imports, ms: {half}", packages)
    with subject.start(lab, None) as running:
        time.sleep(1)
        for process in running.processes:
            smaps = Path(f"/proc/{process}/smaps").read_text()
            kinds = {kind: round(size / 1e6, 2) for kind, size in memory_by_kind(smaps).items()}
            yield Finding(f"memory, MB: {'lane A' if name == 'lane-a' else name_of(process)}", kinds)
    try:
        watched.spy()
    except Unavailable:
        return  # a report asks for it before anything is measured
    for what, load in _loads(lab, subject).items():
        with subject.start(lab, None) as running, load():
            yield from _functions(lab, running, what)


def _door(lab: Lab) -> dict[str, float]:
    """Microseconds that the rules of each kind add to those before; each the least of some turns."""
    frame, costs = lab.syn("10.250.0.2", PORT), dict.fromkeys(_RULES, math.inf)
    for _ in range(_TURNS):
        kept: list[str] = []
        for what, words in _RULES.items():
            kept += words
            lab.clear()
            lab.load(_rules_with(kept))
            costs[what] = min(costs[what], lab.cost(frame, 0.4) / 1e3)
    lab.clear()
    before = [0.0, *costs.values()]
    return {what: round(cost - less, 3) for (what, cost), less in zip(costs.items(), before, strict=False)}


def _rules_with(words: Sequence[str]) -> str:
    """The gate's, but of those of the door only what has one of these words."""
    lines = compile_ruleset(parse(DOOR)).splitlines(keepends=True)
    others = (line for line in lines if not line.startswith(_CHAIN) or any(word in line for word in words))
    return "".join(others)


def _of_lane_a() -> dict[str, dict[str, float]]:
    return {"lane A": watched.imports((FILES / "knockdemo.log").read_text())}


def _functions(lab: Lab, running: Running, what: str) -> Iterator[Finding]:
    if running.looks is None:
        raise AssertionError("one looks at packets")
    before = Reading.of(running.looks)
    found = watched.functions(running.looks, lab.args.watched)
    after = Reading.of(running.looks)
    cpu = after.cpu_s - before.cpu_s
    kernel: dict[str, Value] = {
        "cpu_percent": round(cpu / (after.at - before.at) * 100, 1),
        "in_the_kernel_percent": round((after.kernel_s - before.kernel_s) / cpu * 100, 1) if cpu else None,
    }
    yield Finding(f"time: {what}", kernel)
    yield Finding(f"functions, %: {what}", found)


@contextmanager
def _python(lab: Lab, path: Path) -> Iterator[None]:
    lab.python = str(path)
    try:
        yield
    finally:
        lab.python = None


def _loads(lab: Lab, subject: Subject) -> dict[str, _Load]:
    """What it is watched under."""
    if subject.way.length(lab) is None:
        return {"stray SYNs": partial(lab.unrelated, "other-port", _SYNS)}
    length, way = subject.way.length(lab), subject.way
    junk = partial(lab.junk, way.junk, lab.args.watched + 3, length, port=way.port, rate=_JUNK)
    return {"junk": junk, "knocks": partial(_knocks, lab, subject)}


@contextmanager
def _knocks(lab: Lab, subject: Subject) -> Iterator[None]:
    """Genuine ones, one after the other."""
    sources = [lab.source(4) for _ in range(200)]
    made = [(each, subject.way.make(lab, each)) for each in sources]
    over = threading.Event()

    def knock() -> None:
        with lab.site.client.inside():
            for source, packet in made:
                subject.way.send(lab, source, packet)
                if over.wait(lab.args.watched / len(made)):
                    return

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


FIGURE = Figure("profile", _SUBJECTS, _measure, rounds=1)
