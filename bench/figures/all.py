"""The figures, in the order in which they are measured."""

from __future__ import annotations

from bench.figures import flood, idle, latency, leases, refused, reloads, rules, state, unrelated, work

__all__ = ["FIGURES"]

FIGURES = {
    each.FIGURE.name: each.FIGURE
    for each in (latency, flood, refused, unrelated, leases, idle, state, work, rules, reloads)
}
