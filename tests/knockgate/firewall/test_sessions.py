"""Which packets belong to a session; ``simulate/test_beside_the_kernel`` has what the kernel says."""

from __future__ import annotations

from tests.packets import ACK, FIN, RST, SYN, raw

from knockgate.firewall.sessions import Sessions
from knockgate.model import Observation

THERE, HERE = (raw("10.0.0.2"), 40000), (raw("10.0.0.1"), 22)
Ends = tuple[bytes, int]


class Talk:
    """Two who talk, over UDP if there are no flags."""

    def __init__(self, limit: int = 9) -> None:
        self.now = 0.0
        self.sessions = Sessions(lambda: self.now, limit=limit)

    def packet(self, source: Ends, to: Ends, flags: int = 0) -> Observation:
        return Observation(source[0], to[0], 6 if flags else 17, source[1], to[1], flags, 28)

    def asked(self, flags: int = 0, *, let_in: bool = True) -> bool:
        """Whether it belonged to a session under way when it came."""
        seen = self.packet(THERE, HERE, flags)
        under_way = self.sessions.under_way(seen)
        self.sessions.note(seen, let_in=let_in)
        return under_way

    def answered(self, flags: int = 0) -> bool:
        seen = self.packet(HERE, THERE, flags)
        under_way = self.sessions.under_way(seen)
        self.sessions.note(seen, let_in=True)
        return under_way


def test_a_session_is_under_way_once_it_is_answered() -> None:
    talk = Talk()
    assert [talk.asked(), talk.asked(), talk.answered(), talk.asked()] == [False, False, True, True]


def test_what_was_not_let_in_is_no_session() -> None:
    talk = Talk()
    assert [talk.asked(let_in=False), talk.answered(), talk.asked(let_in=False)] == [False] * 3
    assert [talk.asked(let_in=True), talk.asked()] == [False, True]


def test_datagrams_are_forgotten() -> None:
    """After 30 seconds without an answer, after 120 with one."""
    talk = Talk()
    talk.asked()
    talk.now = 29.9
    assert talk.answered()
    talk.now = 149.8
    assert talk.asked()
    talk.now = 269.9
    assert not talk.asked()
    talk.now = 300
    assert not talk.answered()


def test_after_an_end_a_syn_begins_anew() -> None:
    for end in (RST | ACK, FIN | ACK):
        talk = Talk()
        assert not talk.asked(SYN)
        assert talk.answered(SYN | ACK) and talk.asked(ACK)
        assert not talk.asked(SYN)  # no lone SYN is let in for its session, see ruleset
        assert talk.answered(end)
        assert talk.asked(ACK) and not talk.asked(SYN)
        assert not talk.asked(ACK)  # the new one is not answered


def test_memory_is_bounded() -> None:
    """Who was silent for the longest time is forgotten first."""
    talk = Talk(limit=2)
    first, second, third = ((raw(f"10.0.1.{number}"), 40000) for number in range(3))
    for source in (first, second, first, third):
        talk.sessions.note(talk.packet(source, HERE), let_in=True)
    known = [talk.sessions.knows(talk.packet(source, HERE)) for source in (first, second, third)]
    assert known == [True, False, True]


def test_one_that_was_there_before() -> None:
    talk = Talk()
    talk.sessions.adopt(talk.packet(THERE, HERE, ACK))
    assert talk.asked(ACK) and talk.answered(ACK)
