"""What was measured: samples, kept one by one, and what is made of them.

A sample is what one round found out about one subject in one case of a figure. Nothing is thrown away: the
file has every value of every round, and tables are made out of it afterwards.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from knockgate.errors import Unavailable

__all__ = ["Middle", "Results", "Sample", "Turn", "middle", "percentile"]

_FORMAT = 2

Value = float | int | None | Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """``values``: by a name that ends with its unit; a list where each knock has one of its own."""

    figure: str
    subject: str
    case: str
    round: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject in one round of one figure, measured whole."""

    figure: str
    round: int
    subject: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Middle:
    """Of several rounds."""

    median: float
    least: float
    most: float


@dataclass(slots=True)
class Results:
    """Of one run of the command. ``planned``: how many turns it has."""

    machine: Mapping[str, Any]
    asked: Mapping[str, Any]
    versions: Mapping[str, str]
    samples: list[Sample] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    planned: int = 0

    @property
    def missing(self) -> int:
        """Turns that are not measured."""
        return max(0, self.planned - len(self.turns))

    def of(self, figure: str, subject: str, case: str = "") -> list[Sample]:
        """Its samples, in the order of the rounds."""
        wanted = (figure, subject, case)
        return [each for each in self.samples if (each.figure, each.subject, each.case) == wanted]

    def subjects(self, figure: str) -> list[str]:
        """In the order in which they were first measured."""
        return list(dict.fromkeys(each.subject for each in self.samples if each.figure == figure))

    def cases(self, figure: str, subject: str | None = None) -> list[str]:
        """Of one subject, or of all."""
        return list(
            dict.fromkeys(
                each.case
                for each in self.samples
                if each.figure == figure and subject in (None, each.subject)
            )
        )

    def middle(self, figure: str, subject: str, value: str, case: str = "") -> Middle | None:
        """Of one number a round; None where no round has it."""
        return middle(each.values.get(value) for each in self.of(figure, subject, case))

    def pooled(self, figure: str, subject: str, value: str, case: str = "") -> list[float | None]:
        """The values of lists, of all rounds."""
        found: list[float | None] = []
        for each in self.of(figure, subject, case):
            listed = each.values.get(value)
            if isinstance(listed, Sequence):
                found += listed
        return found

    def save(self, path: Path) -> None:
        """As JSON; in its place when it is whole."""
        new = path.with_name(f".{path.name}.new")
        new.write_text(self.text())
        new.replace(path)

    def text(self) -> str:
        """A sample has a line of its own, so that two runs can be compared."""
        head = {"format": _FORMAT, "machine": self.machine, "asked": self.asked, "versions": self.versions}
        head["planned"] = self.planned
        turns, samples = (
            ",\n  ".join(json.dumps(asdict(each)) for each in listed) for listed in (self.turns, self.samples)
        )
        lists = f',\n "turns": [\n  {turns}\n ],\n "samples": [\n  {samples}\n ]\n}}\n'
        return json.dumps(head, indent=1)[:-2] + lists

    @classmethod
    def load(cls, path: Path) -> Results:
        """Raises Unavailable where it is not what ``save`` writes."""
        try:
            told = json.loads(path.read_text())
            if told["format"] != _FORMAT:
                raise Unavailable(f"{path}: format {told['format']}, not {_FORMAT}", hint="measure again")
            samples = [Sample(**each) for each in told["samples"]]
            turns = [Turn(**each) for each in told.get("turns", [])]
            return cls(
                told["machine"], told["asked"], told["versions"], samples, turns, told.get("planned", 0)
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{path}: cannot be read: {error}", hint="make bench writes it") from None


def middle(values: Iterable[object]) -> Middle | None:
    """Of those that are numbers."""
    there = [float(each) for each in values if isinstance(each, int | float)]
    return Middle(statistics.median(there), min(there), max(there)) if there else None


def percentile(values: Iterable[float | None], share: float) -> float | None:
    """The least value that ``share`` of all are at or below (nearest rank); None counts as never."""
    ranked = sorted(float("inf") if each is None else each for each in values)
    if not ranked:
        return None
    found = ranked[max(0, math.ceil(round(len(ranked) * share, 6)) - 1)]
    return None if found == float("inf") else found
