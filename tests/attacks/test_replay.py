"""Somebody has recorded a knock of each kind, all of its packets, and sends them again.

What a plain sequence is worth then, the page on security says: who has seen one has it. So it opens again,
for who watched as well, and that is asserted as much as that nothing else does. Beside each replay is a new
knock of the same kind, which opens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.attacks.figures import figure
from tests.attacks.lanes import (
    DAEMON,
    FLAGS,
    FWKNOP,
    KERNEL,
    ONCE,
    SEALED,
    SPA,
    Lanes,
    Packets,
    from_elsewhere,
    lanes,
    let_in,
    recorded,
    sealed,
    steps,
    udp_ip,
    wire,
)
from tests.netns import Sender, isolated, until

from knockgate.spa.sealed import KeyKind, Suite

WATCHER = "10.0.0.66"
PLAIN = (KERNEL, DAEMON, FLAGS)
SEQUENCES = (*PLAIN, ONCE)
AT_ONCE, LATER, ELSEWHERE = "at once", "later", "elsewhere"
BACKWARDS, AFTER_A_RESTART = "backwards", "after a restart"
WAYS = {AT_ONCE: True, LATER: True, ELSEWHERE: True, BACKWARDS: False, AFTER_A_RESTART: True}
"""How it is sent again, and whether a plain sequence opens then; all other knocks never do.

Later is when the lease has ended. Elsewhere is the address of who watched.
"""


class Story:
    """Everybody who knocks has an address of their own, so that nobody's packets are too many."""

    def __init__(self, gate: Lanes, cable: Sender) -> None:
        self.gate, self._cable = gate, cable
        self._people = self._lines = 0
        self._counts: dict[str, dict[str, int]] = {}
        self._known: Counter[str] = Counter()
        self._honest: Counter[str] = Counter()

    def send(self, *packets: bytes) -> None:
        for each in packets:
            self._cable.send(each)

    def somebody(self) -> str:
        self._people += 1
        return f"10.0.1.{self._people}"

    def new(self, kind: str) -> tuple[str, Packets]:
        """A knock that nobody has made yet, and whose."""
        source = self.somebody()
        if kind in SPA:
            return source, [udp_ip(SPA[kind].port, source, SPA[kind].make(source))]
        packets = steps(kind, source, once=self._lines)
        self._lines += kind == ONCE
        return source, packets

    def gets_in(self, kind: str) -> tuple[str, Packets]:
        """Somebody, with a knock that is recorded; also the control behind each attack."""
        door = SPA[kind].door if kind in SPA else kind
        source, packets = self.new(kind)
        before = self.gate.opened(door)
        seen = recorded(lambda: self.send(*packets), len(packets))
        assert seen == packets
        until(lambda: source in let_in(door) and self.gate.opened(door) > before, f"{kind} opens")
        self._honest[kind] += 1
        return source, seen

    def note(self, kind: str, way: str, *, opens: int, wrongly: int = 0) -> None:
        """``opens``: how often, as is known of that way; ``wrongly``: how often beyond that."""
        assert wrongly == 0, (kind, way)
        self._counts.setdefault(kind, {})[way] = opens
        self._known[kind] += opens

    def tell(self) -> None:
        for kind, opens in self._counts.items():
            figure(
                f"replay.{kind}",
                tries=len(opens),
                wrongly=0,
                known=self._known[kind],
                rightly=self._honest[kind],
                control="a new knock of the kind opens before and behind each",
                opens=opens,
            )


def _sent(way: str, packets: Packets) -> Packets:
    if way == ELSEWHERE:
        return [from_elsewhere(each, WATCHER) for each in packets]
    return packets[::-1] if way == BACKWARDS else packets


@isolated
def test_sequences(tmp_path: Path) -> None:
    """A plain one opens for whoever has seen it, in its order; a one-time sequence opens once."""
    with lanes(tmp_path) as gate, wire() as cable:
        story = Story(gate, cable)
        for way in WAYS:
            knocks = {kind: story.gets_in(kind) for kind in SEQUENCES}
            if way == AFTER_A_RESTART:
                gate.restart()
            for kind, (source, seen) in knocks.items():
                if way != AT_ONCE:
                    gate.close()
                _sequence_again(story, kind, way, WATCHER if way == ELSEWHERE else source, seen)
            gate.close()
        _each_packet_twice(story)
        story.tell()


def _sequence_again(story: Story, kind: str, way: str, source: str, seen: Packets) -> None:
    gate = story.gate
    before = gate.opened(kind)
    story.send(*_sent(way, seen))
    story.gets_in(kind)  # the control; what came before it has been looked at
    opens = WAYS[way] and kind in PLAIN
    until(lambda: gate.opened(kind) >= before + 1 + opens, f"{kind} {way}")
    wrongly = gate.opened(kind) - before - 1 - opens
    assert (source in let_in(kind)) == (opens or way == AT_ONCE), (kind, way)
    story.note(kind, way, opens=int(opens), wrongly=wrongly)


def _each_packet_twice(story: Story) -> None:
    """A line that stutters is no attack: a repeated step counts once, and the knock opens."""
    for kind in SEQUENCES:
        source, packets = story.new(kind)
        opened = story.gate.opened(kind)
        story.send(*(each for packet in packets for each in (packet, packet)))
        story.gets_in(kind)
        assert source in let_in(kind) and story.gate.opened(kind) == opened + 2
        story.note(kind, "each packet twice, beyond once", opens=0)


@isolated
def test_single_packets(tmp_path: Path) -> None:
    """None opens a second time, whoever sends it, and it is counted as what it is."""
    with lanes(tmp_path) as gate, wire() as cable:
        story = Story(gate, cable)
        for way in WAYS:
            knocks = {kind: story.gets_in(kind)[1] for kind in SPA}
            if way == AFTER_A_RESTART:
                gate.restart()
            for kind, seen in knocks.items():
                if way != AT_ONCE:
                    gate.close()
                _packet_again(story, kind, way, seen)
            gate.close()
        for kind in SPA:
            _two_at_once(story, kind)
            _of_an_onlooker_first(story, kind)
        _in_another_order(story)
        story.tell()


def _packet_again(story: Story, kind: str, way: str, seen: Packets) -> None:
    gate, door = story.gate, SPA[kind].door
    opened, before, inside = gate.opened(door), _replays(gate, door), let_in(door)
    story.send(*_sent(way, seen))
    until(lambda: _replays(gate, door) > before, f"{kind} {way} is refused")
    assert _replays(gate, door) == before + 1
    wrongly = gate.opened(door) - opened
    assert let_in(door) == inside
    story.gets_in(kind)  # the control
    story.note(kind, way, opens=0, wrongly=wrongly)


def _replays(gate: Lanes, door: str) -> int:
    refused = gate.refused(door)
    assert refused.keys() <= {"replayed", "duplicate"}, refused
    return sum(refused.values())


def _two_at_once(story: Story, kind: str) -> None:
    """Two copies, one behind the other, before anything was answered: one opens."""
    gate, door = story.gate, SPA[kind].door
    opened, before = gate.opened(door), _replays(gate, door)
    source, packets = story.new(kind)
    story.send(*packets, *packets)
    until(lambda: _replays(gate, door) > before, f"{kind} twice")
    wrongly = gate.opened(door) - opened - 1
    assert source in let_in(door)
    gate.close()
    story.note(kind, "two copies at once, beyond once", opens=0, wrongly=wrongly)


def _of_an_onlooker_first(story: Story, kind: str) -> None:
    """Held back and delivered from elsewhere: for the address in it; where it has none, for who brings it."""
    gate, door = story.gate, SPA[kind].door
    for stated in (True, False):
        source = story.somebody()
        packet = udp_ip(SPA[kind].port, source, SPA[kind].make(source if stated else ""))
        before = _replays(gate, door)
        story.send(from_elsewhere(packet, WATCHER))
        until(lambda: let_in(door), f"{kind} is delivered")
        assert let_in(door) == ({source} if stated else {WATCHER}), (kind, stated)
        story.send(packet)  # its owner comes second
        until(lambda: _replays(gate, door) > before, f"{kind} of its owner")  # noqa: B023
        assert let_in(door) == ({source} if stated else {WATCHER})
        gate.close()
        story.note(kind, f"delivered by another, address {'stated' if stated else 'observed'}", opens=1)


def _in_another_order(story: Story) -> None:
    """Of two knocks of one device, the second one first: the first is dead for us, and alive for fwknop's."""

    def of_device(suite: Suite) -> Callable[[str], bytes]:
        device = suite.name.encode().ljust(16)
        return lambda source: sealed(source, suite, device=device, kind=KeyKind.ED25519)

    made: tuple[tuple[str, str, Callable[[str], bytes], bool], ...] = (
        ("X-Wing", SEALED, of_device(Suite.XWING), False),
        ("X25519", SEALED, of_device(Suite.X25519), False),
        ("fwknop", FWKNOP, SPA["fwknop"].make, True),
    )
    for kind, door, make, lives in made:
        earlier, later = story.somebody(), story.somebody()
        older, newer = (udp_ip(SPA[kind].port, each, make(each)) for each in (earlier, later))
        before = _replays(story.gate, door)
        story.send(newer)
        until(lambda: let_in(door) == {later}, "the later one")  # noqa: B023
        story.send(older)
        if lives:
            until(lambda: let_in(door) == {earlier, later}, "the earlier one")  # noqa: B023
        else:
            until(lambda: _replays(story.gate, door) > before, "the earlier one is refused")  # noqa: B023
            assert let_in(door) == {later}
        story.gate.close()
        story.note(kind, "the older behind the newer", opens=int(lives))
