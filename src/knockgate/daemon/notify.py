"""Telling whoever started us that we are ready: the one message of sd_notify(3) that the gate needs."""

from __future__ import annotations

import os
import socket

from knockgate.errors import Unavailable

__all__ = ["ready"]


def ready(status: str) -> None:
    """Send ``READY=1`` and a line of status to $NOTIFY_SOCKET; do nothing where it is not set.

    Raises Unavailable where it cannot be reached: silence would make systemd wait, and then kill us.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # systemd writes an abstract address with @ in place of the leading zero byte (sd_notify(3)).
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(path)
            sock.sendall(f"READY=1\nSTATUS={status}".encode())
    except OSError as error:
        raise Unavailable(
            f"cannot reach the notification socket {address}: {error.strerror or error}",
            hint="unset NOTIFY_SOCKET when you start this by hand",
        ) from None
