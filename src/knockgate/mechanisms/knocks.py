"""What a knock sequence is. Who has made which part of one is the business of ``sequence``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from knockgate.model import Port

__all__ = ["KnockSequence"]


@dataclass(frozen=True, slots=True)
class KnockSequence:
    """``steps`` to be made within ``within`` seconds, all told, to open ``door``."""

    door: str
    steps: tuple[Port, ...]
    within: float

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a sequence has at least one step")
        if not 0 < self.within < math.inf:
            raise ValueError("the time for a sequence is more than 0 seconds, and has an end")
