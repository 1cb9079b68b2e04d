"""Sealed knocks in any course of things."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knockgate.mechanisms.sealed_gate import (
    BLIND,
    SURE,
    Gate,
    at,
    line,
    outcome,
    party,
)
from tests.knockgate.spa.sealed_messages import CARD, signed

from knockgate.spa.sealed import KeyKind, Suite, seal

ROOM, LEASES = 3, 3

_knocks = st.tuples(
    st.just("knock"),
    st.sampled_from(KeyKind),
    st.integers(1, ROOM + 2),  # devices
    st.integers(0, 8),  # steps of 20 s
    st.integers(0, 2),  # eras
)
_events = st.one_of(
    _knocks,
    _knocks,
    st.tuples(st.just("again"), st.integers(0, 50)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1, 31, 61, 700])),
    st.tuples(st.just("step"), st.sampled_from([-3600, -61, 30, 61, 3600])),
    st.tuples(st.just("clock"), st.sampled_from([SURE, BLIND])),
    st.tuples(st.just("start")),
    st.tuples(st.just("fails"), st.booleans()),
)


class Life:
    """A gate, and somebody on the way to it who keeps all that was ever sent."""

    def __init__(self) -> None:
        people = party(leases=LEASES)
        self.gate = Gate([line(kind=each, party=people) for each in KeyKind], devices=ROOM)
        self.sent: list[tuple[object, bytes]] = []
        self.opened: set[object] = set()

    def goes_on(self, word: str, *what: Any) -> None:  # noqa: ANN401 - as the word has it
        match word:
            case "knock":
                kind, device, step, era = what
                address = bytes([198, 51, 100, 1 + len(self.sent) % 200])
                message = signed(kind, era=era, address=address, **at(20 * step, device))
                self.sent.append((what, seal(message, CARD, Suite.X25519)))
                self.delivered(*self.sent[-1])
            case "again" if self.sent:
                self.delivered(*self.sent[what[0] % len(self.sent)])
            case "wait":
                self.gate.wait(*what)
            case "step":
                self.gate.now += what[0]
            case "clock":
                self.gate.clock = what[0]
            case "start":
                self.gate.start()
            case "fails":
                self.gate.fails = what[0]

    def delivered(self, name: object, payload: bytes) -> None:
        if outcome(self.gate.hear(payload)) is None:
            assert name not in self.opened
            self.opened.add(name)

    def is_bounded(self) -> bool:
        sealed, keys = self.gate.sealed, len(KeyKind)
        return (
            len(sealed._tags) <= 4
            and len(sealed._paces) <= keys
            and len(sealed._leases._until) <= keys
            and all(len(live) <= LEASES for live in sealed._leases._until.values())
            and len(self.gate.marks.devices()) <= keys * ROOM
        )


@settings(max_examples=settings().max_examples * 2)
@given(st.lists(_events, max_size=60))
def test_no_date_of_a_device_opens_twice(events: list[tuple[Any, ...]]) -> None:
    """Whatever is delivered and however often, whatever clocks do, also with starts in between.

    And what is kept does not grow with it.
    """
    life = Life()
    with mock.patch("knockgate.mechanisms.sealed._TAGS", 4):
        for event in events:
            life.goes_on(*event)
            assert life.is_bounded()


def test_some_of_it_opens() -> None:
    life = Life()
    for number in range(3):
        life.goes_on("knock", KeyKind.ED25519, 1, number, 0)
        life.goes_on("again", number)
    assert len(life.opened) == 3
