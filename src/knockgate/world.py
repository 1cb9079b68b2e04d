"""What the gate needs of the world, as Protocols: adapters satisfy them, the daemon drives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from knockgate.model import Claim, Lease, Moment, Port, Source, Token

__all__ = ["Clock", "Firewall", "ReplayStore"]


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
        shortens them, nor does a packet.
        """

    def close(self, ports: Sequence[Port], sources: Iterable[Source]) -> int:
        """End these leases, whoever gave them; returns how many there were."""

    def leases(self) -> list[Lease]:
        """All live leases, in no order."""


class ReplayStore(Protocol):
    """The tokens that were claimed. Every verb raises Unavailable where the disk refuses.

    A token that freshness alone refuses is forgotten: one issued more than ``fresh`` seconds before a
    synchronised ``now``, and claimed longer ago than any step of the clock could make it fresh again.
    The newest ``issued`` among the forgotten is remembered, for a time without a clock.
    """

    def claim(self, token: Token, moment: Moment) -> Claim:
        """Spend the token, whatever comes of it; it is on the disk before this returns CLAIMED.

        FORGOTTEN is for an unsynchronised clock only: ``issued`` is not newer than what was forgotten.
        Never returns FAILED.
        """

    def settle(self, token: Token) -> None:
        """What was claimed has been answered: doors are open, or it was refused. Need not be on the disk."""

    def unsettled(self) -> list[Token]:
        """Claimed by an earlier life that ended before it answered; asking settles them."""

    def __len__(self) -> int:
        """Tokens remembered now."""


class Clock(Protocol):
    """Hands out the time, and whether to rely on it."""

    def read(self) -> Moment:
        """The time now."""
