"""What the gate needs of the world, as Protocols: adapters satisfy them, the daemon drives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from knockgate.mechanisms.certainty import Floor, Span
from knockgate.mechanisms.marks import Verdict
from knockgate.model import Claim, Lease, Moment, Pause, Port, Shadow, Source, Token
from knockgate.spa.sealed.dates import Date

__all__ = ["Clock", "DeviceMark", "Firewall", "MarkStore", "ReplayStore"]


class Firewall(Protocol):
    """The table that guards the doors. Every verb is one transaction: all of it or nothing.

    Raises Unavailable, with a hint, where the kernel refuses.
    """

    def load(self, ruleset: str) -> None:
        """Put a rule set in force (text of ``firewall.ruleset``); live leases stay."""

    def unload(self) -> None:
        """Take the table away; nothing is guarded any more. Without a table it does nothing."""

    def is_loaded(self) -> bool:
        """Whether the table is there."""

    def open(self, ports: Sequence[Port], source: Source, seconds: float, by: str) -> None:
        """Begin or renew the leases of ``source`` for ``ports``: they end ``seconds`` from now.

        Those given by hand or to a packet (``by`` is ``hand`` or ``packet``) are kept apart: a knock never
        shortens them, nor does a packet. A network (8 bytes) is let in only so, and never knocked for.
        """

    def close(self, ports: Sequence[Port], sources: Iterable[Source]) -> int:
        """End these leases, whoever gave them; returns how many there were.

        An address's lease and that of its network are two: to end the one leaves the other.
        """

    def leases(self) -> list[Lease]:
        """All live leases, in no order."""

    def pause(self, ports: Sequence[Port], seconds: float) -> None:
        """Let everybody in at ``ports`` until ``seconds`` from now, whatever was said before; 0: no more."""

    def pauses(self) -> list[Pause]:
        """All ports that let everybody in for a time, in no order."""

    def shadow(self) -> Shadow:
        """What came to the ports that are in shadow, and would have been kept out or let in."""


class ReplayStore(Protocol):
    """The tokens that were claimed. Every verb raises Unavailable where the disk refuses.

    A token that freshness alone refuses is forgotten, once no step of the clock can make it fresh again for
    an honest client. Of those that are forgotten a mark remains: for each hour the newest ``issued``. So
    none is ever claimed twice, whatever the clock does.
    """

    @property
    def limit(self) -> int:
        """How many tokens can be remembered."""

    def claim(self, token: Token, moment: Moment) -> Claim:
        """Spend the token, whatever comes of it; it is on the disk before this returns CLAIMED.

        FORGOTTEN: it may have been claimed and forgotten, so it is refused. Without a clock that is also
        whatever is not newer than ``low``. Never returns FAILED.
        """

    def settle(self, token: Token) -> None:
        """What was claimed has been answered: doors are open, or it was refused. Need not be on the disk.

        Nobody waits for it, so it is here that what is old is forgotten. Each claim is to be settled.
        """

    def unsettled(self) -> Iterator[Token]:
        """Claimed by an earlier life that ended before it answered.

        Each is settled when the next one is asked for: who ends before it has told of one tells it again.
        """

    def low(self) -> int | None:
        """Without a clock nothing is taken that was issued until then (seconds since 1970); None: all is."""

    def __len__(self) -> int:
        """Tokens remembered now."""


class DeviceMark(NamedTuple):
    """What a store of marks has of one device of one SSH key."""

    key: bytes  #: the key's fingerprint: 32 bytes
    row: bytes  #: what stands for the device in there: 16 bytes
    mark: Date  #: the newest that was taken of it


class MarkStore(Protocol):
    """The marks of sealed knocks (``mechanisms.marks``).

    Every verb raises Unavailable where the disk refuses.
    """

    def claim(
        self,
        key: bytes,
        device: bytes,
        date: Date,
        taken: Span,
        floor: Floor | None,
        *,
        may_spend: bool = True,
    ) -> Verdict:
        """What becomes of an authentic knock. ``Spend``: that is on the disk; ``TurnAway``: nothing is.

        ``key`` is the fingerprint (32 bytes), ``device`` what is in the knock (16), ``taken`` what the clock
        lets through now. ``floor`` is kept along with what is spent; None: the one before stays. Without
        ``may_spend`` nothing is spent: its key knocks too often.
        """

    def row(self, device: bytes) -> bytes:
        """What stands for a device in the store, and in the admin's file: 16 bytes."""

    def floor(self) -> Floor | None:
        """The last time that the gate was sure of."""

    def keep_floor(self, floor: Floor | None) -> None:
        """The same in place of the one before; None: there is to be none."""

    def devices(self) -> list[DeviceMark]:
        """All of all keys, sorted."""

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """The next keys that something is remembered of, in order; ``b""`` comes before the first."""

    def forget(self, keys: Iterable[bytes], before: int) -> None:
        """Of keys that nobody has any more, all that was issued before then; it is gone from the disk.

        What was forgotten is refused all the same, if one of them comes back: of whichever key, a device
        without a mark must be newer. ``before`` is to be older than what an honest client may send.
        """

    def close(self) -> None:
        """Let go of it."""


class Clock(Protocol):
    """Hands out the time, and whether to rely on it. It sets no clock."""

    def read(self) -> Moment:
        """The time now."""
