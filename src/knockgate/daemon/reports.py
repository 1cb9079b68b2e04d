"""What the kernel tells of its doors: who opened one, and which bound was met.

The warden hands the socket out, since to bind it takes a right. What is in it was written by strangers, so it
is read here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable

from knockgate.config.doors import Door
from knockgate.daemon import nflog
from knockgate.errors import Refused
from knockgate.firewall.names import BOUNDS, OPENED
from knockgate.model import Port, Source

__all__ = ["Reports"]

#: Datagrams in a row, before the other things that wait have a turn.
_BATCH = 256


class Reports:
    """Takes them, in the order in which they came."""

    def __init__(
        self,
        reports: socket.socket,
        doors: Iterable[Door],
        opened: Callable[[Door | None, Source | None], None],
        met: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        """``opened``: who was let in, None for what the kernel did not tell. ``met``: one of ``BOUNDS``.

        ``lost``: there were more than the socket had room for.
        """
        self._socket = reports
        self._opened, self._met, self._lost = opened, met, lost
        # Whose port it is, and whether it is the first of that door's.
        self._owners = {port: (door, port == door.ports[0]) for door in doors for port in door.ports}

    def fileno(self) -> int:
        """Readable when there are some."""
        return self._socket.fileno()

    def hear(self) -> None:
        """Those that are there, or as many as are good for one time."""
        for _ in range(_BATCH):
            try:
                datagram = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost()
                continue
            for report in nflog.reports(datagram):
                self._note(report)

    def _note(self, report: nflog.Report) -> None:
        if report.prefix in OPENED:
            source, number = None, None
            with contextlib.suppress(Refused):
                source, number = nflog.ends(report.packet)
            port = Port(OPENED[report.prefix], number) if number else None
            door, is_first = self._owners.get(port, (None, True)) if port else (None, True)
            if is_first:  # a door's other ports were opened by the same knock
                self._opened(door, source)
        elif bound := BOUNDS.get(report.prefix):
            self._met(bound)
