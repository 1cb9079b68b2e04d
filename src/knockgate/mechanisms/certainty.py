"""How sure a gate is of the time, and which dates it takes for that. docs/spec/spa-v1.md, "The clock".

::

    start, no floor --> Blind ----+
                                  +-- the kernel vouches --> Sure, until the process ends
    start, a floor ---> Floored --+

The *floor* is the last time that the gate was sure of. It lies beside the marks, so a gate that boots without
a clock knows still how late it is at least: as late as then, and as long after it as this boot has lasted.

Sure stays sure, also when the kernel vouches no more. Whoever can keep time servers away would else have the
window switched off by waiting. What stops is the writing of floors.

Nothing here protects from a second opening: the marks do that, and they ask no clock (``marks.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from knockgate.model import Moment
from knockgate.spa.sealed.dates import WINDOW

__all__ = [
    "Blind",
    "Certainty",
    "ClockEffect",
    "DropFloor",
    "Floor",
    "Floored",
    "KeepFloor",
    "Span",
    "Sure",
    "TellStep",
    "floor_at",
    "forgotten",
    "heard",
    "span",
    "started",
]

_SECOND = 10**9
#: How often a floor is written while nobody knocks, in nanoseconds.
_EVERY = 3600 * _SECOND


@dataclass(frozen=True, slots=True)
class Floor:
    """What is kept of a time that the gate was sure of."""

    time: int  #: nanoseconds since 1970
    up: int  #: nanoseconds since the boot, then
    boot: str  #: which boot that was


@dataclass(frozen=True, slots=True)
class Blind:
    """No idea."""


@dataclass(frozen=True, slots=True)
class Floored:
    """It is at least so late."""

    base: int  #: nanoseconds since 1970: the boot was not before then


@dataclass(frozen=True, slots=True)
class Sure:
    """The kernel has vouched for the clock since we started."""

    offset: int  #: the clock's lead on the time since the boot, when last told of; nanoseconds
    written: int  #: nanoseconds since the boot, when a floor was last written of our own accord
    vouched: bool = True  #: whether it still does: a status warns where not


Certainty = Blind | Floored | Sure


@dataclass(frozen=True, slots=True)
class KeepFloor:
    """Write it down in place of the one before, also where that was later."""

    floor: Floor


@dataclass(frozen=True, slots=True)
class DropFloor:
    """There is to be no floor."""


@dataclass(frozen=True, slots=True)
class TellStep:
    """Log that the clock was set, by so many nanoseconds; ahead is positive."""

    by: int


ClockEffect = KeepFloor | DropFloor | TellStep


@dataclass(frozen=True, slots=True)
class Span:
    """Which dates are neither stale nor ahead, both ends included; None: no such end."""

    lower: int | None = None  #: nanoseconds since 1970
    upper: int | None = None

    @property
    def sure(self) -> bool:
        """Whether the gate knows the time, and not just how late it is at least."""
        return self.upper is not None


# A ``Moment`` here says of the clock what the kernel says of it at that moment, and not that it said so once.


def started(floor: Floor | None, moment: Moment) -> Certainty:
    """A gate that has just started, perhaps not for the first time in this boot."""
    if floor is None:
        return Blind()
    # In the boot that it was written in, the time since that boot is a part of the floor already.
    return Floored(floor.time - floor.up if floor.boot == moment.boot else floor.time)


def heard(state: Certainty, moment: Moment) -> tuple[Certainty, tuple[ClockEffect, ...]]:
    """The clock was read: before each claim, and at least once an hour."""
    now, up = _times(moment)
    floor = Floor(now, up, moment.boot)
    if not isinstance(state, Sure):
        return (Sure(now - up, up), (KeepFloor(floor),)) if moment.synchronised else (state, ())
    effects: list[ClockEffect] = []
    state = replace(state, vouched=moment.synchronised)
    step = now - up - state.offset
    if abs(step) > WINDOW:
        effects.append(TellStep(step))
        state = replace(state, offset=now - up)
    if moment.synchronised and up - state.written >= _EVERY:
        effects.append(KeepFloor(floor))
        state = replace(state, written=up)
    return state, tuple(effects)


def floor_at(state: Certainty, moment: Moment) -> Floor | None:
    """What a claim writes along, and a gate that stops; None: what there is stays."""
    if isinstance(state, Sure) and moment.synchronised:
        return Floor(*_times(moment), moment.boot)
    return None


def forgotten() -> tuple[Certainty, tuple[ClockEffect, ...]]:
    """An admin says that the gate was sure of a wrong time."""
    return Blind(), (DropFloor(),)


def span(state: Certainty, moment: Moment) -> Span:
    """Which dates to take now."""
    now, up = _times(moment)
    if isinstance(state, Sure):
        return Span(now - WINDOW, now + WINDOW)
    return Span(state.base + up - WINDOW) if isinstance(state, Floored) else Span()


def _times(moment: Moment) -> tuple[int, int]:
    """Nanoseconds since 1970, and since the boot."""
    return round(moment.now * _SECOND), round(moment.up * _SECOND)
