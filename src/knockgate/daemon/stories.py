"""What became of sealed knocks: the last ones of who has a key in full, and strangers' by number.

A stranger decides neither how long anything here is nor how much of it there is: of each reason there is a
count and the last one. What that one says of itself, nobody has signed. Nor does one key push out what is
told of the others, however often it knocks.
"""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from knockgate.effects import KnockRefused, Story
from knockgate.errors import Reason
from knockgate.model import Source, address_text
from knockgate.refusals import advice_on, reason_in_words, step_of, why_refused

__all__ = ["Stories"]

_REMEMBERED = 200
#: Those of a key that stay when room is needed for others.
_OF_ONE = 20


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """How a knock ended; ``leases`` are seconds, of the doors that did open. Equal to itself alone."""

    story: Story
    at: float
    refused: KnockRefused | None = None
    leases: Mapping[str, float] | None = None


@dataclass(slots=True)
class _Strangers:
    count: int = 0
    at: float = 0.0
    sender: Source = b""
    story: Story | None = None
    relayed: int = 0


class Stories:
    """``row`` tells what the store calls a device, ``standing`` what the admin has said of that one."""

    def __init__(self, row: Callable[[bytes], bytes], standing: Callable[[bytes], str | None]) -> None:
        self._row, self._standing = row, standing
        self._since = time.monotonic()
        self._ends: deque[_End] = deque()
        self._number: dict[bytes, int] = {}  # of those, by the fingerprint
        self._strangers: dict[Reason, _Strangers] = {}
        self.opened = 0
        self.refused: dict[Reason, int] = {}

    def taken(self, story: Story, leases: Mapping[str, float]) -> None:
        """It was let through; ``leases`` has the doors that opened then, which may be none."""
        self.opened += bool(leases)
        self._remember(_End(story, time.monotonic(), leases=leases))

    def turned_away(self, refused: KnockRefused) -> None:
        """It was not."""
        self._count(refused.reason, 1)
        if refused.key is not None and refused.story is not None:
            self._remember(_End(refused.story, time.monotonic(), refused))
            return
        one = self._strangers.setdefault(refused.reason, _Strangers())
        one.count += 1
        one.relayed += bool(refused.asked)
        one.at, one.sender, one.story = time.monotonic(), refused.sender, refused.story

    def _remember(self, end: _End) -> None:
        key = end.story.fingerprint
        self._ends.appendleft(end)
        self._number[key] = self._number.get(key, 0) + 1
        if len(self._ends) <= _REMEMBERED:
            return
        # The oldest of those that have many goes first; where none has, the oldest of all.
        going = next((each for each in reversed(self._ends) if self._has_many(each)), self._ends[-1])
        self._ends.remove(going)
        self._number[going.story.fingerprint] -= 1
        if not self._number[going.story.fingerprint]:
            del self._number[going.story.fingerprint]

    def _has_many(self, end: _End) -> bool:
        return self._number[end.story.fingerprint] > _OF_ONE

    def junk(self, count: int) -> None:
        """So many were of none of our cards."""
        if count:
            self._count(Reason.NOT_OURS, count)
            one = self._strangers.setdefault(Reason.NOT_OURS, _Strangers())
            one.count, one.at = one.count + count, time.monotonic()

    @property
    def strangers(self) -> dict[Reason, int]:
        """Those of who has no key."""
        return {reason: one.count for reason, one in self._strangers.items()}

    def _count(self, reason: Reason, count: int) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + count

    def document(self) -> dict[str, object]:
        """What ``control.explain`` returns of knocks."""
        now = time.monotonic()
        return {
            "since": round(now - self._since, 1),
            "knocks": [self._told(each, now) for each in self._ends],
            "strangers": [
                {
                    "reason": reason.value,
                    "why": reason_in_words(reason, sealed=True),
                    "hint": advice_on(KnockRefused(reason, story=one.story)),
                    "count": one.count,
                    "relayed": one.relayed,
                    "seconds_ago": round(now - one.at, 1),
                    "sender": address_text(one.sender) if one.sender else None,
                    "claims": self._facts(one.story) if one.story else None,
                }
                for reason, one in self._strangers.items()
            ],
        }

    def _told(self, end: _End, now: float) -> dict[str, object]:
        refused = end.refused
        result = "refused" if refused else "opened" if end.leases else "not opened"
        return {
            "seconds_ago": round(now - end.at, 1),
            "result": result,
            "reason": refused.reason.value if refused else None,
            "step": step_of(refused) if refused else None,
            "why": why_refused(refused) if refused else None,
            "hint": advice_on(refused, self._row(end.story.device)) if refused else None,
            "leases": dict(end.leases or {}),
            **self._facts(end.story),
        }

    def _facts(self, story: Story) -> dict[str, object]:
        """Of a stranger's some are empty, and none is signed."""
        row = self._row(story.device) if story.device else None
        digest = base64.b64encode(story.fingerprint).decode().rstrip("=")
        return {
            "key": story.key,
            "fingerprint": f"SHA256:{digest}" if digest else None,
            "card": story.card,
            "suite": story.suite,
            "device": row.hex() if row else None,
            "standing": self._standing(row) if row else None,
            "doors": list(story.doors),
            "source": address_text(story.source) if story.source else None,
            "stated": story.stated,
            "sender": address_text(story.sender),
            "lease": story.lease or None,
            "era": story.era,
            "issued": story.issued / 10**9 if story.issued else None,
            "skew": None if story.skew is None else round(story.skew, 3),
        }
