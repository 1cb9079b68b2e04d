"""Telling systemd that a service is ready: the one message of sd_notify(3) that this project needs."""

from __future__ import annotations

import os
import socket

from knockgate.errors import Unavailable

__all__ = ["ready"]


def ready(status: str = "") -> None:
    """Send ``READY=1`` to the socket named by $NOTIFY_SOCKET; do nothing where it is not set.

    ``status`` is one line that ``systemctl status`` then shows. Raises ``Unavailable`` when the variable
    names a socket that cannot be reached: silence would make systemd wait, then kill the service.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # systemd writes an abstract address with @ in place of the leading zero byte (sd_notify(3)).
    path = "\0" + address[1:] if address.startswith("@") else address
    message = "READY=1" + (f"\nSTATUS={status}" if status else "")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(path)
            sock.sendall(message.encode())
    except OSError as error:
        raise Unavailable(
            f"cannot reach the notification socket {address}: {error.strerror or error}",
            hint="unset NOTIFY_SOCKET when you start this by hand",
        ) from error
