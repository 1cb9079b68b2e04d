"""What the gate needs of the world, as Protocols: adapters satisfy them, the daemon drives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from knockgate.model import Lease, Port, Source

__all__ = ["Firewall"]


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

        Those given by hand (``by`` is ``hand``) are kept apart: a knock never shortens them.
        """

    def close(self, ports: Sequence[Port], sources: Iterable[Source]) -> int:
        """End these leases, whoever gave them; returns how many there were."""

    def leases(self) -> list[Lease]:
        """All live leases, in no order."""
