"""Which packets were taken, in memory only: ``world.ReplayStore`` for ``simulate`` and for tests.

The same verbs and the same answers as the file's; one suite holds both to them. What it leaves out: nothing
outlives it, and it forgets at once all that may be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator

from knockgate.model import Claim, Moment, Token
from knockgate.store.forgetting import held, hour

__all__ = ["MemoryStore"]


class MemoryStore:
    """Satisfies ``world.ReplayStore``."""

    def __init__(self, *, fresh: float, limit: int) -> None:
        """``fresh``: seconds that a packet may be early or late. ``limit``: tokens that there is room for."""
        self.limit = limit
        self._fresh, self._held = fresh, held(fresh)
        self._moment: Moment | None = None  # of the last claim
        self._claimed: dict[bytes, tuple[int, Moment]] = {}  # digest -> issued, when it was claimed
        self._marks: dict[int, int] = {}  # hour -> the newest forgotten
        self._low: int | None = None

    def __len__(self) -> int:
        """Tokens remembered now."""
        return len(self._claimed)

    def low(self) -> int | None:
        """While the clock is unknown, nothing is taken that was issued then or before; None: anything is."""
        return self._low

    def claim(self, token: Token, moment: Moment) -> Claim:
        """Spend the token."""
        if token.digest in self._claimed:
            return Claim.REPLAYED
        mark = self._marks.get(hour(token.issued))
        if mark is not None and token.issued <= mark:
            return Claim.FORGOTTEN
        if not moment.synchronised and self._low is not None and token.issued <= self._low:
            return Claim.FORGOTTEN
        self._moment = moment
        if len(self._claimed) >= self.limit:
            self._forget(moment)
        if len(self._claimed) >= self.limit:
            return Claim.FULL
        self._claimed[token.digest] = token.issued, moment
        return Claim.CLAIMED

    def settle(self, token: Token) -> None:  # noqa: ARG002 - nobody asks an earlier life
        """It has been answered; what is old enough is forgotten."""
        if self._moment:
            self._forget(self._moment)

    def unsettled(self) -> Iterator[Token]:
        """Nothing: there is no earlier life."""
        return iter(())

    def close(self) -> None:
        """There is nothing to let go of."""

    def _forget(self, moment: Moment) -> None:
        if not moment.synchronised:
            return
        edge = moment.now - self._fresh
        for digest, (issued, claimed) in list(self._claimed.items()):
            if issued < edge and self._is_long_ago(claimed, moment):
                del self._claimed[digest]
                self._marks[hour(issued)] = max(issued, self._marks.get(hour(issued), issued))
        self._low = max((mark for mark in self._marks.values() if mark < edge), default=None)

    def _is_long_ago(self, claimed: Moment, moment: Moment) -> bool:
        since = claimed.up if claimed.boot == moment.boot else 0.0
        return moment.up - since > self._held
