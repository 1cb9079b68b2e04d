"""The tracker beside a slow, obvious model."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypothesis import event, given
from hypothesis import strategies as st
from tests.knockgate.mechanisms.knocks import DOOR, TCP, numbered, packet, tcp

from knockgate.effects import Tick
from knockgate.mechanisms.sequence import OPENINGS, Counted, KnockSequence, KnockTracker


@dataclass(frozen=True)
class Seen:
    source: int
    port: int
    time: float


def opens(sequence: KnockSequence, history: Sequence[Seen]) -> bool:
    """Does the last packet of this source's history open the door?

    It does if the last so-and-so many packets can be read as the steps, in order: each of them is the next
    step or an immediate repeat of the step just made, the first is the first step, the last is the last
    step, and less than the window lies between these two. All readings are tried.
    """
    ports = [step.number for step in sequence.steps]
    last = history[-1]
    for start, first in enumerate(history):
        if not last.time < first.time + sequence.within:
            continue
        for reading in itertools.product((True, False), repeat=len(history) - start):
            if reading[0] and reading[-1] and spells(ports, history[start:], reading):
                return True
    return False


def spells(ports: Sequence[int], packets: Iterable[Seen], is_step: Iterable[bool]) -> bool:
    made: list[int] = []
    for each, step in zip(packets, is_step, strict=True):
        if step:
            made.append(each.port)
        elif each.port != made[-1]:
            return False
    return made == list(ports)


# Few ports, few times, short sequences: so that everything happens.
STEPS = st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4)
SEQUENCES = st.lists(st.tuples(STEPS, st.sampled_from([1, 2, 3.5])), min_size=1, max_size=3).map(
    lambda drawn: [
        KnockSequence(f"door {number}", tcp(*steps), within) for number, (steps, within) in enumerate(drawn)
    ]
)


def in_time(drawn: Iterable[tuple[int, int, float]]) -> list[Seen]:
    """Packets out of sources, ports and the times that pass before them."""
    packets, time = [], 0.3
    for source, port, wait in drawn:
        time += wait
        packets.append(Seen(source, port, time))
    return packets


PACKETS = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 3, 4]), st.sampled_from([0, 0, 0.1, 0.5, 1, 2])),
    max_size=16,
).map(in_time)


def fed(tracker: KnockTracker, seen: Seen) -> list[str]:
    effects = tracker.feed(packet(seen.port, numbered(seen.source)), seen.time)
    assert all(effect.source == numbered(seen.source) for effect in effects)
    return sorted(effect.door for effect in effects)


@given(SEQUENCES, PACKETS)
def test_does_what_the_theory_says(sequences: list[KnockSequence], packets: list[Seen]) -> None:
    """The tracker opens what the model opens, packet for packet, and nothing else."""
    tracker = KnockTracker(sequences)
    for number, seen in enumerate(packets):
        history = [each for each in packets[: number + 1] if each.source == seen.source][-10:]
        expected = sorted(sequence.door for sequence in sequences if opens(sequence, history))
        event(f"opened {len(expected)}")
        assert fed(tracker, seen) == expected


@given(SEQUENCES, PACKETS)
def test_what_does_not_concern_it_changes_nothing(
    sequences: list[KnockSequence], packets: list[Seen]
) -> None:
    """Leaving out every packet that concerns() says no to opens the same doors at the same packets."""
    whole, sparing = KnockTracker(sequences), KnockTracker(sequences)
    for seen in packets:
        concerned = sparing.concerns(TCP, numbered(seen.source), seen.port)
        event(f"concerned: {concerned}")
        assert fed(whole, seen) == (fed(sparing, seen) if concerned else [])


COUNTS = st.sampled_from([OPENINGS, Counted(datagrams=False), Counted(mask=0x3F, value=0x3F)])


@given(SEQUENCES, PACKETS, COUNTS, st.sampled_from([0x02, 0x3F]), st.integers(1, 4))
def test_what_has_begun_was_fed(
    sequences: list[KnockSequence], packets: list[Seen], counted: Counted, flags: int, limit: int
) -> None:
    """Where begin() takes a packet, the long way would open nothing; and all is as if it had been taken."""
    long, short = (KnockTracker(sequences, limit=limit, counted=counted) for _ in range(2))
    long._begins.clear()
    for seen in packets:
        each = packet(seen.port, numbered(seen.source), flags=flags)
        begun = short.begin(each.observation, seen.time)
        event(f"begun: {begun}")
        assert not long.begin(each.observation, seen.time)
        effects = long.feed(each, seen.time)
        assert effects == (() if begun else short.feed(each, seen.time))
        assert short.tally == long.tally
        assert (len(short), short.next_wakeup()) == (len(long), long.next_wakeup())


@st.composite
def nearly_knocking(draw: st.DrawFn) -> tuple[KnockSequence, list[Seen]]:
    """A sequence, and packets that are mostly its steps in order."""
    steps = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=2, max_size=5))
    drawn, following = [], 0
    for _ in range(draw(st.integers(2, 10))):
        port = draw(st.sampled_from([steps[following], steps[following], steps[following - 1], 4]))
        following = (following + (port == steps[following])) % len(steps)
        drawn.append((1, port, draw(st.sampled_from([0, 0.1, 0.5, 1]))))
    return KnockSequence(DOOR, tcp(*steps), draw(st.sampled_from([1, 1.5, 4]))), in_time(drawn)


@given(nearly_knocking())
def test_does_what_the_theory_says_of_near_knocks(case: tuple[KnockSequence, list[Seen]]) -> None:
    """The same for packets that nearly spell the sequence, with repeats, strays and too much time."""
    sequence, packets = case
    tracker = KnockTracker([sequence])
    for number, seen in enumerate(packets):
        expected = [DOOR] if opens(sequence, packets[: number + 1]) else []
        event(f"opened {bool(expected)}")
        assert fed(tracker, seen) == expected


# Sequences of two ports and mostly these ports, from more sources than are remembered.
SHORT = st.lists(st.sampled_from([[1, 2], [1, 3], [2, 1]]), min_size=1, max_size=2, unique_by=tuple).map(
    lambda drawn: [KnockSequence(f"door {number}", tcp(*steps), 3) for number, steps in enumerate(drawn)]
)
CROWD = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([1, 1, 2, 2, 3]), st.just(0.1)), max_size=20)


@given(SHORT, CROWD, st.integers(1, 3))
def test_little_memory_only_forgets(
    sequences: list[KnockSequence], drawn: list[tuple[int, int, float]], limit: int
) -> None:
    """A tracker remembers no more than its limit, and with little memory opens no more than with plenty."""
    little, plenty = KnockTracker(sequences, limit=limit), KnockTracker(sequences)
    for seen in in_time(drawn):
        some, whole = fed(little, seen), fed(plenty, seen)
        event(f"opened {bool(whole)}, with little memory {bool(some)}")
        assert set(some) <= set(whole)
        assert some == whole or little.tally.forgotten
        assert len(little) <= min(limit, len(plenty))


@given(SEQUENCES, PACKETS)
def test_wakeups_come_to_an_end(sequences: list[KnockSequence], packets: list[Seen]) -> None:
    """Whoever sleeps until next_wakeup() and ticks forgets a source each time, until none is left."""
    tracker = KnockTracker(sequences)
    for seen in packets:
        fed(tracker, seen)
    while (wakeup := tracker.next_wakeup()) is not None:
        before = len(tracker)
        tracker.feed(Tick(), wakeup)
        assert len(tracker) < before
