from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from knockgate.effects import PacketSeen
from knockgate.mechanisms.automaton import NOWHERE, STAY, Automaton
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Observation, Port, Protocol

PORTS = [Port(Protocol.TCP, 1), Port(Protocol.UDP, 1), Port(Protocol.TCP, 2), Port(Protocol.TCP, 3)]
STRAY = Port(Protocol.TCP, 9)


def sequence(door: str, *numbers: int, within: float = 5.0) -> KnockSequence:
    return KnockSequence(door, tuple(Port(Protocol.TCP, number) for number in numbers), within)


def walk(automaton: Automaton, ports: Sequence[Port]) -> list[tuple[str, ...]]:
    """What opens at each packet of one source that never waits."""
    state, opened = NOWHERE, []
    for port in ports:
        then = automaton.move(state, port)
        opened.append(automaton.states[then].opens if then > 0 else ())
        state = state if then == STAY else then
    return opened


def track(sequences: Sequence[KnockSequence], ports: Sequence[Port]) -> list[tuple[str, ...]]:
    tracker = KnockTracker(sequences)
    answers = []
    for port in ports:
        flags = 2 if port.protocol is Protocol.TCP else 0
        seen = Observation(b"\0\0\0\1", b"\0\0\0\2", port.protocol, 40000, port.number, flags, 40)
        answers.append(tuple(each.door for each in tracker.feed(PacketSeen(seen), 0.0)))
    return answers


steps = st.lists(st.sampled_from(PORTS), min_size=1, max_size=5)


@given(
    st.lists(steps, min_size=1, max_size=4),
    st.lists(st.sampled_from([*PORTS, STRAY]), max_size=40),
)
def test_it_opens_what_the_tracker_opens(several: list[list[Port]], ports: list[Port]) -> None:
    """Whatever the sequences and the packets, save for the time: the tracker is the model."""
    sequences = [KnockSequence(str(number), tuple(each), 9.0) for number, each in enumerate(several)]
    if all(step.protocol is Protocol.TCP for each in several for step in each):
        # A tracker without a step of UDP does not listen for it, and so is not reset by it either.
        ports = [port for port in ports if port.protocol is Protocol.TCP]
    ours, theirs = walk(Automaton(sequences), ports), track(sequences, ports)
    event(f"opened: {sum(map(bool, theirs))}")
    assert [sorted(each) for each in ours] == [sorted(each) for each in theirs]


@pytest.mark.parametrize(
    "several",
    [
        [(1, 2, 2, 3)],
        [(1, 1, 2)],
        [(1, 2, 1, 3)],
        [(1, 2, 3), (1, 2, 4)],
        [(1, 2, 2, 3), (1, 2, 3)],
        [(2, 1), (1, 2, 3)],
    ],
    ids=str,
)
def test_of_any_six_packets_it_makes_what_the_tracker_makes(several: list[tuple[int, ...]]) -> None:
    """Steps that are repeated, and doors whose sequences part late, which chance seldom finds."""
    sequences = [sequence(str(number), *steps) for number, steps in enumerate(several)]
    automaton = Automaton(sequences)
    ports = sorted({step for each in sequences for step in each.steps})
    words = list(itertools.product(ports, repeat=6))
    opened = [walk(automaton, word) for word in words]
    assert opened == [track(sequences, word) for word in words]
    assert {door for word in opened for doors in word for door in doors} == {each.door for each in sequences}


def test_states_and_moves_of_two_doors_with_a_common_beginning() -> None:
    automaton = Automaton([sequence("ssh", 1, 2, 3), sequence("web", 1, 4)])
    assert [state.opens for state in automaton.states.values()] == [(), (), ("web",), ("ssh",)]
    named = {(state, port.number): then for (state, port), then in automaton.moves.items()}
    assert named == {(0, 1): 1, (1, 2): 2, (1, 4): 3, (2, 2): STAY, (2, 3): 4}


def test_a_state_waits_as_long_as_the_most_patient_of_its_sequences() -> None:
    automaton = Automaton([sequence("ssh", 1, 2, 3, within=5), sequence("web", 1, 4, within=2)])
    assert [state.within for state in automaton.states.values()] == [5, 5, 0, 0]
    alone = Automaton([sequence("web", 1, 4, within=2)])
    assert [state.within for state in alone.states.values()] == [2, 0]


def test_a_first_knock_repeated_begins_anew_and_any_other_stays() -> None:
    automaton = Automaton([sequence("ssh", 1, 2, 3)])
    assert automaton.move(1, Port(Protocol.TCP, 1)) == 1
    assert automaton.move(2, Port(Protocol.TCP, 2)) == STAY


def test_it_grows_with_the_steps_and_not_with_their_square() -> None:
    """A thousand doors: as many states as steps, and two moves a state at most."""
    many = [sequence(f"door{n}", 10 * n + 1, 10 * n + 2, 10 * n + 3) for n in range(1000)]
    automaton = Automaton(many)
    assert len(automaton.states) == 3000
    assert len(automaton.moves) <= 6000


def test_too_many_states_are_refused() -> None:
    doors = [sequence("ssh", 1, 2, 3)]
    assert len(Automaton(doors, limit=3).states) == 3
    with pytest.raises(ValueError, match="more than 2 states"):
        Automaton(doors, limit=2)
