"""The date of a sealed knock: an era, and nanoseconds since 1970 by its sender's clock.

Dates are compared era first. A gate takes of one device only what is newer than the newest that it has taken,
so a client must never go back. Its clock may: the era is for that. What a client keeps for a gate is no more
than the last date that it gave out there, and it must be on the disk before the knock is on its way.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LAST_ERA", "WINDOW", "Date", "following"]

#: By how many nanoseconds two clocks that are right may differ: the page's W.
WINDOW = 60 * 10**9
#: The field has 16 bits.
LAST_ERA = 65535


class Date(NamedTuple):
    """Of two dates the one of the later era is the newer one, whatever the clock said."""

    era: int
    issued: int  #: nanoseconds since 1970


def following(last: Date | None, now: int) -> Date | None:
    """The date of the next knock at a gate; ``now`` are nanoseconds since 1970, by the client's clock.

    ``last`` is the one before it, None if this device has never knocked there. A client keeps it in one file
    with its secret: whoever loses dates has then lost the device too, and is another one.

    None: there are no more eras. The client makes a new secret, so it is another device at each of its gates.
    """
    if last is None:
        return Date(0, now)
    if now > last.issued:
        return Date(last.era, now)
    if now >= last.issued - WINDOW:
        return Date(last.era, last.issued + 1)
    return Date(last.era + 1, now) if last.era < LAST_ERA else None
