from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import event as label
from hypothesis import given
from hypothesis import strategies as st
from tests.packets import raw

from knockgate.effects import (
    ClaimLine,
    ClaimSettled,
    Effect,
    Event,
    OpenDoor,
    PacketPassed,
    PacketSeen,
    Rearmed,
    RunCommands,
    Tick,
)
from knockgate.engine import Armed, Engine
from knockgate.mechanisms.sequence import Counted, Tally
from knockgate.model import Observation, Port, Protocol, Source, TcpFlag

TCP, UDP = Protocol.TCP, Protocol.UDP
FIN, SYN, ACK = TcpFlag.FIN, TcpFlag.SYN, TcpFlag.ACK
HOST, BEHIND = raw("10.0.0.1"), raw("10.9.9.9")
CLIENT, OTHER = raw("10.0.0.2"), raw("fd00::2")
FINS = Counted(mask=FIN | ACK, value=FIN)


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(TCP, number) for number in numbers)


def syn(port: int, source: Source = CLIENT) -> PacketSeen:
    return PacketSeen(Observation(source, HOST, TCP, 40000, port, SYN, 40))


def knocked(engine: Engine, *ports: int, source: Source = CLIENT, now: float = 0.0) -> tuple[Effect, ...]:
    """What the engine answers to the last of these; to the others it has nothing to say."""
    effects = [engine.feed(syn(port, source), now) for port in ports]
    assert effects[:-1] == [()] * (len(ports) - 1)
    return effects[-1]


# --- examples -----------------------------------------------------------------------------------------


def test_commands_come_after_the_door_is_open() -> None:
    """A door opens first, and then its commands are run; one without commands opens alone."""
    engine = Engine([Armed("ssh", tcp(1, 2), 5, runs_commands=True), Armed("web", tcp(1, 3), 5)])
    assert knocked(engine, 1, 2) == (OpenDoor("ssh", CLIENT), RunCommands("ssh", CLIENT))
    assert knocked(engine, 1, 3) == (OpenDoor("web", CLIENT),)


def test_nothing_opens_before_a_claim_is_settled() -> None:
    """A one-time door asks for its line, opens when that is spent, and waits for the next sequence."""
    engine = Engine([Armed("ssh", tcp(1, 2), 5, line=7, runs_commands=True)])
    assert knocked(engine, 1, 2) == (ClaimLine("ssh", CLIENT, 7),)
    assert knocked(engine, 1, 2, source=OTHER) == ()  # nobody else can have the line
    assert engine.feed(ClaimSettled("ssh", CLIENT, 7, claimed=True), 1) == (
        OpenDoor("ssh", CLIENT),
        RunCommands("ssh", CLIENT),
    )
    assert knocked(engine, 1, 2, now=2) == ()
    assert engine.feed(Rearmed("ssh", 9, tcp(3, 4)), 2) == ()
    assert knocked(engine, 1, 2, now=2) == ()
    assert knocked(engine, 3, 4, now=2) == (ClaimLine("ssh", CLIENT, 9),)


def test_a_claim_that_fails_opens_nothing() -> None:
    """Nor does an answer that comes twice, for somebody else, for another line, or that nobody waits for."""
    engine = Engine([Armed("ssh", tcp(1, 2), 5, line=1), Armed("web", tcp(1, 2), 5)])
    assert engine.feed(ClaimSettled("ssh", CLIENT, 1, claimed=True), 0) == ()
    assert engine.feed(ClaimSettled("web", CLIENT, 0, claimed=True), 0) == ()
    knocked(engine, 1, 2)
    assert engine.feed(ClaimSettled("ssh", OTHER, 1, claimed=True), 0) == ()
    assert engine.feed(ClaimSettled("ssh", CLIENT, 2, claimed=True), 0) == ()
    assert engine.feed(ClaimSettled("ssh", CLIENT, 1, claimed=False), 0) == ()
    assert engine.feed(ClaimSettled("ssh", CLIENT, 1, claimed=True), 0) == ()
    engine.feed(Rearmed("ssh", 2, tcp(1, 2)), 0)
    knocked(engine, 1, 2)
    engine.feed(Rearmed("ssh", 3, tcp(1, 2)), 0)
    assert engine.feed(ClaimSettled("ssh", CLIENT, 2, claimed=True), 0) == ()
    knocked(engine, 1, 2)
    assert engine.feed(ClaimSettled("ssh", CLIENT, 3, claimed=True), 0) != ()  # control


def test_a_door_whose_lines_are_used_up_is_shut_and_the_others_work_on() -> None:
    """No sequence opens it any more, until it gets another; beside it another one-time door goes on."""
    engine = Engine([Armed("ssh", (), 5, line=0), Armed("web", tcp(1, 2), 5, line=1)])
    assert knocked(engine, 1, 2) == (ClaimLine("web", CLIENT, 1),)
    engine.feed(Rearmed("web", 0, ()), 0)
    assert knocked(engine, 1, 2) == ()
    assert engine.next_wakeup() is None
    engine.feed(Rearmed("ssh", 4, tcp(1, 2)), 0)
    assert knocked(engine, 1, 2) == (ClaimLine("ssh", CLIENT, 4),)


def test_rearming_resets_nobody_at_another_door() -> None:
    """Who is half way through another sequence goes on; who was half way through the old one does not."""
    doors = [
        Armed("ssh", tcp(1, 2), 5),
        Armed("a", tcp(3, 1, 2), 5, line=1),
        Armed("b", tcp(1, 2), 5, line=1),
    ]
    engine = Engine(doors)
    knocked(engine, 3, 1)
    engine.feed(Rearmed("a", 2, tcp(3, 1, 2)), 1)
    assert knocked(engine, 2, now=1) == (OpenDoor("ssh", CLIENT), ClaimLine("b", CLIENT, 1))


def test_ordinary_datagrams_reset_only_sequences_with_datagrams() -> None:
    """A name server's answer in the middle of a knock harms the door next to it, which has a UDP step."""
    engine = Engine([Armed("ssh", tcp(1, 2), 5), Armed("web", (*tcp(1), Port(UDP, 9), *tcp(2)), 5)])
    answer = PacketSeen(Observation(CLIENT, HOST, UDP, 53, 5353, 0, 28))
    step = PacketSeen(Observation(CLIENT, HOST, UDP, 40000, 9, 0, 28))
    for stray, opened in ((step, ("ssh", "web")), (answer, ("ssh",))):
        engine.feed(syn(1), 0)
        engine.feed(step, 0)
        engine.feed(stray, 0)
        assert engine.feed(syn(2), 0) == tuple(OpenDoor(door, CLIENT) for door in opened)


def test_says_what_must_be_heard() -> None:
    """The flags, targets and datagrams of all doors, and nothing that openings have in them anyway."""
    plain = Engine([Armed("ssh", tcp(1, 2), 5)])
    assert (plain.flags, plain.targets, plain.datagrams) == ([], frozenset(), False)
    every = Engine(
        [
            Armed("ssh", tcp(1, 2), 5),
            Armed("web", tcp(1, 2), 5, FINS),
            Armed("mail", tcp(1, 2), 5, Counted(target=BEHIND)),
            Armed("news", (Port(UDP, 1),), 5, FINS),
        ]
    )
    assert every.flags == [(0x11, 0x01)] and every.targets == frozenset([BEHIND]) and every.datagrams
    assert Engine([Armed("ssh", tcp(1), 5, line=1)]).datagrams  # a later line may have a datagram


def test_says_which_ports_matter_as_they_change() -> None:
    engine = Engine([Armed("ssh", tcp(1, 2), 5), Armed("web", tcp(3, 4), 5, line=1)])
    assert engine.ports == {1, 2, 3, 4}
    engine.feed(Rearmed("web", 2, (Port(UDP, 5), *tcp(1))), 0)
    assert engine.ports == {1, 2, 5}
    engine.feed(Rearmed("web", 0, ()), 0)
    assert engine.ports == {1, 2}


def test_begins_where_there_is_one_tracker_to_be_asked() -> None:
    """With more of them each must be fed, since what begins here may reset there."""
    one, two = (
        Engine([Armed("ssh", tcp(1, 2), 5)]),
        Engine([Armed("ssh", tcp(1, 2), 5), Armed("web", tcp(1, 2), 5, FINS)]),
    )
    assert one.begin(syn(1).observation, 0) and len(one) == 1
    assert not two.begin(syn(1).observation, 0) and len(two) == 0
    assert list(one.sources) == [CLIENT] and not two.sources
    two.feed(syn(1), 0)
    assert CLIENT in two.sources
    assert one.feed(syn(2), 0) == (OpenDoor("ssh", CLIENT),)


def test_memory_is_shared_and_bounded() -> None:
    """A flood of first knocks is remembered as far as the limit goes, whatever the number of trackers."""
    doors = [Armed(f"door {number}", tcp(1, 2), 5, line=1) for number in range(4)]
    for count in (1, 4):
        engine = Engine(doors[:count], limit=1000)
        for number in range(3000):
            engine.feed(syn(1, number.to_bytes(4, "big")), 0)
        assert len(engine) == 1000
        assert engine.tally == Tally(begun=3000 * count, forgotten=3000 * count - 1000)
        assert knocked(engine, 1, 2) == tuple(ClaimLine(door.door, CLIENT, 1) for door in doors[:count])


def test_a_tally_outlives_the_sequence() -> None:
    """What is counted at a one-time door goes on counting with its next line."""
    engine = Engine([Armed("ssh", tcp(1, 2), 5, line=1)])
    for line in (2, 3):
        knocked(engine, 1, 2)
        engine.feed(Rearmed("ssh", line, tcp(1, 2)), 0)
    assert engine.tally == Tally(begun=2, opened=2)


def test_a_door_that_has_no_lines_cannot_get_one() -> None:
    """That would be a mistake of ours, not of the admin."""
    with pytest.raises(KeyError):
        Engine([Armed("ssh", tcp(1, 2), 5)]).feed(Rearmed("ssh", 1, tcp(3)), 0)


# --- a slow, obvious model ----------------------------------------------------------------------------


@dataclass
class Slow:
    """One door: all that counted so far, spelled out for each source, and searched anew each time."""

    door: Armed
    history: dict[Source, list[tuple[str, float]]] = field(default_factory=dict)
    claiming: Source | None = None
    line: int = 0
    steps: tuple[Port, ...] = ()

    def __post_init__(self) -> None:
        self.line, self.steps = self.door.line or 0, self.door.steps

    def feed(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, PacketSeen | PacketPassed):
            return self.packet(event, now)
        if isinstance(event, ClaimSettled) and event.door == self.door.door:
            if self.claiming == event.source and self.line == event.line:
                self.claiming = None
                return self.granted(event.source) if event.claimed else []
        elif isinstance(event, Rearmed) and event.door == self.door.door:
            self.claiming = None
            self.line, self.steps, self.history = event.line, event.steps, {}
        return []

    def packet(self, event: PacketSeen | PacketPassed, now: float) -> list[Effect]:
        seen = event.observation
        if not self.steps or not self.counts(seen, passed=isinstance(event, PacketPassed)):
            return []
        history = self.history.setdefault(seen.source, [])
        history.append((word(seen.protocol, seen.port), now))
        if not self.spelled(history):
            return []
        if self.door.line is None:
            return self.granted(seen.source)
        self.claiming, self.steps = seen.source, ()
        return [ClaimLine(self.door.door, seen.source, self.line)]

    def counts(self, seen: Observation, *, passed: bool) -> bool:
        rule = self.door.counted
        if (seen.destination != rule.target) if rule.target else passed:
            return False
        if seen.protocol == UDP:
            return any(step.protocol == UDP for step in self.steps)
        return all(
            bool(seen.flags & bit) == bool(rule.value & bit)
            for bit in (1, 2, 4, 8, 16, 32)
            if rule.mask & bit
        )

    def spelled(self, history: Sequence[tuple[str, float]]) -> bool:
        """Each step but the last once or more, and nothing else; less than the window in between."""
        pattern = "+".join(f"(?:{word(step.protocol, step.number)})" for step in self.steps)
        return any(
            re.fullmatch(pattern, "".join(spoken for spoken, _ in history[start:]))
            for start, (_, begun) in enumerate(history)
            if history[-1][1] < begun + self.door.within
        )

    def granted(self, source: Source) -> list[Effect]:
        name = self.door.door
        commands: list[Effect] = [RunCommands(name, source)] if self.door.runs_commands else []
        return [OpenDoor(name, source), *commands]


def word(protocol: int, number: int) -> str:
    return f"{'t' if protocol == TCP else 'u'}{number};"


# Few ports, sources and rules, so that everything happens.
PORTS = st.builds(Port, st.sampled_from([TCP, TCP, UDP]), st.integers(1, 2))
STEPS = st.lists(PORTS, min_size=1, max_size=3).map(tuple)
COUNTED = st.sampled_from([Counted(), Counted(), FINS, Counted(target=BEHIND)])
WITHIN, LINES = st.sampled_from([1.0, 2.0]), st.sampled_from([None, 1])


@st.composite
def several(draw: st.DrawFn) -> list[Armed]:
    return [
        Armed(f"door {number}", draw(STEPS), draw(WITHIN), draw(COUNTED), draw(LINES), draw(st.booleans()))
        for number in range(draw(st.integers(1, 4)))
    ]


@dataclass(frozen=True)
class Act:
    """Something that happens: a packet, a knock at a door, the answer to its claim, its next line."""

    kind: str
    door: int
    wait: float
    seen: Observation
    claimed: bool
    steps: tuple[Port, ...]


ACTS = st.lists(
    st.builds(
        Act,
        kind=st.sampled_from(["packet", "packet", "knock", "knock", "settle", "settle", "rearm", "tick"]),
        door=st.integers(0, 3),
        wait=st.sampled_from([0, 0, 0.1, 0.5, 1]),
        seen=st.builds(
            Observation,
            source=st.sampled_from([CLIENT, CLIENT, OTHER]),
            destination=st.sampled_from([HOST, BEHIND]),
            protocol=st.sampled_from([TCP, TCP, UDP]),
            source_port=st.just(40000),
            port=st.integers(1, 3),
            flags=st.sampled_from([SYN, SYN, FIN, ACK]),
            payload=st.just(40),
        ),
        claimed=st.booleans(),
        steps=st.lists(PORTS, max_size=2).map(tuple),
    ),
    max_size=20,
)


def packet(seen: Observation) -> PacketSeen | PacketPassed:
    seen = seen._replace(flags=0) if seen.protocol == UDP else seen
    return PacketSeen(seen) if seen.destination == HOST else PacketPassed(seen)


def events_of(act: Act, models: Sequence[Slow]) -> list[Event]:
    """The act as it comes from a daemon that does what it is told; none if it cannot be."""
    if act.kind == "tick":
        return [Tick()]
    if act.kind == "packet":
        return [packet(act.seen)]
    model = models[act.door % len(models)]
    rule = model.door.counted
    if act.kind == "knock":
        meant = act.seen._replace(destination=rule.target or HOST, flags=rule.value)
        return [packet(meant._replace(protocol=step.protocol, port=step.number)) for step in model.steps]
    if model.door.line is None:
        return []
    if act.kind == "settle":
        return [ClaimSettled(model.door.door, model.claiming or CLIENT, model.line, act.claimed)]
    return [Rearmed(model.door.door, model.line + 1, act.steps)]


@given(several(), ACTS)
def test_does_what_the_model_says_and_again(doors: list[Armed], acts: list[Act]) -> None:
    """Event for event the engine answers as the model, whose doors know nothing of each other.

    A fresh engine that is fed the same events answers the same, and one that is not fed the packets that
    concern nobody does as well.
    """
    engine, sparing = Engine(doors), Engine(doors)
    models = [Slow(door) for door in doors]
    now = 0.0
    story: list[tuple[Event, float, tuple[Effect, ...]]] = []
    for act in acts:
        now += act.wait
        for event in events_of(act, models):
            effects = engine.feed(event, now)
            story.append((event, now, effects))
            expected = [effect for model in models for effect in model.feed(event, now)]
            assert sorted(effects, key=repr) == sorted(expected, key=repr)
            for effect in effects:
                label(f"{type(event).__name__} -> {type(effect).__name__}")
            if isinstance(event, PacketSeen | PacketPassed):
                seen = event.observation
                if not sparing.concerns(seen.protocol, seen.source, seen.port):
                    assert effects == ()
                    continue
            assert sparing.feed(event, now) == effects
    again = Engine(doors)
    assert [again.feed(event, now) for event, now, _ in story] == [effects for _, _, effects in story]
    while (wakeup := engine.next_wakeup()) is not None:
        engine.feed(Tick(), wakeup)
    assert len(engine) == 0
