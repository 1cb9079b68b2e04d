"""Where ours is behind, and why: the section of the report, and what in it has no explanation."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from bench.bounds import BOUNDS, Missing
from bench.overview import amount, plain_title, times
from bench.results import Results
from bench.summary import Row, summary, title_of
from bench.text import table

__all__ = ["behind", "unexplained"]


def _by_topic(found: Results) -> list[tuple[str, list[Row]]]:
    """Those that are explained in the order of their bounds, the others behind them."""
    rows: dict[str, list[Row]] = {topic: [] for topic in BOUNDS}
    for row in summary(found):
        if row.is_behind:
            rows.setdefault(row.topic, []).append(row)
    return [(topic, those) for topic, those in rows.items() if those]


def _why(found: Results, topic: str, rows: Sequence[Row]) -> str | None:
    """None where nothing explains it, or what would is not measured."""
    try:
        text = BOUNDS[topic].says(found, rows) if topic in BOUNDS else None
    except Missing:
        return None
    return text and "\n\n".join(
        each if each.startswith("|") else fill(each, 105) for each in text.split("\n\n")
    )


def unexplained(found: Results) -> list[str]:
    """Rows in which ours is behind and nothing shows why, for people."""
    return [
        f"{row.what}: {plain_title(row.subject)} is behind {title_of(row.peer)}"
        for topic, rows in _by_topic(found)
        if _why(found, topic, rows) is None
        for row in rows
    ]


def behind(found: Results) -> str:
    """The section; empty where nothing of ours can be compared."""
    if not summary(found):
        return ""
    parts = ["## Where we are behind, and why\n"]
    topics = _by_topic(found)
    if not topics:
        parts.append("Nowhere in this run.\n")
    for topic, rows in topics:
        why = _why(found, topic, rows) or "**Not explained.**"
        title = BOUNDS[topic].title if topic in BOUNDS else rows[0].what
        parts.append(f"### {title}\n\n{_rows(rows)}\n\n{why}\n")
    return "\n".join(parts)


def _rows(rows: Sequence[Row]) -> str:
    lines = [
        [
            row.what,
            f"{title_of(row.peer)}: {amount(row.theirs.median, row.unit)}",
            f"{plain_title(row.subject)}: {amount(row.ours.median, row.unit)}",
            times(row).removesuffix("**behind**").rstrip(" ,"),
        ]
        for row in rows
    ]
    return table(["behind in", "peer", "ours", "times better"], lines)
