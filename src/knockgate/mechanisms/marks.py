"""Whether an authentic sealed knock is new and on time. docs/spec/spa-v1.md, "Replay".

Theory
------
A gate remembers of each device of each key a *mark*, the newest date that it has taken, and takes only newer
ones. So a knock is taken once, whatever any clock does: the comparison asks none. Devices share nothing, so
none is late because another one was early.

Where a key has too many devices, one is forgotten, and of the key remains *low*, the newest ``issued`` that
was ever taken of those. A device without a mark must be newer than that. A mark of a later era does not say
what was taken before it, and era 0 may have been in 2038; and a knock of era 0 that comes after it is
forgotten would make a mark below what was taken of era 1. So only devices of era 0 are forgotten
(``newest_of``). Whose newest is lowest goes first, and only if freshness has that behind it, by a clock that
the gate is sure of: so low is never as new as what an honest client sends while that clock is right.

Of keys that nobody has any more all goes that is old enough, and the low that they leave holds for all keys:
it is one number, however many keys somebody makes up (``daemon/gonekeys.py``).

The clock (``certainty.py``) decides what becomes of a new knock. A stale one is spent all the same, so that
it is not welcome when the clock is set back. One dated ahead is not: its mark would shut its owner out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from knockgate.errors import Reason
from knockgate.mechanisms.certainty import Span
from knockgate.spa.sealed.dates import WINDOW, Date

__all__ = ["Known", "Marked", "Spend", "TurnAway", "Verdict", "judge", "newest_of"]


class Marked(NamedTuple):
    """A device of a key, and what low is to become if it is forgotten (``newest_of``)."""

    device: bytes
    newest: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has of the key and the device that have knocked."""

    mark: Date | None  #: None: of this device nothing
    low: int = 0  #: of the key or of all: the newest ``issued`` that was forgotten; 0: nothing was
    crowd: Sequence[Marked] | None = None  #: all the key's devices, if there is no room for one more


@dataclass(frozen=True, slots=True)
class TurnAway:
    """Turn the knock away. Nothing is written."""

    reason: Reason
    skew: int | None = None  #: nanoseconds by which its clock is behind ours


@dataclass(frozen=True, slots=True)
class Spend:
    """Make its date the device's mark, durably, if that is still as it was; then go on, or refuse it."""

    mark: Date
    low: int  #: of the key, from now on
    forget: bytes | None = None  #: the device that goes, in the same transaction
    refused: Reason | None = None  #: None: go on, with what the key may
    skew: int | None = None  #: as in ``TurnAway``


Verdict = TurnAway | Spend

_NEVER = (1 << 63) - 1


def newest_of(mark: Date) -> int:
    """What must be behind us before a device with this mark may be forgotten; of a later era it never is."""
    return mark.issued if mark.era == 0 else _NEVER


def judge(date: Date, known: Known, taken: Span, *, may_spend: bool = True) -> Verdict:
    """What becomes of an authentic knock; ``taken`` is what the clock lets through now.

    Without ``may_spend`` what would be spent is turned away: its key knocks too often.
    """
    forget, low = None, known.low
    # Room comes first, as in the page's steps.
    if known.mark is None and known.crowd is not None:
        forget = _least(known.crowd, taken)
        if forget is None:
            return TurnAway(Reason.TOO_MANY_DEVICES)
        low = max(low, forget.newest)
    if date.issued <= known.low if known.mark is None else date <= known.mark:
        return TurnAway(Reason.REPLAYED)
    skew = None if taken.lower is None else taken.lower + WINDOW - date.issued
    if taken.upper is not None and date.issued > taken.upper:
        return TurnAway(Reason.AHEAD, skew)
    if not may_spend:
        return TurnAway(Reason.OVER_PACE)
    going = forget.device if forget else None
    if taken.lower is not None and date.issued < taken.lower:
        return Spend(date, low, going, Reason.STALE, skew)
    return Spend(date, low, going)


def _least(crowd: Sequence[Marked], taken: Span) -> Marked | None:
    """Whom to forget for another one, if anybody."""
    if taken.lower is None or not taken.sure:
        return None
    old = [one for one in crowd if one.newest < taken.lower]
    return min(old, key=lambda one: one.newest, default=None)
