"""The figures, in the order in which they are measured."""

from __future__ import annotations

from bench.figures import (
    flood,
    floor,
    idle,
    latency,
    leases,
    profile,
    refused,
    reloads,
    rules,
    state,
    sweep,
    unrelated,
    work,
)

__all__ = ["FIGURES"]

FIGURES = {
    each.FIGURE.name: each.FIGURE
    for each in (
        floor,
        profile,
        latency,
        flood,
        refused,
        unrelated,
        sweep,
        leases,
        idle,
        state,
        work,
        rules,
        reloads,
    )
}
