"""Plots of what was measured, as SVG: bars on a logarithmic scale, peers in one colour and ours in another.

With matplotlib (``requirements/bench.txt``), which nothing else here needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.errors import Unavailable

__all__ = ["Bar", "bars"]

_PEER, _OURS = "#b0773a", "#2f6f9f"


class Bar(NamedTuple):
    """A row: the median, and the least and most of all rounds."""

    label: str
    value: float
    least: float
    most: float
    is_peer: bool


def bars(path: Path, title: str, unit: str, rows: Sequence[Bar]) -> None:
    """Write the plot; the same values make the same file. Raises Unavailable without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - for this alone

        mpl.use("svg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError as error:
        hint = "make bench installs it, out of requirements/bench.txt"
        raise Unavailable(f"no plots without matplotlib: {error}", hint=hint) from None
    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 9}):
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
