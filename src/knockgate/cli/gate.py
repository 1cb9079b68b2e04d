"""The gate of this host as commands find it: the daemon where one runs, else the kernel's table itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from knockgate.config.doors import Configuration
from knockgate.daemon.control import WardenClient
from knockgate.errors import Unavailable

if TYPE_CHECKING:
    from knockgate.firewall.nftables import Nftables

__all__ = ["loaded", "warden"]


@contextlib.contextmanager
def warden(found: Configuration) -> Iterator[WardenClient | None]:
    """The running daemon's privileged half, or None."""
    try:
        client = WardenClient(found.gate.run_directory)
    except Unavailable:
        # Also where we may not ask: then we may not touch the table either, and the kernel says so.
        yield None
        return
    with client:
        yield client


@contextlib.contextmanager
def loaded() -> Iterator[Nftables]:
    """The table, to be looked at or to have its leases changed; raises Unavailable where there is none."""
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    with Nftables(own=False) as firewall:
        if not firewall.is_loaded():
            raise Unavailable("the table is not loaded: nothing is guarded", hint="knockgate up")
        yield firewall
