"""``knockgate run``: the halves of the gate as processes of their own, where no systemd starts them."""

from __future__ import annotations

from knockgate.daemon.origin import Origin

__all__ = ["supervise"]


def supervise(origin: Origin, *, own: bool = True) -> int:
    """Run the gate until SIGTERM or SIGINT; returns the exit status (0, or 1 where a half keeps dying).

    SIGHUP reloads. With ``own`` the table is the warden's alone where the kernel can do that, else it
    watches it. Raises ConfigError for a configuration that is wrong, and Unavailable where the gate cannot
    start: another one runs, or a right is missing. What it has to say it says on stderr, a line each.
    The table stays when it ends.
    """
    raise NotImplementedError
