"""One module a figure: what is measured of whom, and how. ``bench/README.md`` explains them.

A figure measures one subject at a time and tells what it found as ``Finding``s; the stage goes round by round
through all subjects, so that a busy minute of the machine spoils no comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.lab import Lab
from bench.results import Value

__all__ = ["Figure", "Finding"]


class Finding(NamedTuple):
    """Of one case; ``values`` as those of a ``Sample``."""

    case: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Figure:
    """``measure`` is called for each subject, by its name, in each round. ``rounds``: no more than these."""

    name: str
    subjects: Iterable[str]
    measure: Callable[[Lab, str], Iterator[Finding]]
    rounds: int | None = None
