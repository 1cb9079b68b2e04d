"""Bytes both ways between two files, standard input and output, and a connection: what a ProxyCommand does.

Each way has a thread that waits in the kernel, so a slow reader holds up whoever writes to it and
nothing else. No file is made non-blocking for it: that flag belongs to the open file, which a terminal
or a pipe shares with whoever started us, and it would stay there when we are gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

__all__ = ["carry"]

_AT_ONCE = 256 * 1024
"""Octets. A pipe holds 64 KiB unless somebody made it larger, a connection's buffers megabytes."""


def carry(connection: socket.socket, *, source: int = 0, sink: int = 1) -> None:
    """Carry what ``source`` says to the peer, and what the peer says to ``sink``, until the peer ends.

    The end of ``source`` is told to the peer, which may go on. Where ``sink`` has no reader any more
    that is an end as well: at once if there is something for it, and else when ``source`` has ended.
    Raises OSError for a connection that breaks. Leaves all three open.
    """
    connection.settimeout(None)
    # As ssh sets them for a connection of its own: a key press leaves at once, and a dead peer is noticed.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A daemon: it may wait for somebody to type when the peer is gone already.
    threading.Thread(target=_upload, args=(source, connection, sink), daemon=True).start()
    _download(connection, sink)


def _upload(source: int, connection: socket.socket, sink: int) -> None:
    # An error here, the other thread will hear of from the connection, or it is an end of the source.
    with contextlib.suppress(OSError):
        while octets := _read(source):
            connection.sendall(octets)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        _until_abandoned(sink)
        connection.shutdown(socket.SHUT_RD)  # ends the other thread's wait


def _download(connection: socket.socket, sink: int) -> None:
    buffer = memoryview(bytearray(_AT_ONCE))
    while count := connection.recv_into(buffer):
        try:
            _write(sink, buffer[:count])
        except OSError:  # nobody reads it
            return


def _read(file: int) -> bytes:
    while True:
        try:
            return os.read(file, _AT_ONCE)
        except BlockingIOError:  # somebody else has made it so
            _until(file, select.POLLIN)


def _write(file: int, octets: memoryview) -> None:
    while octets:
        try:
            octets = octets[os.write(file, octets) :]
        except BlockingIOError:
            _until(file, select.POLLOUT)


def _until_abandoned(file: int) -> None:
    """Wait until nobody can read what is written there; for a plain file that is never."""
    _until(file, 0)  # such an error is told unasked


def _until(file: int, event: int) -> None:
    poll = select.poll()
    poll.register(file, event)
    poll.poll()
