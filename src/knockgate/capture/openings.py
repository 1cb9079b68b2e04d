"""Hearing all that opens connections, where most of it is to ports that nobody waits for.

Whoever follows sequences must hear every opening, since any resets: so port scans and floods of SYNs to
whatever port come here. Those change nothing but the sequence that their sender has under way. They are told
by the batch, in the memory in which the kernel put them, and while no sequence is under way no packet is made
of them.

And they are not worth waking up for. Where all that came was such, the next ones have ``REST`` seconds to
gather. A knock among them waits as long. It stays in its place, so nothing else about it changes.

Headers are what is wanted, so a frame is small; of a longer packet the end is zeros. No header of TCP or UDP
over IPv4 is longer than 120 octets. Over IPv6 there is room for 76 of extension headers, and who has more of
them is not heard.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet

from knockgate.capture.afpacket import deadline
from knockgate.capture.ring import PacketRing
from knockgate.model import Source
from knockgate.wire.bpf import Instruction
from knockgate.wire.strays import are_strays, from_sources

__all__ = ["REST", "Openings"]

#: Seconds for which packets gather after some that changed nothing.
REST = 0.01
#: Packets that are told at once, and so many times in a row.
_BATCH, _TIMES = 256, 64


class Openings(PacketRing):
    """``hear`` waits by itself; for waiting beside other things: ``take_some``, ``next_wakeup``, ``tick``."""

    _frame, _whole = 256, False

    def __init__(self, program: Sequence[Instruction], interface: str = "", *, frames: int = 4096) -> None:
        """As ``Capture``. ``frames``: so many packets wait at most, for each socket, in 256 bytes each."""
        self._may_rest = False  # nothing is there any more, and what came last was strays
        self._rests_until: float | None = None
        super().__init__(program, interface, frames=frames)

    def hear(
        self, timeout: float | None, ports: AbstractSet[int], sources: Collection[Source]
    ) -> list[bytes]:
        """The next packets, in order; none after ``timeout`` seconds, or when ``listening`` has changed.

        ``ports``: those that somebody waits for. Packets to other ones may be left out, if they do not come
        from one of ``sources``.
        """
        until = deadline(timeout)
        while True:
            was_listening = self.listening
            if self._may_rest:
                time.sleep(REST)
            if packets := self._look(ports, sources):
                return packets
            if self._may_rest:
                if until is not None and time.monotonic() >= until:
                    return []
            elif not self._await(until, was_listening=was_listening):
                return []

    def take_some(self, ports: AbstractSet[int], sources: Collection[Source]) -> list[bytes]:
        """As ``hear``, but for the waiting: none if there are none."""
        packets = self._look(ports, sources)
        if self._may_rest:
            self._listen_for(0)
            self._rests_until = time.monotonic() + REST
        elif not packets:
            # An interface may have gone, or come back.
            self._await(time.monotonic(), was_listening=self.listening)
        return packets

    def next_wakeup(self) -> float | None:
        """When to call ``tick`` at the latest, by the monotonic clock; None for never."""
        return self._rests_until

    def tick(self) -> None:
        """Where it is time, what has gathered is worth waking up for."""
        if self._rests_until is not None and time.monotonic() >= self._rests_until:
            self._rests_until = None
            self._listen_for(select.EPOLLIN)

    def _listen_for(self, what: int) -> None:
        """Errors are always told."""
        for descriptor in self._sockets:
            self._poll.modify(descriptor, what)

    def _look(self, ports: AbstractSet[int], sources: Collection[Source]) -> list[bytes]:
        self._may_rest = only_strays = False
        for _ in range(_TIMES):
            ring, count = self._next(_BATCH)
            if not count:
                self._may_rest = only_strays
                break
            with ring.heads(count) as heads:
                only_strays = are_strays(heads, ring.frame, ports)
            if only_strays and not sources:
                ring.leave(count)
                continue
            packets = ring.take(count)
            if only_strays:
                packets = from_sources(packets, sources)
            if packets:
                self._may_rest = only_strays and not self._next(1)[1]
                return packets
        return []
