"""Telling whoever started us that we are ready, and that we are still at it: sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time

from knockgate.errors import Unavailable

__all__ = ["Watchdog", "ready", "status"]


def ready(status: str) -> None:
    """Send ``READY=1`` and a line of status to $NOTIFY_SOCKET; do nothing where it is not set.

    Raises Unavailable where it cannot be reached: silence would make systemd wait, and then kill us.
    """
    try:
        _send(f"READY=1\nSTATUS={status}")
    except OSError as error:
        raise Unavailable(
            f"cannot reach the notification socket {_address()}: {error.strerror or error}",
            hint="unset NOTIFY_SOCKET when you start this by hand",
        ) from None


def status(text: str) -> None:
    """The line that `systemctl status` shows; where nobody is to be told, or can be, that is no matter."""
    with contextlib.suppress(OSError):
        _send(f"STATUS={' '.join(text.split())}")


class Watchdog:
    """Says again and again that we are not stuck, where systemd wants to hear it (WatchdogSec=).

    It is asked in each round of a loop that waits for other things, and says how long that may wait. What it
    says it with is open from the start: to be out of descriptors is no reason to be killed.
    """

    def __init__(self) -> None:
        """Reads $WATCHDOG_USEC and $WATCHDOG_PID, as sd_watchdog_enabled(3) does."""
        meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = os.environ.get("WATCHDOG_USEC", "")
        self._every = int(period) / 2_000_000 if meant and period.isdecimal() and int(period) else None
        self._due = 0.0
        self._socket: socket.socket | None = None
        if self._every is not None:
            with contextlib.suppress(OSError):  # then we are killed, and started again
                self._socket = _connected()

    def wait(self, timeout: float | None) -> float | None:
        """Seconds to wait, for who would wait ``timeout`` (None: for good). Says it where it is time."""
        if self._every is None:
            return timeout
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._every
            with contextlib.suppress(OSError):  # the same
                if self._socket:
                    self._socket.sendall(b"WATCHDOG=1")
        left = self._due - now
        return left if timeout is None else min(timeout, left)


def _address() -> str:
    return os.environ.get("NOTIFY_SOCKET", "")


def _send(message: str) -> None:
    """Raises OSError; does nothing where nobody wants to be told."""
    if _address():
        with _connected() as sock:
            sock.sendall(message.encode())


def _connected() -> socket.socket:
    """To whoever started us; raises OSError."""
    address = _address()
    # systemd writes an abstract address with @ in place of the leading zero byte (sd_notify(3)).
    path = "\0" + address[1:] if address.startswith("@") else address
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
