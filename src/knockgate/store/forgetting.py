"""What a replay store may forget, and what it keeps of what it has forgotten.

Theory
------
A token is claimed once. So each token that was ever claimed is, at any time, either *remembered* by its
digest, or at or before a *mark*: of each hour, the newest ``issued`` that was forgotten. What is
remembered is refused as replayed, and what is not newer than the mark of its hour as forgotten. That
alone makes it impossible to claim a token twice, whatever the clock does: no clock is asked.

The clock decides only when to forget, so that a wrong one costs room or reach, never a second opening.
A token is forgotten once both hold:

* ``issued`` is more than ``fresh`` before ``now``, and the clock can be relied on. So freshness refuses it
  anyway, and while the clock is right no mark is as new as an honest packet;
* it was claimed more than ``held(fresh)`` ago by the time since the boot, which no step of the clock
  moves. A clock that jumps ahead thus makes no mark newer than an honest client could be after it has
  jumped back: who claimed that long ago was at most ``fresh`` ahead of then, and who knocks now is at most
  ``fresh`` behind.

What remains takes two wrong clocks, the gate's and a client's, both ahead: then marks lie in the future.
Each shuts out what was issued in the same hour before it, once that hour comes, and nothing else: hence
marks of hours and not one for all time. After a year in which the gate and its clients were in 2038
nobody waits until 2038.

*Low* is the newest mark that the clock relied on last had behind it. While no clock can be relied on,
whatever is not newer is refused as well: so a packet that was held back for months does not open then. It
is not ``now - fresh``, which after an hour in 2038 would shut everybody out until a clock is there again.
"""

from __future__ import annotations

__all__ = ["held", "hour"]

#: Seconds by which a clock that we rely on may be wrong without a mark shutting anybody out.
_MARGIN = 60.0


def held(fresh: float) -> float:
    """Seconds that a claim is remembered at least; ``fresh`` are those that a packet may be early or late."""
    return 2 * fresh + _MARGIN


def hour(issued: int) -> int:
    """Which mark it is that counts for what was issued then."""
    return issued // 3600
