"""What the gate remembers of keys that nobody has any more is forgotten, once it is old.

Who writes a file of keys could have ever new ones in it, and each would leave marks behind for good. What is
forgotten is refused all the same (``store/marks.py``), with one number for all keys; so it must be older
than what an honest client sends. That goes by the gate's clock, and a wrong one would shut out all devices
that it has no mark of. Hence only what was too old an hour ago already goes, by a clock that the gate has
been sure of for that long, and that nobody has set meanwhile.

It is done now and then, a few keys at a time: knocks wait while it is.
"""

from __future__ import annotations

from collections.abc import Callable

from knockgate.mechanisms.certainty import Certainty, Sure
from knockgate.model import Moment
from knockgate.spa.sealed.dates import WINDOW
from knockgate.world import MarkStore

__all__ = ["GoneKeys"]

_NANO = 10**9
#: Seconds that the gate must have been sure, and between two rounds through all keys.
_HOUR = 3600.0
#: Keys in one go, and seconds until the next one.
_KEYS, _SOON = 200, 1.0


class GoneKeys:
    """Looks for them in a store, round after round."""

    def __init__(self, store: MarkStore, is_there: Callable[[bytes], bool]) -> None:
        """``is_there``: whether a key of that fingerprint may knock, by what its file says now."""
        self._store, self._is_there = store, is_there
        self._sure_of: int | None = None  # the clock's lead on the time since the boot
        self._since = 0.0  # the boot, when the gate was first sure of that
        self._after = b""

    def go_on(self, certain: Certainty, moment: Moment) -> float:
        """Do a little of it; returns the seconds until there is more to do. Raises Unavailable."""
        if not isinstance(certain, Sure) or not moment.synchronised:
            self._sure_of = None
            return _HOUR
        if certain.offset != self._sure_of:
            self._sure_of, self._since = certain.offset, moment.up
        if moment.up < self._since + _HOUR:
            return self._since + _HOUR - moment.up
        keys = self._store.keys(self._after, _KEYS)
        gone = [key for key in keys if not self._is_there(key)]
        if gone:
            # Not by what the clock says now, which may have been set since the state was told.
            an_hour_ago = certain.offset + round((moment.up - _HOUR) * _NANO)
            self._store.forget(gone, an_hour_ago - WINDOW)
        self._after = keys[-1] if len(keys) == _KEYS else b""
        return _SOON if self._after else _HOUR
