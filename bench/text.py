"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.results import Middle

__all__ = ["number", "spread", "table"]


def number(value: float | None) -> str:
    """Three digits that count, and whole from a thousand on; infinite is ``never``."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "never"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(found: Middle | None) -> str:
    """The median, and behind it the least and most of the rounds where they differ."""
    if found is None:
        return "-"
    median, least, most = (number(each) for each in (found.median, found.least, found.most))
    return median if least == most else f"{median} ({least} to {most})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells side by side, a line a row."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---'] * len(head))}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
