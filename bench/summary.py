"""Ours against the best peer, in each figure that both have: where we lead, and where we do not.

Like is compared with like: sequences with knockd; single packets with fwknopd, of whose two modes the better
one counts in each figure; letting somebody in with a rule of iptables, or an element by the program nft.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from bench.figures import leases
from bench.figures.sweep import SWEEPS
from bench.results import Middle, Results, middle, percentile
from bench.subjects import SUBJECTS

__all__ = ["GROUPS", "Group", "Row", "best_of_ours", "summary", "title_of"]

_Value = Callable[[str], Middle | None]
#: Medians that differ by more are not the same, however far the rounds lie from each other.
_ALIKE = 1.25


@dataclass(frozen=True, slots=True)
class Group:
    """Subjects that do the same: ``peers`` are other people's."""

    title: str
    says: str
    peers: tuple[str, ...]
    ours: tuple[str, ...]


GROUPS = (
    Group(
        "Sequences, beside knockd",
        "The same three SYNs for all. knockd and lane A are programs that hear packets, as is the gate where "
        "a sequence runs in its daemon; else the kernel follows it, and there is no program.",
        ("knockd",),
        ("kernel", "daemon", "lane-a"),
    ),
    Group(
        "Single packets, beside fwknopd",
        "fwknop's packet is the same for both, out of Debian's client. A sealed packet does more: a "
        "signature with one's own ssh key, and encryption against quantum computers. Nobody else has one, so "
        "it stands beside fwknopd too. Of fwknopd's two modes the better one counts in each figure.",
        ("fwknopd", "fwknopd-udp"),
        ("fwknop", "sealed", "sealed-small"),
    ),
    Group(
        "Letting somebody in",
        "The firewall alone, by how many are in already: a rule of iptables for each, as knockd and fwknopd "
        "do it; an element of a set by the program nft, as the tutorial's daemon does; and the gate's way.",
        ("iptables", "nft"),
        ("knockgate",),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One of ours in one figure, beside the best peer.

    ``topic``: what explains it, should it be behind, and what it counts as where the best are picked.
    ``grain``: what cannot be told from nothing.
    """

    topic: str
    what: str
    group: Group
    peer: str
    theirs: Middle
    subject: str
    ours: Middle
    unit: str
    less_is_better: bool = True
    grain: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times better ours is; below one it is worse."""
        theirs, ours = self.theirs.median, self.ours.median
        best, other = (ours, theirs) if self.less_is_better else (theirs, ours)
        if best == other:
            return 1.0
        return other / best if best else math.inf

    @property
    def is_counted(self) -> bool:
        """How many of some, not how much of anything."""
        return self.unit.startswith("of ")

    @property
    def is_the_same(self) -> bool:
        """What differs by less than rounds do, or than can be measured."""
        theirs, ours = self.theirs, self.ours
        if theirs.median == ours.median or abs(theirs.median - ours.median) <= self.grain:
            return True
        overlap = ours.least <= theirs.most and theirs.least <= ours.most
        return overlap and 1 / _ALIKE < self.ratio < _ALIKE

    @property
    def is_behind(self) -> bool:
        """Whether the peer does better."""
        return self.ratio < 1 and not self.is_the_same


def title_of(subject: str) -> str:
    """For people."""
    return SUBJECTS[subject].title if subject in SUBJECTS else leases.TITLES.get(subject, subject)


def summary(found: Results) -> list[Row]:
    """A row for each of ours in each figure, figure by figure."""
    return [row for group in GROUPS for measure in _measures(found) for row in measure.rows(group)]


def best_of_ours(rows: Iterable[Row]) -> list[Row]:
    """Of each figure in each group the one of ours that does best."""
    return [
        (min if those[0].less_is_better else max)(those, key=lambda row: row.ours.median)
        for _, each in groupby(rows, key=lambda row: (row.group.title, row.what))
        if (those := list(each))
    ]


# --- what is compared ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measure:
    topic: str
    what: str
    unit: str
    value: _Value
    less_is_better: bool = True
    grain: float = 0.0

    def rows(self, group: Group) -> Iterator[Row]:
        peers = {name: each for name in group.peers if (each := self.value(name)) is not None}
        if not peers:
            return
        best = (min if self.less_is_better else max)(peers, key=lambda name: peers[name].median)
        for name in group.ours:
            if ours := self.value(name):
                yield Row(
                    topic=self.topic,
                    what=self.what,
                    group=group,
                    peer=best,
                    theirs=peers[best],
                    subject=name,
                    ours=ours,
                    unit=self.unit,
                    less_is_better=self.less_is_better,
                    grain=self.grain,
                )


def _measures(found: Results) -> Iterator[_Measure]:
    knock = "knock to first connection"
    yield _Measure("knock", f"{knock}, median", "ms", partial(_rank, found, "latency", "first_ms", 0.5))
    yield _Measure("knock", f"{knock}, p99", "ms", partial(_rank, found, "latency", "first_ms", 0.99))
    yield _Measure("junk", "knocks that open under junk", "%", partial(_share, found), less_is_better=False)
    yield _Measure(
        "junk", f"{knock} under junk, median", "ms", partial(_rank, found, "flood", "opened_ms", 0.5)
    )
    for case in [each for each in found.cases("refused") if "file" not in each]:
        what, value = f"junk refused, {_keys(case)}", partial(_refusing, found, case)
        yield _Measure("refused", what, "/s of a core", value, less_is_better=False)
    for case in found.cases("unrelated"):
        what, value = (
            f"CPU under unrelated packets, {case}",
            partial(_one, found, "unrelated", "cpu_percent", case),
        )
        yield _Measure(f"unrelated {case}", what, "% of a core", value, grain=0.5)
    for case in found.cases("sweep"):
        value = partial(_one, found, "sweep", "opened", case)
        yield _Measure("scan", f"port scans that open the door, {case}", f"of {SWEEPS}", value)
    for topic, name, what, unit in (
        ("memory", "pss_MB", "memory, PSS", "MB"),
        ("memory", "rss_MB", "memory, RSS", "MB"),
        ("wake-ups", "wakeups_per_minute", "wake-ups a minute", ""),
        ("start", "start_ms", "start", "ms"),
    ):
        yield _Measure(topic, what, unit, partial(_one, found, "idle", name, ""), grain=1 if not unit else 0)
    for case in [each for each in found.cases("state") if each != "0"]:
        for topic, name, what, unit in (
            ("start", "start_ms", "start", "ms"),
            ("size", "size_MB", "on disk", "MB"),
            ("knock", "first_ms", "knock to first connection", "ms"),
        ):
            value = partial(_one, found, "state", name, case)
            yield _Measure(topic, f"{what}, {int(case):,} remembered", unit, value)
    for case in found.cases("leases"):
        for topic, name, what in (
            ("let in", "add_us", "one more let in"),
            ("forward", "unrelated_us", "an unrelated packet"),
            ("forward", "stranger_us", "a stranger's packet to the door"),
        ):
            value = partial(_one, found, "leases", name, case)
            yield _Measure(topic, f"{what}, {int(case):,} are in", "us", value)


def _keys(case: str) -> str:
    count = case.removesuffix(" keys")
    return "1 key" if count == "1" else f"{int(count):,} keys"


def _one(found: Results, figure: str, value: str, case: str, subject: str) -> Middle | None:
    return found.middle(figure, subject, value, case)


def _first_case(found: Results, figure: str, subject: str) -> str:
    """With the fewest keys, where their number was varied."""
    return next(iter(found.cases(figure, subject)), "")


def _rank(found: Results, figure: str, value: str, share: float, subject: str) -> Middle | None:
    """Of all knocks; least and most are of the rounds. What never opened is infinite."""
    case = _first_case(found, figure, subject)
    times = found.pooled(figure, subject, value, case)
    if not times:
        return None
    rounds = [_never(percentile(each, share)) for each in _lists(found, figure, subject, value, case)]
    return Middle(_never(percentile(times, share)), min(rounds), max(rounds))


def _never(value: float | None) -> float:
    return math.inf if value is None else value


def _lists(
    found: Results, figure: str, subject: str, value: str, case: str
) -> Iterator[Sequence[float | None]]:
    for sample in found.of(figure, subject, case):
        listed = sample.values.get(value)
        if isinstance(listed, Sequence) and listed:
            yield listed


def _share(found: Results, subject: str) -> Middle | None:
    lists = _lists(found, "flood", subject, "opened_ms", _first_case(found, "flood", subject))
    return middle(sum(each is not None for each in times) / len(times) * 100 for times in lists)


def _refusing(found: Results, case: str, subject: str) -> Middle | None:
    """A peer's is what it could do, out of a file."""
    cases = case, f"{case}, out of a file"
    values = (found.middle("refused", subject, "refused_per_core_s", each) for each in cases)
    return max((each for each in values if each), key=lambda each: each.median, default=None)
