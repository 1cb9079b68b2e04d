from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from tests.knockgate.mechanisms.knocks import (
    CLIENT,
    CLIENT6,
    DOOR,
    LETTERS,
    OTHER,
    TCP,
    UDP,
    knock,
    numbered,
    opened,
    packet,
    tcp,
)

from knockgate.effects import OpenDoor, Tick
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Port, TcpFlag

# --- examples -----------------------------------------------------------------------------------------

# What is knocked, and at which knocks (counted from 1) the door opens; the sequence is abc.
EXAMPLES: dict[str, tuple[str, list[int]]] = {
    "exactly": ("abc", [3]),
    "nothing": ("", []),
    "only a part": ("ab", []),
    "without the first": ("bc", []),
    "without the middle": ("ac", []),
    "backwards": ("cba", []),
    "the last two swapped": ("acb", []),
    "the first doubled": ("aabc", [4]),
    "the middle doubled": ("abbc", [4]),
    "the last doubled": ("abcc", [3]),
    "each doubled": ("aabbcc", [5]),
    "each three times": ("aaabbbccc", [7]),
    "stray port after the first": ("axbc", []),
    "stray port before the last": ("abxc", []),
    "stray port before all": ("xabc", [4]),
    "stray port after all": ("abcx", [3]),
    "a late repeat of the first": ("abac", []),
    "a late repeat of the first, then the rest": ("ababc", [5]),
    "a late repeat of the middle": ("abcb", [3]),
    "twice": ("abcabc", [3, 6]),
    "twice, overlapping in nothing": ("abcbc", [3]),
    "anew at once after a stray": ("abxabc", [6]),
    "anew at once after the wrong order": ("acabc", [5]),
    "the last one alone after opening": ("abcxc", [3]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_sequence(name: str) -> None:
    """A door opens when the last packets of a source were its steps, immediate repeats not counted."""
    letters, expected = EXAMPLES[name]
    assert opened(KnockTracker([knock("abc")]), letters) == expected


# The sequence, what is knocked, at which knocks the door opens.
REPEATS: list[tuple[str, str, list[int]]] = [
    ("a", "a", [1]),
    ("a", "aaa", [1, 2, 3]),
    ("a", "xbxa", [4]),
    ("aab", "ab", []),
    ("aab", "aab", [3]),
    ("aab", "aaab", [4]),
    ("aab", "aaaab", [5]),
    ("aab", "abaab", [5]),
    ("aab", "axab", []),
    ("abb", "ab", []),
    ("abb", "abb", [3]),
    ("abb", "abbb", [3, 4]),
    ("aaa", "aa", []),
    ("aaa", "aaaa", [3, 4]),
    ("abac", "abac", [4]),
    ("abac", "ababac", [6]),
    ("abac", "abaabac", [7]),
    ("abac", "aabbaacc", [7]),
    ("abac", "abacabac", [4, 8]),
    ("abac", "abacbac", [4]),
    ("aba", "ababa", [3, 5]),
    ("aba", "abxaba", [6]),
]


@pytest.mark.parametrize(("steps", "letters", "expected"), REPEATS)
def test_sequences_with_repeats(steps: str, letters: str, expected: list[int]) -> None:
    """A port that stands in a sequence more than once is each of its steps, and a repeat besides."""
    assert opened(KnockTracker([knock(steps)]), letters) == expected


def test_names_the_door_and_the_source() -> None:
    """What comes back is one OpenDoor with the sequence's door and the packet's source."""
    tracker = KnockTracker([knock("ab", door="web")])
    assert tracker.feed(packet(7000), 0) == ()
    assert tracker.feed(packet(8000), 1) == (OpenDoor("web", CLIENT),)


def test_several_sequences_with_a_common_beginning() -> None:
    """Sequences that begin alike are followed at the same time, and what ends one may begin another."""
    sequences = [knock("ab", door="one"), knock("abc", door="two"), knock("ax", door="three")]
    sequences += [knock("abc", door="four"), knock("ca", door="five"), knock("c", door="six")]
    tracker = KnockTracker(sequences)
    doors = [
        {effect.door for effect in tracker.feed(packet(LETTERS[letter]), number / 10)}
        for number, letter in enumerate("abcax")
    ]
    assert doors == [set(), {"one"}, {"two", "four", "six"}, {"five"}, {"three"}]


def test_a_door_may_have_several_sequences() -> None:
    """Each of two sequences opens the door that they share."""
    tracker = KnockTracker([knock("ab"), knock("ba")])
    assert tracker.feed(packet(7000), 0) == ()
    assert tracker.feed(packet(8000), 0) == (OpenDoor(DOOR, CLIENT),)
    assert tracker.feed(packet(7000), 0) == (OpenDoor(DOOR, CLIENT),)


def test_sequence_windows_are_their_own() -> None:
    """Of two sequences alike each keeps its own time."""
    tracker = KnockTracker([knock("ab", door="slow", within=10), knock("ab", door="fast", within=2)])
    assert tracker.feed(packet(7000), 0) == ()
    assert tracker.feed(packet(8000), 3) == (OpenDoor("slow", CLIENT),)
    tracker.feed(packet(7000), 20)
    assert {effect.door for effect in tracker.feed(packet(8000), 21)} == {"slow", "fast"}


def test_udp_steps_are_not_tcp_steps() -> None:
    """A step is a port of its protocol, and the same number of the other protocol is a stray packet."""
    sequence = KnockSequence(DOOR, (Port(TCP, 7000), Port(UDP, 7000)), 5)
    tracker = KnockTracker([sequence])
    tracker.feed(packet(7000), 0)
    assert tracker.feed(packet(7000, protocol=UDP), 1) == (OpenDoor(DOOR, CLIENT),)
    tracker.feed(packet(7000, protocol=UDP), 2)
    assert tracker.feed(packet(7000), 3) == ()
    other = KnockTracker([knock("ab")])
    other.feed(packet(7000), 0)
    other.feed(packet(8000, protocol=UDP), 1)
    assert other.feed(packet(8000), 2) == ()


def test_a_sequence_may_begin_with_a_datagram() -> None:
    """And then does with nothing else: not with a SYN to that port."""
    steps = Port(UDP, 7000), Port(TCP, 8000), Port(TCP, 9000)
    for protocol, expected in ((UDP, (OpenDoor(DOOR, CLIENT),)), (TCP, ())):
        tracker = KnockTracker([KnockSequence(DOOR, steps, 5)])
        assert tracker.feed(packet(7000, protocol=protocol), 0) == ()
        assert tracker.feed(packet(8000), 1) == ()
        assert tracker.feed(packet(9000), 2) == expected


@pytest.mark.parametrize(
    "flags",
    [
        TcpFlag.ACK,
        TcpFlag.SYN | TcpFlag.ACK,
        TcpFlag.RST,
        TcpFlag.FIN,
        TcpFlag.SYN | TcpFlag.RST,
        TcpFlag.PSH | TcpFlag.ACK,
    ],
)
def test_what_opens_no_connection_is_no_step_and_no_reset(flags: int) -> None:
    """The answers and data of other connections change nothing; a SYN in their place does (control)."""
    tracker = KnockTracker([knock("abc")])
    opened(tracker, "ab")
    assert tracker.feed(packet(9000, flags=flags), 1) == ()
    assert tracker.feed(packet(LETTERS["x"], flags=flags), 1) == ()
    assert tracker.feed(packet(9000), 1) == (OpenDoor(DOOR, CLIENT),)
    opened(tracker, "ab", start=2)
    assert tracker.feed(packet(LETTERS["x"]), 3) == ()
    assert tracker.feed(packet(9000), 3) == ()


def test_one_source_never_disturbs_another() -> None:
    """Packets of others, strays, steps and repeats, change nothing for a source in the middle of a knock."""
    tracker = KnockTracker([knock("abc")])
    assert opened(tracker, "ab") == []
    assert opened(tracker, "xxabcxcba", source=OTHER, start=1) == [5]
    assert opened(tracker, "c", start=2) == [1]
    assert opened(tracker, "ab", start=3) == []
    assert opened(tracker, "x", start=4) == []  # control: its own stray does
    assert opened(tracker, "c", start=4.1) == []


def test_sources_of_both_families() -> None:
    """IPv6 sources knock as IPv4 sources do, and the same bytes of another length are another source."""
    tracker = KnockTracker([knock("abc")])
    longer = CLIENT + bytes(12)
    opened(tracker, "ab", source=CLIENT6)
    opened(tracker, "ab", source=CLIENT)
    assert opened(tracker, "c", source=longer, start=1) == []
    assert tracker.feed(packet(9000, CLIENT6), 1) == (OpenDoor(DOOR, CLIENT6),)
    assert tracker.feed(packet(9000, CLIENT), 1) == (OpenDoor(DOOR, CLIENT),)


@pytest.mark.parametrize("ports", [range(7000, 9001), range(9000, 6999, -1), range(7000, 9001, 1000)])
def test_a_sweep_opens_nothing_but_a_sequence_that_it_is(ports: Sequence[int]) -> None:
    """A scan in order over all ports of a knock opens nothing; one over just its ports knocks (control)."""
    tracker = KnockTracker([knock("abc", within=100)])
    effects = [tracker.feed(packet(port), number / 1000) for number, port in enumerate(ports)]
    expected = [(), (), (OpenDoor(DOOR, CLIENT),)] if list(ports) == [7000, 8000, 9000] else [()] * len(ports)
    assert effects == expected


# --- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begins", [0.0, 0.1, 12345.678, 1e9 + 0.3])
@pytest.mark.parametrize("within", [5.0, 0.7])
def test_the_window_is_half_open(begins: float, within: float) -> None:
    """The last knock opens just under ``within`` after the first, and at ``begins + within`` no more."""
    for moment, expected in [
        (math.nextafter(begins + within, 0), [1]),
        (begins + within, []),
        (begins + within + 1, []),
    ]:
        for others in ([], [knock("xa", within=1e6)]):
            tracker = KnockTracker([knock("abc", within=within), *others])
            opened(tracker, "ab", start=begins, apart=0)
            assert opened(tracker, "c", start=moment) == expected


def test_the_window_is_total() -> None:
    """Steps in between give no more time: it is counted from the first knock to the last."""
    tracker = KnockTracker([knock("abc")])
    assert opened(tracker, "abc", apart=2.6) == []
    assert opened(tracker, "abc", start=100, apart=2.4) == [3]


def test_a_repeat_of_the_first_knock_is_a_new_first_knock() -> None:
    """The time is counted from the latest repeat of the first knock, since that alone would do."""
    tracker = KnockTracker([knock("abc")])
    tracker.feed(packet(7000), 0)
    tracker.feed(packet(7000), 3)
    tracker.feed(packet(8000), 4)
    assert tracker.feed(packet(9000), 7.9) == (OpenDoor(DOOR, CLIENT),)


def test_a_repeat_of_a_later_knock_gives_no_more_time() -> None:
    """A repeat of any knock but the first leaves the time as it was."""
    tracker = KnockTracker([knock("abc")])
    tracker.feed(packet(7000), 0)
    tracker.feed(packet(8000), 1)
    tracker.feed(packet(8000), 4)
    assert tracker.feed(packet(9000), 5) == ()


@pytest.mark.parametrize("begins", [0.0, 0.1, 3.3, 12345.678, 1e9 + 0.3])
def test_a_tick_at_the_wakeup_forgets(begins: float) -> None:
    """next_wakeup() is when a Tick forgets the oldest source; a Tick just before it forgets nothing."""
    tracker = KnockTracker([knock("abc", within=0.7)])
    assert tracker.next_wakeup() is None
    opened(tracker, "ab", start=begins, apart=0)
    opened(tracker, "a", start=begins + 0.25, source=OTHER)
    wakeup = tracker.next_wakeup()
    assert wakeup == begins + 0.7
    assert tracker.feed(Tick(), math.nextafter(wakeup, 0)) == ()
    assert len(tracker) == 2
    assert tracker.feed(Tick(), wakeup) == ()
    assert len(tracker) == 1
    assert tracker.next_wakeup() == begins + 0.25 + 0.7
    tracker.feed(Tick(), begins + 0.25 + 0.7)
    assert len(tracker) == 0
    assert tracker.next_wakeup() is None


def test_a_packet_forgets_as_a_tick_does() -> None:
    """Memory does not wait for ticks: any packet clears away what has run out."""
    tracker = KnockTracker([knock("abc")])
    opened(tracker, "a")
    tracker.feed(packet(1, OTHER), 4.9)
    assert len(tracker) == 1
    tracker.feed(packet(1, OTHER), 5)
    assert len(tracker) == 0


def test_strangers_cost_no_memory() -> None:
    """Only who is in the middle of a sequence is remembered; strays, resets and openings leave nothing."""
    tracker = KnockTracker([knock("abc")])
    for number in range(1000):
        tracker.feed(packet(LETTERS["xbc"[number % 3]], numbered(number)), 0)
    assert len(tracker) == 0
    opened(tracker, "ab")
    assert len(tracker) == 1  # control
    opened(tracker, "x", start=1)
    assert len(tracker) == 0
    opened(tracker, "abc", start=2)
    assert len(tracker) == 0


def test_the_oldest_is_forgotten_first() -> None:
    """When memory is full, the source whose latest first knock is the oldest loses it, and nobody else."""
    tracker = KnockTracker([knock("abc")], limit=3)
    for number in (1, 2, 3):
        tracker.feed(packet(7000, numbered(number)), number / 10)
    tracker.feed(packet(8000, numbered(2)), 0.5)
    tracker.feed(packet(7000, numbered(1)), 0.6)  # now 2 is the oldest, although it knocked on
    tracker.feed(packet(7000, numbered(4)), 0.7)
    assert len(tracker) == 3
    for number, expected in ((1, True), (2, False), (3, True), (4, True)):
        tracker.feed(packet(8000, numbered(number)), 1)
        assert bool(tracker.feed(packet(9000, numbered(number)), 1)) is expected


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_an_honest_knock_survives_fewer_first_knocks_than_the_limit(limit: int) -> None:
    """A knock opens though ``limit`` - 1 others begin meanwhile, and is forgotten when ``limit`` do."""
    for others, expected in ((limit - 1, [1]), (limit, [])):
        tracker = KnockTracker([knock("ab")], limit=limit)
        opened(tracker, "a")
        for number in range(others):
            tracker.feed(packet(7000, numbered(number)), 1)
        assert opened(tracker, "b", start=2) == expected


def test_memory_is_bounded_under_a_flood() -> None:
    """However many sources begin, no more than ``limit`` are remembered, and the tally says what was lost."""
    tracker = KnockTracker([knock("abc")], limit=100)
    most = 0
    for number in range(5000):
        tracker.feed(packet(7000, numbered(number)), number / 10000)
        most = max(most, len(tracker))
    assert most == 100
    assert tracker.tally.forgotten == 4900
    assert tracker.tally.begun == 5000


def test_the_tally() -> None:
    """Begun, opened, reset and forgotten are counted, and packets of no consequence are not."""
    tracker = KnockTracker([knock("abc")], limit=1)
    opened(tracker, "xabcabxxbab")
    tally = tracker.tally
    assert (tally.begun, tally.opened, tally.reset, tally.forgotten) == (3, 1, 1, 0)
    opened(tracker, "a", source=OTHER, start=2)
    assert (tally.begun, tally.opened, tally.reset, tally.forgotten) == (4, 1, 1, 1)
    tracker.feed(Tick(), 100)
    assert (tally.begun, tally.opened, tally.reset, tally.forgotten) == (4, 1, 1, 1)


def test_impossible_sequences_and_limits() -> None:
    """A sequence without steps or time, and a memory for nobody, are refused; the least of each is not."""
    with pytest.raises(ValueError, match="step"):
        KnockSequence(DOOR, (), 5)
    for within in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="time"):
            KnockSequence(DOOR, tcp(1), within)
    with pytest.raises(ValueError, match="source"):
        KnockTracker([], limit=0)
    assert KnockTracker([KnockSequence(DOOR, tcp(1), 0.001)], limit=1).feed(packet(1), 0)
    assert KnockTracker([]).feed(packet(1), 0) == ()


def test_begins_with_somebody_of_whom_nothing_is_known() -> None:
    """And with nobody else, nor where one knock opens: those must be fed."""
    tracker = KnockTracker([knock("abc"), knock("c", door="one")])
    first, last = (packet(LETTERS[letter]).observation for letter in "ac")
    assert not tracker.begin(last, 0.0)
    assert tracker.begin(first, 0.0)
    assert not tracker.begin(first, 0.1)
    assert tracker.begin(packet(LETTERS["a"], OTHER).observation, 0.1)
    assert not tracker.begin(packet(LETTERS["b"], CLIENT6).observation, 0.2)
    assert tracker.begin(first, 6.0)  # all was forgotten
    assert opened(tracker, "bc", start=6.1) == [2]


def test_says_which_ports_matter() -> None:
    assert KnockTracker([knock("ab"), knock("bc")]).ports == {7000, 8000, 9000}
    assert KnockTracker([]).ports == set()
