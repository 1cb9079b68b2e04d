"""Plots of what was measured, as SVG: bars on a logarithmic scale, peers in one colour and ours in another.

With matplotlib (``requirements/bench.txt``), which nothing else here needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from knockgate.errors import Unavailable

__all__ = ["Bar", "bars", "library"]

_PEER, _OURS = "#b0773a", "#2f6f9f"


class Bar(NamedTuple):
    """A row: the median, and the least and most of all rounds."""

    label: str
    value: float
    least: float
    most: float
    is_peer: bool


def library() -> Any:  # noqa: ANN401 - nothing is known of it where it is not installed
    """``matplotlib.pyplot``; raises Unavailable where it is not installed."""
    try:
        plt = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        hint = "make bench installs it, out of requirements/bench.txt"
        raise Unavailable(f"no plots without matplotlib: {error}", hint=hint) from None
    plt.switch_backend("svg")
    return plt


def bars(path: Path, title: str, unit: str, rows: Sequence[Bar]) -> None:
    """Write the plot; the same values make the same file. ``unit`` is that of the rows.

    Raises Unavailable without matplotlib.
    """
    plt = library()
    with plt.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(8, 0.6 + 0.34 * len(rows)), layout="constrained")
        drawn = axes.barh(
            [each.label for each in rows],
            [each.value for each in rows],
            xerr=[[each.value - each.least for each in rows], [each.most - each.value for each in rows]],
            color=[_PEER if each.is_peer else _OURS for each in rows],
            error_kw={"elinewidth": 0.8, "ecolor": "#555555"},
        )
        axes.bar_label(drawn, [f"{each.value:,.4g}" for each in rows], padding=6)
        axes.set_xscale("log")
        axes.margins(x=0.18)
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(f"{unit} (logarithmic; the line spans all rounds)")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
