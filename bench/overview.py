"""The summary as tables: the best of theirs beside the best of ours, and then each of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from textwrap import fill

from bench.results import Results
from bench.summary import GROUPS, Group, Row, best_of_ours, summary, title_of
from bench.text import number, table

__all__ = ["amount", "ours_of", "overview", "plain_title", "times"]

_SAYS = """\
Like beside like: in each figure the best of theirs beside the best of ours. What each of ours does, the worse
ones too, is in the tables below. `the same`: they differ by less than one round and another do."""


def plain_title(subject: str) -> str:
    """Without whose it is."""
    return title_of(subject).removeprefix("knockgate: ")


def amount(value: float, unit: str) -> str:
    """With its unit."""
    text = number(value)
    return f"{text} {unit}" if unit and not math.isinf(value) else text


def times(row: Row) -> str:
    """How many times better ours is, for people."""
    if row.is_the_same:
        return "the same"
    if row.is_behind:
        return f"{number(row.ratio) if row.ratio else _no_number(row)} **behind**"
    if math.isinf(row.ratio):
        if math.isinf(row.theirs.median):
            return "theirs: never"
        if not row.less_is_better:
            return "theirs: none"
        return "ours: none" if row.is_counted else "ours takes nothing"
    return number(row.ratio)


def _no_number(row: Row) -> str:
    """What makes it no number of times worse."""
    if math.isinf(row.ours.median):
        return "ours: never,"
    if not row.less_is_better:
        return "ours: none,"
    return "theirs: none," if row.is_counted else "theirs takes nothing,"


def ours_of(row: Row) -> str:
    """Ours with its unit, or in a word."""
    takes_nothing = row.less_is_better and not row.ours.median and row.theirs.median and not row.is_counted
    return "nothing" if takes_nothing else amount(row.ours.median, row.unit)


def overview(found: Results) -> str:
    """All of it; empty where nothing of ours can be compared."""
    rows = summary(found)
    if not rows:
        return ""
    parts = [f"## Summary\n\n{_SAYS}\n"]
    best = best_of_ours(rows)
    parts += _parts(best, lambda group: f"### {group.title}\n\n{fill(group.says, 105)}", _best)
    several = [row for row in rows if len(row.group.ours) > 1]
    parts += _parts(several, lambda group: f"### {group.title}: each of ours", _each)
    return "\n".join(parts)


def _parts(
    rows: Sequence[Row], heading: Callable[[Group], str], made: Callable[[Sequence[Row]], str]
) -> Iterator[str]:
    for group in GROUPS:
        if those := [row for row in rows if row.group is group]:
            yield f"{heading(group)}\n\n{made(those)}\n"


def _best(rows: Sequence[Row]) -> str:
    """Figure, peer, ours, ratio."""
    return table(
        ["figure", "peer", "ours", "times better"],
        [
            [
                row.what,
                f"{title_of(row.peer)}: {amount(row.theirs.median, row.unit)}",
                f"{plain_title(row.subject)}: {ours_of(row)}",
                times(row),
            ]
            for row in rows
        ],
    )


def _each(rows: Sequence[Row]) -> str:
    """A row a figure, a column a subject."""
    lines, group = [], rows[0].group
    for what, each in groupby(rows, key=lambda row: row.what):
        those = {row.subject: row for row in each}
        first = next(iter(those.values()))
        cells = [f"{ours_of(row)}; {times(row)}" if (row := those.get(name)) else "-" for name in group.ours]
        lines.append([what, amount(first.theirs.median, first.unit), *cells])
    return table(["figure", "best peer", *(plain_title(name) for name in group.ours)], lines)
