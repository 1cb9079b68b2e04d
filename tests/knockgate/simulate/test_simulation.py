"""Decisions of the simulation that no kernel is needed for: the daemon's doors, directions, odd captures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packets import ACK, FIN, RST, SYN, ipv4, ipv6, raw, tcp, udp

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured
from knockgate.config.arming import Line
from knockgate.config.doors import parse
from knockgate.firewall.memory import Verdict
from knockgate.model import Port, Protocol
from knockgate.simulate.simulation import Simulation, Step

HOST, CLIENT, OTHER = "10.0.0.1", "10.0.0.2", "10.9.9.9"
KERNEL = """
[doors.ssh]
ports = ["tcp/22", "udp/22"]
sequence = { steps = ["tcp/7000", "tcp/8000"], within = "5s" }
"""
DAEMON = """
[gate]
interface = "eth0"
[doors.ssh]
ports = ["tcp/22"]
lease = "15s"
[doors.ssh.sequence]
runs_in = "daemon"
steps = ["tcp/7000", "udp/8000", "tcp/9000"]
within = "5s"
[doors.ssh.commands]
open = ["/usr/bin/logger", "open for %IP%"]
close = ["/usr/bin/logger", "shut for %IP%"]
"""


class Replay:
    """Feeds packets, numbered and stamped as in a file."""

    def __init__(self, gate: str, *hosts: str, one_time: dict[str, list[Line]] | None = None) -> None:
        self.simulation = Simulation(parse(gate), hosts=list(map(raw, hosts)), one_time=one_time)
        self.now = 1000.0
        self._number = 0

    def feed(self, packet: bytes, way: Way = Way.UNKNOWN, *, length: int | None = None) -> Step:
        self._number += 1
        stamp = round(self.now * 10**9)
        return self.simulation.feed(
            Captured(self._number, stamp, packet, len(packet) if length is None else length, way)
        )

    def knock(self, *packets: str, source: str = CLIENT, to: str = HOST, after: float = 0.1) -> list[Step]:
        """``t7000``, ``u8000``, ``f22`` (a FIN) or ``a22`` (an ACK), each so many seconds after the other."""
        steps = []
        for packet in packets:
            self.now += after
            port, flags = int(packet[1:]), {"t": SYN, "f": FIN, "a": ACK}.get(packet[0], 0)
            inner = udp(port) if packet[0] == "u" else tcp(port, flags=flags)
            protocol = 17 if packet[0] == "u" else 6
            steps.append(self.feed(ipv4(inner, protocol, source=source, destination=to)))
        return steps


def told(steps: list[Step]) -> list[str]:
    return [step.why for step in steps]


# --- the daemon's doors -------------------------------------------------------------------------------


def test_the_daemons_sequence_opens_and_runs_commands() -> None:
    """Its knocks are dropped by the table, and followed by the engine, which has a total time."""
    replay = Replay(DAEMON)
    first, second, last = replay.knock("t7000", "u8000", "t9000")
    heard = "a knock that the daemon listens for"
    assert told([first, second, last]) == [
        f"{heard}; the daemon's first knock",
        f"{heard}; a sequence of the daemon's is under way",
        f"{heard}; the daemon's last knock",
    ]
    assert last.opened == ("ssh",) and last.verdict is Verdict.DROPPED
    assert last.effects == (
        "opens ssh for 15s",
        "runs /usr/bin/logger 'open for 10.0.0.2'",
        "after 15s /usr/bin/logger 'shut for 10.0.0.2'",
    )
    assert [step.verdict for step in replay.knock("t22", source=CLIENT)] == [Verdict.PASSED]
    assert [step.verdict for step in replay.knock("t22", source=OTHER)] == [Verdict.DROPPED]
    slow = [*replay.knock("t7000"), *replay.knock("u8000", "t9000", after=2.5)]
    assert not any(step.opened for step in slow) and told(slow)[-1].endswith(
        "no sequence of the daemon's is under way"
    )
    stray = [*replay.knock("t7000"), *replay.knock("t5000")]
    assert stray[1].reset and told(stray)[1] == "no port of the gate; resets a sequence of the daemon's"


def test_one_time_sequences_are_spent_one_after_the_other() -> None:
    gate = '[doors.ssh]\nports = ["tcp/22"]\nsequence = { runs_in = "daemon", one_time = "/x" }'
    lines: list[Line] = [(3, (Port(Protocol.TCP, 1),)), (7, (Port(Protocol.TCP, 2), Port(Protocol.TCP, 3)))]
    replay = Replay(gate, one_time={"ssh": lines})
    steps = replay.knock("t2", "t3", "t1", "t1", "t2", "t3", "t2", "t3")
    assert [step.number for step in steps if step.opened] == [3, 6]
    assert [step.effects for step in steps if step.opened] == [
        ("spends line 3 of /x", "opens ssh for 15s"),
        ("spends line 7 of /x", "opens ssh for 15s"),
    ]
    assert not Replay(gate).knock("t1")[0].opened  # nobody has read the file: as if all were used


def test_a_daemon_that_can_open_no_more_runs_nothing() -> None:
    replay = Replay(DAEMON.replace("[gate]", "[gate]\nleases = 16"))
    steps = [replay.knock("t7000", "u8000", "t9000", source=f"10.0.1.{n}")[-1] for n in range(17)]
    assert [bool(step.opened) for step in steps] == [True] * 16 + [False]
    assert steps[-1].effects == ("cannot open ssh: no room for another lease",)


def test_flags_and_a_target_behind_the_host() -> None:
    gate = DAEMON.replace("within", f'flags = ["fin", "!ack"]\ntarget = "{OTHER}"\nwithin')
    replay = Replay(gate, HOST)
    assert replay.knock("f7000", "u8000", "f9000", to=OTHER)[-1].opened == ("ssh",)
    assert not replay.knock("f7000", "u8000", "f9000", to=HOST)[-1].opened
    assert not replay.knock("t7000", "u8000", "t9000", to=OTHER)[-1].opened


# --- which way ----------------------------------------------------------------------------------------


def test_what_the_capture_notes_comes_first() -> None:
    """Only what comes in, to us, is judged; what everybody gets is no knock, but a door shuts it out."""
    replay = Replay(KERNEL)
    knock = ipv4(tcp(7000))
    expected = {
        Way.UNKNOWN: (Verdict.DROPPED, "a first knock"),
        Way.IN: (Verdict.DROPPED, "a first knock"),
        Way.OUT: (None, "sent by this host"),
        Way.ELSEWHERE: (None, "to another machine on the wire"),
        Way.LOOPBACK: (Verdict.PASSED, "from this host to itself"),
        Way.ALL: (Verdict.PASSED, "a knock port, but addressed to everybody"),
    }
    steps = {way: replay.feed(knock, way) for way in expected}
    assert {way: (step.verdict, step.why) for way, step in steps.items()} == expected
    assert replay.feed(ipv4(udp(22), 17), Way.ALL).why == "door ssh is shut, and resets its sequence"


def test_named_hosts_decide() -> None:
    replay = Replay(KERNEL, HOST, "fd00::1")
    for to in (OTHER, "224.0.0.1"):
        assert replay.knock("t7000", to=to)[0].verdict is Verdict.PASSED
    assert [replay.knock("u22", to=to)[0].verdict for to in (OTHER, "224.0.0.1")] == [
        Verdict.PASSED,
        Verdict.DROPPED,
    ]
    assert replay.feed(ipv6(tcp(7000), source="fd00::2")).why == "a first knock"
    assert replay.knock("t7000", source=HOST, to=OTHER)[0].why == "sent by this host"
    assert replay.knock("t22", source=HOST, to=HOST)[0].verdict is Verdict.PASSED
    assert replay.knock("t22", to=HOST)[0].verdict is Verdict.DROPPED


def test_without_hosts_answers_are_known() -> None:
    """The capture comes from a host that had no gate: its answers are not taken for knocks."""
    replay = Replay(KERNEL)
    assert replay.feed(ipv4(tcp(22, source_port=7000))).verdict is Verdict.DROPPED
    answer = replay.feed(ipv4(tcp(7000, source_port=22, flags=SYN | ACK), source=HOST, destination=CLIENT))
    assert (answer.verdict, answer.why) == (None, "answers what the gate would have dropped")
    assert replay.feed(ipv4(tcp(22, source_port=7000, flags=ACK))).verdict is Verdict.DROPPED
    assert replay.feed(ipv4(udp(53), 17)).verdict is Verdict.PASSED
    reply = replay.feed(ipv4(udp(40000, source_port=53), 17, source=HOST, destination=CLIENT))
    assert reply.why == "of a session under way"
    assert replay.simulation.summary.destinations == [HOST]


def test_a_session_from_before_the_capture_is_let_in() -> None:
    replay = Replay(KERNEL)
    assert [step.verdict for step in replay.knock("a22", "a22")] == [Verdict.PASSED] * 2
    assert replay.feed(ipv4(tcp(22, source_port=1, flags=RST))).verdict is Verdict.DROPPED
    assert replay.feed(ipv4(tcp(22, source_port=2, flags=FIN))).verdict is Verdict.DROPPED
    assert replay.feed(ipv4(tcp(22, source_port=3, flags=SYN))).verdict is Verdict.DROPPED


# --- odd captures -------------------------------------------------------------------------------------


def test_time_that_runs_backwards_stands_still() -> None:
    replay = Replay(KERNEL)
    replay.knock("t5000")
    (first,) = replay.knock("t7000", after=10)
    (second,) = replay.knock("t8000", after=-3)
    assert (first.time, second.time, second.opened) == (10.0, 10.0, ("ssh",))
    assert replay.simulation.summary.backwards == 1


@pytest.mark.parametrize(
    ("packet", "length", "verdict", "why"),
    [
        (b"", 60, None, "no IP"),
        (ipv4(tcp(7000), header_words=4), 40, None, "its headers are wrong"),
        (ipv4(tcp(7000))[:32], 40, None, "the capture has cut its headers off"),
        (ipv4(tcp(7000))[:39], 40, None, "the capture has cut its headers off"),
        (ipv4(tcp(7000))[:39], 39, None, "the capture has cut its headers off"),
        (
            ipv4(tcp(7000), fragment=0x2000),
            40,
            None,
            "a fragment: the kernel puts it together first, which is not done here",
        ),
        (ipv4(b"ping", 1), 24, Verdict.PASSED, "neither TCP nor UDP"),
        (ipv4(udp(22, payload=b"x" * 900), 17)[:60], 928, Verdict.DROPPED, "door ssh is shut"),
        (ipv4(tcp(7000)), 1 << 40, Verdict.DROPPED, "a first knock"),
        (ipv4(tcp(0)), 40, Verdict.PASSED, "no port of the gate"),
    ],
)
def test_what_is_cut_off_or_odd(packet: bytes, length: int, verdict: Verdict | None, why: str) -> None:
    step = Replay(KERNEL).feed(packet, length=length)
    assert (step.verdict, step.why) == (verdict, why)


WHOLE = [ipv4(tcp(7000)), ipv4(udp(22), 17), ipv6(tcp(22)), ipv6(udp(6500), 17)]
MANGLED = st.builds(
    lambda whole, at, tail: whole[:at] + tail,
    st.sampled_from(WHOLE),
    st.integers(0, 60),
    st.binary(max_size=40),
)
BOTH = parse(
    KERNEL
    + DAEMON.replace("[gate]\ninterface", "#").replace("ssh", "web").replace("/22", "/23").replace("/7", "/6")
)


@settings(max_examples=50)
@given(st.lists(st.tuples(MANGLED, st.sampled_from(list(Way)), st.integers(0, 1 << 70)), max_size=8))
def test_any_packet_gets_a_step(packets: list[tuple[bytes, Way, int]]) -> None:
    simulation = Simulation(BOTH)
    for number, (packet, way, stamp) in enumerate(packets, 1):
        step = simulation.feed(Captured(number, stamp, packet, len(packet), way))
        assert step.number == number and step.why
    assert simulation.summary.packets == len(packets)
