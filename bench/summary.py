"""Ours against the best peer, in each figure that both have: where we lead, and where we do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bench.figures import leases
from bench.results import Results, percentile
from bench.subjects import PEERS, SUBJECTS

__all__ = ["Row", "summary", "title_of"]

_Value = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what of ours, beside the best peer."""

    what: str
    peer: str
    theirs: float
    ours: float
    unit: str
    less_is_better: bool = True

    @property
    def ratio(self) -> float:
        """How many times better ours is; below one it is worse."""
        best, other = (self.ours, self.theirs) if self.less_is_better else (self.theirs, self.ours)
        return other / best if best else float("inf")

    @property
    def is_behind(self) -> bool:
        """Whether the peer does better."""
        return self.ours > self.theirs if self.less_is_better else self.ours < self.theirs


def title_of(subject: str) -> str:
    """For people."""
    return SUBJECTS[subject].title if subject in SUBJECTS else leases.TITLES.get(subject, subject)


def summary(found: Results) -> list[Row]:
    """A row for each of ours in each figure."""
    rows = list(_beside("knock to first connection", "ms", partial(_latency, found)))
    rows += _beside("knocks that open under junk", "%", partial(_share, found), less_is_better=False)
    for case in [each for each in found.cases("refused") if "file" not in each]:
        value = partial(_refusing, found, case)
        rows += _beside(f"junk refused, {case}", "/s of a core", value, less_is_better=False)
    for case in found.cases("unrelated"):
        value = partial(_median, found, "unrelated", "cpu_percent", case)
        rows += _beside(f"CPU under unrelated packets, {case}", "% of a core", value)
    for name, what, unit in (
        ("pss_MB", "memory", "MB"),
        ("wakeups_per_minute", "wake-ups a minute", ""),
        ("start_ms", "start", "ms"),
    ):
        rows += _beside(what, unit, partial(_median, found, "idle", name, ""))
    for case in [each for each in found.cases("state") if each != "0"]:
        for name, what, unit in (
            ("start_ms", "start", "ms"),
            ("size_MB", "size", "MB"),
            ("first_ms", "knock", "ms"),
        ):
            value = partial(_median, found, "state", name, case)
            rows += _beside(f"{what} with {int(case):,} remembered", unit, value)
    for case in found.cases("leases"):
        for name, what in (("add_us", "let in"), ("unrelated_us", "unrelated packet")):
            theirs, ours = (_median(found, "leases", name, case, who) for who in ("iptables", "knockgate"))
            if theirs is not None and ours is not None:
                rows.append(Row(f"{what}, {int(case):,} are in", title_of("iptables"), theirs, ours, "us"))
    return rows


def _beside(what: str, unit: str, value: _Value, *, less_is_better: bool = True) -> Iterator[Row]:
    peers = {name: each for name in PEERS if (each := value(name)) is not None}
    if not peers:
        return
    best = (min if less_is_better else max)(peers, key=lambda name: peers[name])
    for name, subject in SUBJECTS.items():
        ours = None if subject.is_peer else value(name)
        if ours is not None:
            text = f"{what}: {subject.title.removeprefix('knockgate: ')}"
            yield Row(text, title_of(best), peers[best], ours, unit, less_is_better=less_is_better)


def _median(found: Results, figure: str, value: str, case: str, subject: str) -> float | None:
    middle = found.middle(figure, subject, value, case)
    return middle.median if middle else None


def _latency(found: Results, subject: str) -> float | None:
    return percentile(found.pooled("latency", subject, "first_ms"), 0.5)


def _share(found: Results, subject: str) -> float | None:
    """With the fewest keys, where their number was varied."""
    cases = found.cases("flood", subject)
    times = found.pooled("flood", subject, "opened_ms", cases[0]) if cases else []
    return sum(each is not None for each in times) / len(times) * 100 if times else None


def _refusing(found: Results, case: str, subject: str) -> float | None:
    """A peer's is what it could do, out of a file."""
    cases = case, f"{case}, out of a file"
    values = (_median(found, "refused", "refused_per_core_s", each, subject) for each in cases)
    return max((each for each in values if each is not None), default=None)
