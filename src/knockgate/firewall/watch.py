"""Noticing that the table was taken away, for those who do not own it.

The kernel tells every change of the rules to whoever listens (nf_tables, group 7), with the port id of
who made it, and the end of each transaction with the process. Messages are lost when we are too slow
(ENOBUFS): then one has to look.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from knockgate.errors import Unavailable
from knockgate.firewall.channel import NETLINK_NETFILTER
from knockgate.firewall.netlink import INET, Message, Verb, messages
from knockgate.firewall.nfmessages import process_of, table_of

__all__ = ["Removal", "Watch"]

_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 270, 1, 7
_RECEIVE = 1 << 16


class Removal(NamedTuple):
    """The table was removed; ``by`` says whose doing it was, such as ``nft, process 4711``, if known."""

    by: str


class Watch:
    """Listens from its making on. Wait until ``fileno()`` is readable, then ask. A context manager."""

    def __init__(self, table: str, is_there: Callable[[], bool], ours: int) -> None:
        """``is_there`` looks for ``table``; what the socket of the port id ``ours`` does is no news."""
        self._table, self._is_there, self._ours = table, is_there, ours
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._socket.settimeout(0)
        try:
            self._socket.bind((0, 0))  # the kernel tells nothing to a socket without a port id
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"cannot listen for changes of the rules: {error.strerror}") from error

    def fileno(self) -> int:
        """For poll; readable after every change of any rules."""
        return self._socket.fileno()

    def removal(self) -> Removal | None:
        """Whether the table was removed since the last time, even if it is back. Never waits.

        When it was told of so much that the kernel lost some, it looks itself.
        """
        portid, by = 0, ""
        missed = False
        while True:
            try:
                datagram = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                missed = True
                continue
            for message in messages(datagram):
                if self._is_removal(message):
                    portid, by = message.portid, f"port id {message.portid}"
                elif message.verb == Verb.NEW_GENERATION and portid and message.portid == portid:
                    by = process_of(message)
        if portid:
            return Removal(by)
        if missed and not self._is_there():
            return Removal("somebody")
        return None

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_removal(self, message: Message) -> bool:
        return (
            message.verb == Verb.DELETE_TABLE
            and message.portid != self._ours
            and message.family == INET
            and table_of(message).name == self._table
        )
