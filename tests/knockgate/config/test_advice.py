from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tests.packets import raw

from knockgate.config.advice import Advice, advise
from knockgate.config.doors import Configuration, parse
from knockgate.effects import PacketSeen
from knockgate.mechanisms.automaton import NOWHERE, Automaton
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Observation, Port, Protocol

CLIENT, HOST = raw("10.0.0.2"), raw("10.0.0.1")

#: There is nothing to say about this door. Each of the doubtful ones differs from it in one thing.
DOOR = """\
ports = ["tcp/2222"]
lease = "15s"
sequence = { steps = ["tcp/7000", "tcp/9000", "udp/8000"], within = "5s", runs_in = "kernel" }
"""
#: One that guards nothing.
COMMANDS = """\
lease = 0
commands = { open = ["/bin/true"] }
sequence = { steps = ["tcp/7000", "tcp/9000", "tcp/8000"], runs_in = "daemon" }
"""

# What is put in the place of what in DOOR; the message; a part of the hint.
DOUBTFUL: dict[str, tuple[str, str, str, str]] = {
    "neighbours": (
        '"tcp/7000", "tcp/9000", "udp/8000"',
        '"tcp/7000", "tcp/7001", "tcp/7002"',
        "any port scan in ascending order opens it: the ports are neighbours",
        "mix tcp and udp",
    ),
    "neighbours, downwards": (
        '"tcp/7000", "tcp/9000", "udp/8000"',
        '"udp/7002", "udp/7001"',
        "any port scan in descending order opens it: the ports are neighbours",
        "mix tcp and udp",
    ),
    "in order": (
        '"tcp/9000", "udp/8000"',
        '"tcp/8000", "tcp/9000"',
        "a scan of just these ports in ascending order opens it; with knockd, any ascending one",
        "mix tcp and udp",
    ),
    "in order, downwards": (
        '"tcp/9000", "udp/8000"',
        '"tcp/6000", "tcp/5999"',
        "a scan of just these ports in descending order opens it; with knockd, any descending one",
        "mix tcp and udp",
    ),
    "one knock": (
        '"tcp/7000", "tcp/9000", "udp/8000"',
        '"tcp/7000"',
        "a single packet to tcp/7000 opens it, whoever sends it and whatever for",
        "three different ports",
    ),
    "one port": (
        '"tcp/9000", "udp/8000"',
        '"tcp/7000"',
        "the same packet 2 times to tcp/7000 opens it, whoever sends it and whatever for",
        "three different ports",
    ),
    "a port twice in a row": (
        '"tcp/9000"',
        '"tcp/9000", "tcp/9000"',
        "tcp/9000 follows itself: a packet that is sent again by itself, as TCP does, is a knock",
        "a port of its own",
    ),
    "a port comes back": (
        '"udp/8000"',
        '"tcp/7000"',
        "tcp/7000 comes back later: the fewer ports, the easier to hit by chance",
        "a port of its own",
    ),
    "everybody's ports": (
        '"tcp/9000", "udp/8000"',
        '"tcp/443", "udp/4500"',
        (
            "every scanner tries tcp/443 and udp/4500, and makes the knock without meaning to; "
            "nor can a service be there, for a knock port is silent"
        ),
        "20000 to 32000",
    ),
    "everybody's ports, and nothing guarded": (
        DOOR,
        COMMANDS.replace("8000", "22"),
        "every scanner tries tcp/22, and makes the knock without meaning to",
        "20000 to 32000",
    ),
    "datagrams for the daemon": (
        '"udp/8000"], within = "5s", runs_in = "kernel"',
        '"udp/8000"], within = "5s", runs_in = "daemon"',
        (
            "with a udp step any datagram of the same source resets its knock, "
            "also of a VPN that it has been using all the time"
        ),
        "take tcp steps",
    ),
    "one protocol": (
        '"udp/8000"',
        '"tcp/8000"',
        (
            "all knocks are tcp: a port scan comes back to silent ports, and may make these knocks in this "
            "order by chance"
        ),
        "mix tcp and udp",
    ),
    "a short lease": (
        '"15s"',
        '"4900ms"',
        "open for 4900ms only: a connection whose first packets are lost comes too late",
        'lease = "15s"',
    ),
    "a long lease": (
        '"15s"',
        '"61m"',
        "open for 61m after a knock, to everybody behind the same address",
        "short lease",
    ),
    "a long pause": (
        '"5s"',
        '"61s"',
        "half a knock is remembered for 61s: strangers fill that memory the sooner",
        'within = "5s"',
    ),
}

# What is none of the above, though it looks like it.
HARMLESS: dict[str, tuple[str, str]] = {
    "in order, but for the protocol": ('"tcp/9000", "udp/8000"', '"udp/8000", "tcp/9000"'),
    "one number, two protocols": ('"tcp/9000"', '"udp/7000"'),
    "datagrams only at the end": ('"udp/8000"', '"udp/8001"'),
    "the daemon": (
        '"udp/8000"], within = "5s", runs_in = "kernel"',
        '"tcp/8000"], within = "5s", runs_in = "daemon"',
    ),
    "the shortest lease": ('"15s"', '"5s"'),
    "the longest lease": ('"15s"', '"1h"'),
    "the longest pause": ('"5s"', '"60s"'),
    "no commands last long": (
        DOOR,
        COMMANDS,
    ),
    "by hand": ('sequence = { steps = ["tcp/7000", "tcp/9000", "udp/8000"], within = "5s"', "# "),
    "by hand, for long": (
        'lease = "15s"\nsequence = { steps = ["tcp/7000", "tcp/9000", "udp/8000"], within = "5s"',
        'lease = "2h" # ',
    ),
    "one-time": (
        'steps = ["tcp/7000", "tcp/9000", "udp/8000"], within = "5s", runs_in = "kernel"',
        'one_time = "/etc/knockgate/once", runs_in = "daemon"',
    ),
}


def door(old: str = "", new: str = "") -> Configuration:
    """The door, something replaced."""
    assert not old or DOOR.count(old) == 1
    return parse("[doors.ssh]\n" + (DOOR.replace(old, new) if old else DOOR))


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_doubtful_door(name: str) -> None:
    old, new, message, hint = DOUBTFUL[name]
    assert advise(door()) == ()
    (advice,) = advise(door(old, new))
    assert (advice.door, advice.message) == ("ssh", message)
    assert hint in advice.hint


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_door(name: str) -> None:
    assert advise(door(*HARMLESS[name])) == ()


def test_what_the_hint_of_a_sweep_says_helps() -> None:
    steps = '"tcp/7000", "tcp/9000", "udp/8000"'
    assert advise(door(steps, '"tcp/7000", "tcp/7001", "tcp/7002"'))
    assert not advise(door(steps, '"tcp/7000", "udp/7001", "tcp/7002"'))  # mixed


# --- scans, against the tracker -----------------------------------------------------------------------


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(Protocol.TCP, number) for number in numbers)


def configuration(*sequences: Sequence[Port], within: Sequence[int] = ()) -> Configuration:
    """Doors d0, d1 ... with these sequences."""
    return parse(
        "\n".join(
            f"[doors.d{number}]\nports = ['tcp/{50000 + number}']\n[doors.d{number}.sequence]\n"
            f"steps = {[str(step) for step in steps]}\nwithin = {within[number] if within else 5}"
            for number, steps in enumerate(sequences)
        )
    )


def opened(sequences: Sequence[Sequence[Port]], packets: Iterable[Port]) -> set[str]:
    """The doors, of d0, d1 ..., that one source opens with these packets, all of them openings."""
    tracker = KnockTracker(
        [KnockSequence(f"d{number}", tuple(steps), 5) for number, steps in enumerate(sequences)]
    )
    seen = (Observation(CLIENT, HOST, port.protocol, 40000, port.number, 2, 40) for port in packets)
    return {effect.door for packet in seen for effect in tracker.feed(PacketSeen(packet), 0.0)}


def messages(advices: Iterable[Advice], *starts: str) -> dict[str, str]:
    """The advice of these kinds, by door."""
    return {advice.door: advice.message for advice in advices if advice.message.startswith(starts)}


#: So few ports that rises, falls and repeats are common; and runs, for what is rarer otherwise.
PORTS = st.builds(Port, st.sampled_from(Protocol) | st.just(Protocol.TCP), st.integers(7000, 7005))
RUNS = st.builds(
    lambda first, pace, times: [port for number in range(first, 7003, pace) for port in tcp(number) * times],
    st.integers(7000, 7002),
    st.integers(1, 2),
    st.integers(1, 2),
)
SEQUENCES = st.lists(PORTS, min_size=1, max_size=5) | RUNS | RUNS.map(lambda steps: steps[::-1])


@given(steps=SEQUENCES)
def test_what_a_sweep_opens(steps: list[Port]) -> None:
    """The strong warning, or that of a single port, is there exactly where a sweep opens the door.

    A sweep takes every port of a protocol in order, each once, or each a few times as scanners do that
    got no answer.
    """
    sweeps = {
        word: [
            [Port(protocol, number) for number in numbers for _ in range(times)]
            for protocol in Protocol
            for times in (1, 5)
        ]
        for word, numbers in {"ascending": range(6998, 7009), "descending": range(7008, 6997, -1)}.items()
    }
    said = messages(advise(configuration(steps)), "any port scan", "a single packet", "the same packet")
    single = "packet" in said.get("d0", "")
    event("one port" if single else "a sweep" if said else "nothing")
    for word, scans in sweeps.items():
        opens = any(opened([steps], scan) for scan in scans)
        assert opens == (single or word in said.get("d0", ""))


@given(steps=SEQUENCES)
def test_what_a_scan_of_its_ports_opens(steps: list[Port]) -> None:
    """Either warning is there exactly where a scan of nothing but the knock's ports opens the door."""
    scans = {
        word: [port for port in sorted(set(steps), reverse=word == "descending") for _ in range(5)]
        for word in ("ascending", "descending")
    }
    said = messages(advise(configuration(steps)), "any port scan", "a scan", "a single", "the same").get(
        "d0", ""
    )
    one_protocol = len({step.protocol for step in steps}) == 1
    for word, scan in scans.items():
        opens = bool(opened([steps], scan))
        event(f"{word}: {opens}")
        assert (opens and one_protocol) == (word in said or "packet" in said)


def test_the_whole_range() -> None:
    """Of a sweep over all ports: neighbours open, the tutorial's knock does not."""
    neighbours, tutorial = tcp(7001, 7002, 7003), tcp(7000, 8000, 9000)
    assert opened([neighbours, tutorial], tcp(*range(1, 65536))) == {"d0"}
    said = messages(advise(configuration(neighbours, tutorial)), "any port scan", "a scan of just these")
    assert said["d0"].startswith("any port scan") and said["d1"].startswith("a scan of just these")


def test_a_repeated_step_is_made_by_a_packet_sent_again() -> None:
    """The control is the same knock without the repeat in the configuration: nothing is gained."""
    lost_and_resent = tcp(7000, 9000, 9000, 8000)
    assert opened([tcp(7000, 9000, 9000, 8000)], lost_and_resent)
    assert opened([tcp(7000, 9000, 8000)], lost_and_resent)
    assert not opened([tcp(7000, 9000, 9000, 8000)], tcp(7000, 9000, 8000))


# --- doors together -----------------------------------------------------------------------------------


@given(sequences=st.lists(SEQUENCES, min_size=2, max_size=4))
def test_what_else_a_knock_opens(sequences: list[list[Port]]) -> None:
    """It is said that knocking at a door opens another one exactly where the tracker opens it."""
    said = advise(configuration(*sequences))
    twins = messages(said, "has the sequence of")
    contains = messages(said, "knocking at it")
    for number, steps in enumerate(sequences):
        door, first = f"d{number}", f"d{sequences.index(steps)}"
        expected = f"has the sequence of door {first}: one knock opens both" if door != first else None
        assert twins.get(door) == expected
        if door == first:  # of twins, only the first is compared with others
            others = {other for other in opened(sequences, steps) if other != door and other not in twins}
            event(f"opens {len(others)} others")
            assert set(re.findall(r"d\d+", contains.get(door, ""))) == others
        else:
            assert door not in contains


def test_sequences_that_hear_different_packets_do_not_meet() -> None:
    """Equal steps: with one rule for what counts one knock opens both doors, with two it does not."""
    steps = 'steps = ["tcp/7000", "tcp/6000"]'
    daemon = 'runs_in = "daemon"'
    for rule, meets in {
        'runs_in = "kernel"': True,
        daemon: True,
        f'{daemon}, flags = ["fin"]': False,
        f'{daemon}, target = "192.0.2.7"': False,
    }.items():
        both = parse(
            f'doors.a = {{ ports = ["tcp/1"], sequence = {{ {steps}, {rule} }} }}\n'
            f'doors.b = {{ ports = ["tcp/2"], sequence = {{ {steps} }} }}'
        )
        assert bool(messages(advise(both), "has the sequence")) == meets, rule


@given(
    sequences=st.lists(SEQUENCES, min_size=2, max_size=4),
    within=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_how_long_the_kernel_waits(sequences: list[list[Port]], within: list[int]) -> None:
    """It is said of a door that it waits longer exactly where the automaton does, after the first knock."""
    automaton = Automaton(
        KnockSequence(f"d{number}", tuple(steps), within[number]) for number, steps in enumerate(sequences)
    )
    said = messages(advise(configuration(*sequences, within=within)), "begins as door")
    for number, steps in enumerate(sequences):
        state = automaton.states[automaton.move(NOWHERE, steps[0])]
        longer = len(steps) > 1 and state.within > within[number]
        event(f"waits longer: {longer}")
        assert (f"d{number}" in said) == longer
        if longer:
            assert f"waits for {state.within:g}s here" in said[f"d{number}"]


def test_the_daemon_keeps_times_apart() -> None:
    """The kernel, the control, does not."""
    for runs_in, expected in {"kernel": ["a"], "daemon": []}.items():
        both = parse(
            "\n".join(
                f'[doors.{name}]\nports = ["tcp/{within}"]\n[doors.{name}.sequence]\nwithin = {within}\n'
                f'steps = ["tcp/7000", "tcp/600{within}"]\nruns_in = "{runs_in}"'
                for name, within in {"a": 5, "b": 9}.items()
            )
        )
        assert list(messages(advise(both), "begins as door b does")) == expected


def test_the_order_is_that_of_the_doors() -> None:
    advices = advise(configuration(tcp(7003, 7001), tcp(7001), tcp(7003, 7001), within=(5, 61, 5)))
    assert [advice.door for advice in advices] == sorted(advice.door for advice in advices)
    assert {advice.door for advice in advices} == {"d0", "d1", "d2"}


def test_ten_thousand_doors() -> None:
    """The work grows with the doors, not with their pairs: equal ones, and ones that begin alike."""
    alike = [tcp(7000, 9000, 8000)] * 5000
    begin = [tcp(7000, 9000, 10000 + number) for number in range(5000)]
    doors = configuration(*alike, *begin)
    advices = advise(doors)
    assert len(messages(advices, "has the sequence")) == 4999
    assert not messages(advices, "knocking at it")


ONE = '[doors.ssh]\nports = ["tcp/22"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE, []),
        ("gate.shadow = true\n" + ONE, [("", "NOTHING IS SHUT")]),
        (ONE + "shadow = true\n", [("ssh", "IS NOT SHUT")]),
        ("gate.shadow = true\n" + ONE + "shadow = true\n", [("", "NOTHING IS SHUT")]),
        ('gate.allow = ["203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8", "fd00::/8"]\n' + ONE, []),
        ('gate.allow = ["0.0.0.0/0"]\n' + ONE, [("", "EVERYBODY comes in through all doors over IPv4")]),
        ('gate.allow = ["0.0.0.0/1", "128.0.0.0/1"]\n' + ONE, [("", "EVERYBODY comes in")]),
        ('gate.allow = ["0.0.0.0/1"]\n' + ONE, [("", "one in 2 of all IPv4")]),
        (ONE + 'allow = ["::/0"]\n', [("ssh", "EVERYBODY comes in through it over IPv6: allow has ::/0")]),
        (
            ONE + 'allow = ["2000::/3", "12.0.0.0/6"]\n',
            [("ssh", "one in 64 of"), ("ssh", "one in 8 of all IPv6")],
        ),
    ],
)
def test_what_is_left_open_is_said(text: str, told: list[tuple[str, str]]) -> None:
    found = advise(parse(text))
    assert len(found) == len(told)
    for advice, (door, words) in zip(found, told, strict=True):
        assert advice.door == door and words in advice.message and advice.hint
