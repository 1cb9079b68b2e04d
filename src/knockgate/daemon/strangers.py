"""What strangers do, in one line a minute at most: they could fill a log with lines of their own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from knockgate.daemon.log import Event, Record, say
from knockgate.errors import Reason

if TYPE_CHECKING:
    from knockgate.mechanisms.sequence import Tally

__all__ = ["Summary"]

#: Seconds from the first that is new to the line that tells of it, and of all that came in between.
_EVERY = 60.0


class _Hearing(Protocol):
    @property
    def strangers(self) -> Mapping[Reason, int]: ...


class Summary:
    """Looks at counters that only grow. Where nothing new came there is nothing to wake up for."""

    def __init__(self, program: str, heard: Iterable[_Hearing | None], tally: Tally | None) -> None:
        """``heard``: who counts packets; ``tally``: of sequences."""
        self._program, self._tally = program, tally
        self._heard = [each for each in heard if each]
        self._told: Mapping[str, int] = {}
        self._due: float | None = None

    def next_wakeup(self) -> float | None:
        """When to call ``tick``, by the monotonic clock; None where there is nothing to tell."""
        if self._due is None and self._counts() != self._told:
            self._due = time.monotonic() + _EVERY
        return self._due

    def tick(self) -> None:
        """Tell of it; also before the end, whenever that is."""
        counts, told = self._counts(), self._told
        new = {what: count - told.get(what, 0) for what, count in counts.items() if count > told.get(what, 0)}
        self._told, self._due = counts, None
        if new:
            words = ", ".join(f"{count} {what}" for what, count in sorted(new.items()))
            say(self._program, f"strangers of late: {words}", Record(event=Event.STRANGERS, counts=new))

    def _counts(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for each in self._heard:
            for reason, count in each.strangers.items():
                counts[reason.value] += count
        if self._tally:
            counts["sequence-broken-off"] = self._tally.reset
            counts["sequence-forgotten"] = self._tally.forgotten
        return +counts
