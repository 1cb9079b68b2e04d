"""Two rings, one for packets from known networks and one for all others, of which each gets its turns.

Who floods a gate with junk that looks genuine makes it compute an HMAC for each key and packet. With a
hundred keys that is more than any core can do, and then only as many genuine packets get through as junk
does, some in a hundred. No limit helps, since junk comes from any address and looks like a knock: what is
genuine is known only after all the work. Where it comes from is known before. From networks out of which
doors were opened comes nearly nothing of a flood with forged senders, so what does come is looked at first.

It is no more than that. Who knocks from a new network during a flood still has the odds of the junk, and who
knows from where somebody knocks can forge that too: then it is the known networks that are crowded, and the
others get half of the turns.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence

from knockgate.capture.ring import PacketRing

__all__ = ["KnownFirst"]


class KnownFirst:
    """``known`` and ``others`` must hear nothing in common, and be on the same interface."""

    def __init__(self, known: PacketRing, others: PacketRing, *, turn: int) -> None:
        """``turn``: packets that are taken from one ring before the other one has its turn."""
        self._most = turn
        self._poll = select.epoll()
        self._received = self._dropped = 0  # by rings that are closed
        self._known = self._turn = known
        self._others = others
        for ring in (known, others):
            self._poll.register(ring, select.EPOLLIN)

    @property
    def listening(self) -> bool:
        """False while the one interface listened on is down or gone."""
        return self._known.listening and self._others.listening

    def fileno(self) -> int:
        """Readable when ``take`` would have something, or ``listening`` may have changed."""
        return self._poll.fileno()

    def take(self) -> Sequence[bytes]:
        """The next packets, none if there are none; it does not wait."""
        packets = self._take_turn() or self._take_turn()
        if packets:
            return packets
        # Nothing is there; an interface may have gone, or come back.
        return [packet for ring in (self._known, self._others) if (packet := ring.receive(0)) is not None]

    def _take_turn(self) -> Sequence[bytes]:
        ring = self._turn
        self._turn = self._others if ring is self._known else self._known
        return ring.take(self._most)

    def replace(self, known: PacketRing, others: PacketRing) -> Sequence[bytes]:
        """Hear with these from now on, which must be open; returns what the old ones had left.

        In between both pairs hear. What both have heard is given out once: the new rings are emptied here,
        and what is in them that was in the old ones is left out.
        """
        old = self._known, self._others
        left = [packet for ring in old for packet in _emptied(ring)]
        for ring in old:
            received, dropped = ring.drops()
            self._received += received
            self._dropped += dropped
            self._poll.unregister(ring)
            ring.close()
        self._known = self._turn = known
        self._others = others
        for ring in (known, others):
            self._poll.register(ring, select.EPOLLIN)
        twice = set(left)
        came = (packet for ring in (known, others) for packet in _emptied(ring))
        return [*left, *(packet for packet in came if packet not in twice)]

    def drops(self) -> tuple[int, int]:
        """Packets that passed the filters, and how many of them there was no room for, so far."""
        received, dropped = zip(self._known.drops(), self._others.drops(), strict=True)
        return self._received + sum(received), self._dropped + sum(dropped)

    def close(self) -> None:
        """Stop listening."""
        self._known.close()
        self._others.close()
        self._poll.close()


def _emptied(ring: PacketRing) -> Iterable[bytes]:
    """What was in it when this began, at least; more comes as long as somebody floods."""
    left = ring.room
    while left > 0 and (packets := ring.take(ring.room)):
        left -= len(packets)
        yield from packets
