"""README's table of figures: our four best and our worst, out of ``docs/benchmarks.json`` and nothing else.

One figure of each topic, so that no topic fills the table by itself; the worst is the worst of all. What
takes nothing at all, of ours or of theirs, is no number of times better or worse, so it comes last.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from bench.overview import amount, ours_of, plain_title, times
from bench.results import Results
from bench.summary import Row, best_of_ours, summary, title_of
from bench.text import table
from knockgate.errors import Unavailable

__all__ = ["BEGIN", "END", "block", "block_in", "write"]

BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"
_BEST = 4


def block(found: Results) -> str:
    """What stands between the two marks."""
    rows = summary(found)
    topics: dict[str, Row] = {}
    for row in sorted(best_of_ours(rows), key=_how_much_better, reverse=True):
        if not row.is_the_same and not row.is_behind:
            topics.setdefault(row.topic, row)
    if not rows:
        raise Unavailable("nothing of ours can be compared, so README has no figures of it")
    worst = min(rows, key=_how_much_better)
    shown = [*list(topics.values())[:_BEST], worst]
    about = found.machine
    says = f"""\
Our four best and our worst figure, of {found.asked["day"]} ({about["cpu"]}, {about["cores"]} cores, Python
{about["python"]}). [docs/benchmarks.md](docs/benchmarks.md) has all of them, and why we are behind where
we are."""
    lines = table(["figure", "peer", "ours", "times better"], [_cells(row) for row in shown])
    return f"\n{lines}\n\n{fill(says, 110)}\n`make bench` measures them again.\n"


def _how_much_better(row: Row) -> float:
    # Where ours never opens, nothing is worse; that is no case of somebody's taking nothing.
    least = min(row.ours.median, row.theirs.median)
    takes_nothing = row.less_is_better and not least and not row.is_counted
    return 1.0 if takes_nothing else row.ratio


def _cells(row: Row) -> list[str]:
    return [
        row.what,
        f"{title_of(row.peer)}: {amount(row.theirs.median, row.unit)}",
        f"{plain_title(row.subject)}: {ours_of(row)}",
        times(row),
    ]


def block_in(text: str) -> str:
    """What a README has there; raises Unavailable without the marks."""
    _, begin, rest = text.partition(f"{BEGIN}\n")
    found, end, _ = rest.partition(END)
    if not begin or not end:
        raise Unavailable("README.md has no place for figures", hint=f"{BEGIN} and {END}, each on its line")
    return found


def write(found: Results, readme: Path) -> None:
    """Put it there; raises Unavailable without the marks."""
    text = readme.read_text()
    old = block_in(text)
    readme.write_text(text.replace(f"{BEGIN}\n{old}{END}", f"{BEGIN}\n{block(found)}{END}"))
