"""A socket to nf_tables: questions and batches go out, answers come back, failures become OSError.

The kernel does all its work while it takes a datagram, and has answered when ``send`` returns. So
nothing here ever waits: a receive queue that is empty has told everything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from knockgate.firewall.netlink import INET, Message, Request, Verb, batch, failure_of, message, messages

__all__ = ["NETLINK_NETFILTER", "Channel"]

NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE = 32
_RECEIVE = 1 << 16
#: A larger datagram needs a larger send buffer; the system's default is 208 KiB.
_LARGE = 1 << 17
#: A listing that is disturbed by changes is begun again so many times.
_TRIES = 20
#: Answered with how often the rules have been changed (and with who asks).
_GENERATION = Request(Verb.GET_GENERATION, 0, b"")

Messages = list[Message]


class Channel:
    """Speaks over a socket of NETLINK_NETFILTER, which it closes in the end.

    The socket may be a duplicate of one that somebody else uses as well, as long as both take turns:
    it is never made blocking, and never left with an answer in it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        if not self.portid:
            sock.bind((0, 0))  # the kernel picks a port id, as it would with the first message

    @property
    def portid(self) -> int:
        """The address of the socket, by which the kernel knows who owns a table."""
        return int(self._socket.getsockname()[0])

    def change(self, requests: Sequence[Request]) -> None:
        """Make all changes, or none and raise OSError with the reason for the first that failed."""
        self._exchange(batch(requests))

    def ask(self, request: Request) -> Message:
        """The kernel's answer to a single question; OSError (ENOENT) where there is nothing of it."""
        (answer,) = self._exchange(message(request))
        return answer

    def list(self, request: Request, family: int = INET) -> list[Message]:
        """The parts of a listing. OSError where what is to be listed is not there.

        It is begun anew if somebody changes the rules meanwhile: the kernel counts what it has told, and
        would leave things out. (It has a flag to say so, but not for elements of sets.) What packets add,
        or time takes away, in that moment may be missing or come twice all the same.
        """
        for _ in range(_TRIES):
            before = self.ask(_GENERATION).body
            answers = self._exchange(message(request, family))
            if self.ask(_GENERATION).body == before:
                return [answer for answer in answers if answer.verb != Verb.DONE]
        raise OSError(errno.EINTR, "the rules change faster than they can be listed")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _exchange(self, datagram: bytes) -> Messages:
        """Send; returns all answers, or raises what failed first."""
        if len(datagram) > _LARGE:
            with contextlib.suppress(PermissionError):  # in a user namespace the default has to do
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(datagram))
        try:
            self._received()  # what libnftables left when it failed
        except OSError:
            self._received()  # an overrun of the queue is told once, before what is in the queue
        self._socket.send(datagram)
        answers = self._received()
        for answer in answers:
            number, said = failure_of(answer)
            if number:
                raise OSError(number, said or os.strerror(number))
        return answers

    def _received(self) -> Messages:
        """All that is there."""
        found: Messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.extend(messages(self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)))
        return found
