"""What the table's packet path remembers of sources under way, with the same bounds, without a kernel.

A source's state finds a place in the first tier for its whole time or, once that is full, in the second
for a second at most; and a source that changes its state too often is held back (``ruleset``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from knockgate.firewall.ruleset import PACE_BUCKETS, PACE_RATE
from knockgate.mechanisms.automaton import NOWHERE
from knockgate.model import Source

__all__ = ["Progress"]

#: A source in the second tier is forgotten after this many seconds.
_HURRY = 1.0
#: The kernel takes out what has run out this often; until then it keeps its place. Seconds.
_COLLECTION = 1.0


class _Reached(NamedTuple):
    state: int
    ends: float


class _Tier:
    """A bounded map from source to what it has reached."""

    def __init__(self, size: int) -> None:
        self.places: dict[Source, _Reached] = {}
        self._size = size
        self._collected = 0.0

    def has_room(self, now: float) -> bool:
        if len(self.places) >= self._size and now >= self._collected + _COLLECTION:
            self._collected = now
            self.places = {source: reached for source, reached in self.places.items() if now < reached.ends}
        return len(self.places) < self._size


class Progress:
    """States by source. ``now`` tells seconds, never backwards."""

    def __init__(self, now: Callable[[], float], *, sources: int, hurried: int, burst: int) -> None:
        """``sources``, ``hurried``: places in the tiers, for each family; ``burst``: changes at once."""
        self._now = now
        self._burst = float(burst)
        self._tiers = {length: (_Tier(sources), _Tier(hurried)) for length in (4, 16)}
        self._pace: OrderedDict[tuple[Source, float], tuple[float, float]] = OrderedDict()  # left, and when

    def clear(self) -> None:
        """Forget all sources, as loading the table does; it forgets their pace only with the table."""
        for tiers in self._tiers.values():
            for tier in tiers:
                tier.places.clear()

    def state(self, source: Source) -> int:
        """What the source has reached, NOWHERE if nothing."""
        for tier in self._tiers[len(source)]:
            reached = tier.places.get(source)
            if reached and self._now() < reached.ends:
                return reached.state
        return NOWHERE

    def forget(self, source: Source) -> bool:
        """Forget a source; whether there was something."""
        was = self.state(source)
        for tier in self._tiers[len(source)]:
            tier.places.pop(source, None)
        return was != NOWHERE

    def remember(self, source: Source, state: int, within: float) -> bool:
        """Keep a forgotten source's new state for ``within`` seconds; False where there is no room."""
        for tier, longest in zip(self._tiers[len(source)], (within, min(within, _HURRY)), strict=True):
            if tier.has_room(self._now()):
                tier.places[source] = _Reached(state, self._now() + longest)
                return True
        return False

    def is_paced(self, source: Source, within: float) -> bool:
        """Take one of the changes that the source has left; True where there is none.

        A state that holds for another time has another chain, whose rule draws buckets of its own.
        """
        now = self._now()
        left, then = self._pace.pop((source, within), (self._burst, now))
        left = min(self._burst, left + (now - then) * PACE_RATE)
        self._pace[source, within] = (left - 1 if left >= 1 else left, now)
        if len(self._pace) > PACE_BUCKETS:
            self._pace.popitem(last=False)
        return left < 1
