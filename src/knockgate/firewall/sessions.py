"""What connection tracking would know, as far as a guard asks: is this packet part of a session under way?

A session is under way once its first packet was let in and the other side has answered. A FIN or RST
ends it in so far as the next SYN between the same ports begins another one. Everything else that the
kernel tracks (windows, helpers, related packets) is left out.

Sources: nf_conntrack_proto_tcp.c and nf_conntrack_proto_udp.c of Linux 6.18; the times are the defaults
of nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from knockgate.model import Observation, TcpFlag

__all__ = ["Sessions"]

_UDP = 17
_UNANSWERED, _ANSWERED = 30.0, 120.0  # seconds after which the kernel forgets a UDP session
_ENDS = TcpFlag.FIN | TcpFlag.RST

Ends = tuple[int, bytes, int, bytes, int]  # protocol, source and its port, destination and its port


@dataclass(slots=True)
class _Session:
    seen: float  # time of the last packet
    let_in: bool
    answered: bool = False
    ending: bool = False


class Sessions:
    """Bounded memory of who talks to whom; ``now`` tells seconds, never backwards."""

    def __init__(self, now: Callable[[], float], *, limit: int = 65536) -> None:
        """``limit``: sessions remembered; the one that was silent for the longest time goes first."""
        self._now = now
        self._limit = limit
        self._sessions: OrderedDict[Ends, _Session] = OrderedDict()

    def knows(self, seen: Observation) -> bool:
        """Whether an earlier packet went the same way."""
        return self._live(_ends(seen), seen) is not None

    def answers(self, seen: Observation) -> bool:
        """Whether an earlier packet, let in or not, went the other way, which this one answers."""
        return self._live(_turned(seen), seen) is not None

    def under_way(self, seen: Observation) -> bool:
        """Whether a packet is let in for its session: ``ct state established``, and no lone SYN."""
        if seen.protocol != _UDP and seen.opens_connection:
            return False
        answered = self._live(_turned(seen), seen)
        if answered:
            return answered.let_in
        session = self._live(_ends(seen), seen)
        return bool(session and session.let_in and session.answered)

    def adopt(self, seen: Observation) -> None:
        """Take a packet for one of a session that was under way before anybody looked."""
        self.note(seen, let_in=True)
        self._sessions[_ends(seen)].answered = True

    def note(self, seen: Observation, *, let_in: bool) -> None:
        """Remember a packet that was let in, or was not."""
        for ends, answers in ((_turned(seen), True), (_ends(seen), False)):
            if session := self._live(ends, seen):
                session.answered |= answers
                session.let_in |= let_in and not answers
                break
        else:
            ends = _ends(seen)
            session = self._sessions[ends] = _Session(self._now(), let_in)
        session.seen = self._now()
        session.ending |= bool(seen.protocol != _UDP and seen.flags & _ENDS)
        self._sessions.move_to_end(ends)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def _live(self, ends: Ends, seen: Observation) -> _Session | None:
        session = self._sessions.get(ends)
        if session is None:
            return None
        if seen.protocol == _UDP:
            over = self._now() >= session.seen + (_ANSWERED if session.answered else _UNANSWERED)
        else:
            over = session.ending and seen.opens_connection
        return None if over else session


def _ends(seen: Observation) -> Ends:
    return seen.protocol, seen.source, seen.source_port, seen.destination, seen.port


def _turned(seen: Observation) -> Ends:
    return seen.protocol, seen.destination, seen.port, seen.source, seen.source_port
