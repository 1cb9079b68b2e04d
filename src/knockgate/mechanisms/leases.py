"""The leases that keys have got, so that none has more at once than it may.

They are those that knocks were given: one that somebody has closed by hand counts until its time is over.
"""

from __future__ import annotations

from collections.abc import Mapping

from knockgate.model import Source

__all__ = ["Leases"]


class Leases:
    """Of each key, in memory; after a start all have none."""

    def __init__(self) -> None:
        self._until: dict[str, dict[tuple[str, Source], float]] = {}  # seconds since the boot

    def take(self, key: str, wanted: Mapping[tuple[str, Source], float], most: int, up: float) -> bool:
        """Give these to the key, if it has at most ``most`` with them; whether it has got them.

        ``wanted``: door and source -> seconds; ``up``: now, in seconds since the boot. What a key has already
        needs no more room.
        """
        live = {each: until for each, until in self._until.get(key, {}).items() if until > up}
        has_room = len(live.keys() | wanted.keys()) <= most
        if has_room:
            for each, seconds in wanted.items():
                live[each] = max(live.get(each, 0.0), up + seconds)  # a knock does not shorten a lease
        self._until[key] = live
        return has_room
