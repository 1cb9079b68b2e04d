"""How often something may happen: a token bucket. RFC 2697 has the idea; here are no bytes but knocks."""

from __future__ import annotations

__all__ = ["Bucket"]


class Bucket:
    """``burst`` at once, and ``rate`` a second afterwards. It is full to begin with.

    Times are seconds since the boot (CLOCK_BOOTTIME), which never step back.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, 0.0

    def has(self, up: float) -> bool:
        """Whether there is one left."""
        self._level = min(self._burst, self._level + max(0.0, up - self._at) * self._rate)
        self._at = up
        return self._level >= 1.0

    def is_full(self, up: float) -> bool:
        """Whether it is as one that was never taken from."""
        self.has(up)
        return self._level >= self._burst

    def take(self, up: float) -> bool:
        """Take one; False where there is none."""
        if not self.has(up):
            return False
        self._level -= 1.0
        return True
