"""The leases that keys have got, so that none has more at once than it may.

They are those that knocks were given: one that somebody has closed by hand counts until its time is over.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from knockgate.model import Source

__all__ = ["Leases"]

#: Door and source.
_Lease = tuple[str, Source]


class Leases:
    """Of each key, in memory; after a start all have none.

    Of ``wanted`` leases the values are seconds, and ``up`` is now, in seconds since the boot.
    """

    def __init__(self) -> None:
        self._until: dict[Hashable, dict[_Lease, float]] = {}  # seconds since the boot

    def take(self, key: Hashable, wanted: Mapping[_Lease, float], most: int, up: float) -> bool:
        """Give these to the key, if there is room for them; whether it has got them."""
        has_room = self.has_room(key, wanted, most, up)
        if has_room:
            self.give(key, wanted, up)
        return has_room

    def has_room(self, key: Hashable, wanted: Mapping[_Lease, float], most: int, up: float) -> bool:
        """Whether it has at most ``most`` with these. What it has already needs no more room."""
        return len(self._live(key, up).keys() | wanted.keys()) <= most

    def give(self, key: Hashable, wanted: Mapping[_Lease, float], up: float) -> None:
        """Count these from now on, whatever there is room for."""
        live = self._live(key, up)
        for each, seconds in wanted.items():
            live[each] = max(live.get(each, 0.0), up + seconds)  # a knock does not shorten a lease
        self._until[key] = live

    def forget_idle(self, up: float) -> None:
        """Remember no key any more that has none."""
        self._until = {key: live for key in self._until if (live := self._live(key, up))}

    def _live(self, key: Hashable, up: float) -> dict[_Lease, float]:
        return {each: until for each, until in self._until.get(key, {}).items() if until > up}
