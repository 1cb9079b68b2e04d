"""One packet after the other: what becomes of it, and why. Touches no kernel, no clock and no file.

The packet path is the table's, in memory (``firewall.memory``); the sequences of the daemon's doors are
followed by the daemon's own engine. Time is the capture's. Where that runs backwards it stands still.

Which way a packet went is decided by the first of these that tells:

* the capture itself: ``tcpdump -i any`` notes who sent a packet, and so may pcapng;
* ``hosts``, the addresses that are this host's own. Then other destinations are only routed;
* without them every destination counts as this host's, but a packet that answers an earlier one, to the
  port and from the port, is taken for the answer: it is not judged as a stranger's. Group addresses are
  everybody's.

A TCP packet to a door that opens no connection, and whose connection's beginning is not in the capture,
is taken for one of a session that was let in before. All that comes in counts as come by the guarded
interface.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured
from knockgate.config.arming import Line
from knockgate.config.doors import Configuration
from knockgate.errors import Reason, Refused
from knockgate.firewall.memory import MemoryFirewall, Place, Reach, Ruling, Verdict
from knockgate.mechanisms.packet import Bearer
from knockgate.model import Observation, Protocol, Shadow, Source, TcpFlag, address_text
from knockgate.simulate.listening import NOTHING_HEARD, Heard, Listening, opening
from knockgate.simulate.packets import PacketListening
from knockgate.simulate.sealed import SealedKeys, SealedListening
from knockgate.wire.frames import observe

__all__ = ["Simulation", "Step", "Summary"]

_NANO = 10**9
#: The longest packet that IP knows: a capture may claim any length for one that it cut off.
_LONGEST = 40 + 65535
_MOST_DESTINATIONS = 8
_MIDDLE = TcpFlag.SYN | TcpFlag.RST | TcpFlag.ACK
_LOOPBACK6 = bytes(15) + b"\x01"

_NOT_JUDGED = {
    Reason.NO_PORTS: (Verdict.PASSED, "neither TCP nor UDP"),
    Reason.FRAGMENT: (None, "a fragment: the kernel puts it together first, which is not done here"),
    Reason.TRUNCATED: (None, "the capture has cut its headers off"),
    Reason.BAD_HEADER: (None, "its headers are wrong"),
    Reason.NOT_IP: (None, "no IP"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One packet, and what became of it."""

    number: int  #: in the file, from 1
    time: float  #: seconds since its first packet
    verdict: Verdict | None  #: None where it is none of the gate's business, or cannot be judged
    why: str
    source: str = ""  #: address; empty, as the next two, where the headers could not be read
    destination: str = ""
    what: str = ""  #: ``tcp/7000 SYN``, ``udp/8000``
    place: Place = Place.NONE
    opened: tuple[str, ...] = ()  #: doors
    effects: tuple[str, ...] = ()  #: what is done beside letting it pass or not, in words
    reset: bool = False  #: it made an end of a half-made sequence of its source
    would_drop: bool = False  #: it passed because its door is in shadow


@dataclass(slots=True)
class Summary:
    """All packets so far."""

    packets: int = 0
    seconds: float = 0.0  #: from the first to the last
    opened: dict[str, int] = field(default_factory=dict)  #: how often, by door
    reset: int = 0
    dropped_at_doors: int = 0
    would_drop: int = 0  #: packets that passed a door because it is in shadow
    backwards: int = 0  #: packets stamped earlier than one before them
    destinations: list[str] = field(default_factory=list)  #: taken for this host; the first few


class _Side(enum.Enum):
    """Whose packet it is, where the table does not look at it as at a stranger's."""

    LOOPBACK = "from this host to itself"
    OUT = "sent by this host"
    ANSWER = "an answer"
    ELSEWHERE = "to another machine on the wire"


class Simulation:
    """A gate that is fed with captured packets, one after the other."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        hosts: Collection[Source] = (),
        one_time: Mapping[str, Sequence[Line]] | None = None,
        bearers: Sequence[Bearer] = (),
        sealed: SealedKeys | None = None,
    ) -> None:
        """``hosts``: this host's addresses, if it is to be told. ``one_time``: unused lines, by door.

        ``bearers``: who has a key of fwknop's. Without ``sealed`` no sealed packet opens anything.
        Raises ConfigError where the kernel could not follow the sequences.
        """
        self.summary = Summary()
        self._hosts = frozenset(hosts)
        self._hears_loopback = not configuration.gate.interface
        self._doors = {door.name: door for door in configuration.doors}
        self._firewall = MemoryFirewall(configuration, lambda: self._now)
        self._firewall.load("")
        self._listening = Listening(configuration, one_time or {}, self._firewall)
        self._of_keys = (
            PacketListening(configuration, bearers, self._firewall),
            SealedListening(configuration, sealed, self._firewall),
        )
        self._began: int | None = None
        self._now = 0.0

    def feed(self, captured: Captured) -> Step:
        """Take the next packet."""
        self._pass_time(captured.time)
        try:
            seen = _observe(captured)
        except Refused as refused:
            verdict, why = _NOT_JUDGED[refused.reason]
            step = Step(captured.number, self._now, verdict, why)
        else:
            step = self._step(captured, seen)
        self._count(step)
        return step

    def shadow(self) -> Shadow:
        """What came to ports in shadow so far."""
        return self._firewall.shadow()

    def _pass_time(self, stamp: int) -> None:
        if self._began is None:
            self._began = stamp
        now = (stamp - self._began) / _NANO
        self.summary.backwards += now < self._now
        self._now = max(self._now, now)

    def _step(self, captured: Captured, seen: Observation) -> Step:
        side = self._side(captured.way, seen)
        verdict: Verdict | None
        heard = NOTHING_HEARD
        if isinstance(side, Reach):
            ruling = self._judge(seen, side)
            verdict, why, place = ruling.verdict, ruling.why, ruling.place
            opened, reset, would_drop = ruling.opened, ruling.reset, ruling.would_drop
            heard = self._heard(captured, seen, local=side is Reach.LOCAL)
        else:
            verdict, why = self._aside(seen, side)
            place, opened, reset, would_drop = Place.NONE, (), False, False
            if side is _Side.LOOPBACK and self._hears_loopback:
                heard = self._heard(captured, seen, local=True)
        return Step(
            captured.number,
            self._now,
            verdict,
            f"{why}; {heard.why}" if heard.why else why,
            source=address_text(seen.source),
            destination=address_text(seen.destination),
            what=_what(seen),
            place=heard.place if place is Place.NONE else place,
            opened=opened + heard.opened,
            effects=tuple(opening(self._doors[name]) for name in opened) + heard.effects,
            reset=reset or heard.reset,
            would_drop=would_drop,
        )

    def _heard(self, captured: Captured, seen: Observation, *, local: bool) -> Heard:
        heard = self._listening.hear(seen, self._now, local=local)
        if heard is NOTHING_HEARD and local:
            wall = (self._began or 0) / _NANO + self._now
            for listening in self._of_keys:  # they have different ports
                if heard is NOTHING_HEARD:
                    heard = listening.hear(seen, captured.packet, wall, self._now)
        return heard

    def _side(self, way: Way, seen: Observation) -> Reach | _Side:
        mine = seen.source in self._hosts
        if way is Way.LOOPBACK or _is_loopback(seen.source) or (mine and seen.destination in self._hosts):
            return _Side.LOOPBACK
        if way is Way.OUT or mine:
            return _Side.OUT
        if way is Way.ELSEWHERE:
            return _Side.ELSEWHERE
        if seen.destination in self._hosts:
            return Reach.LOCAL
        if not self._hosts and way is Way.UNKNOWN and self._firewall.sessions.answers(seen):
            return _Side.ANSWER
        if way is Way.ALL or _is_group(seen.destination):
            return Reach.GROUP
        return Reach.TRANSIT if self._hosts else Reach.LOCAL

    def _judge(self, seen: Observation, reach: Reach) -> Ruling:
        if reach is Reach.LOCAL:
            self._note_destination(address_text(seen.destination))
        sessions = self._firewall.sessions
        is_middle = seen.protocol == Protocol.TCP and seen.flags & _MIDDLE == TcpFlag.ACK
        is_unknown = is_middle and not sessions.knows(seen) and not sessions.answers(seen)
        ruling = self._firewall.judge(seen, reach)
        is_kept_out = ruling.verdict is Verdict.DROPPED or ruling.would_drop
        if is_unknown and ruling.place is Place.DOOR and is_kept_out:
            sessions.adopt(seen)
            return Ruling(Verdict.PASSED, "of a session from before the capture")
        return ruling

    def _aside(self, seen: Observation, side: _Side) -> tuple[Verdict | None, str]:
        """What is said of a packet that no rule is asked about; the sessions are told of it."""
        sessions = self._firewall.sessions
        if side is _Side.OUT:
            sessions.note(seen, let_in=True)
        if side is _Side.ANSWER:
            is_under_way = sessions.under_way(seen)
            sessions.note(seen, let_in=False)
            if is_under_way:
                return Verdict.PASSED, "of a session under way"
            return None, "answers what the gate would have dropped"
        return Verdict.PASSED if side is _Side.LOOPBACK else None, side.value

    def _note_destination(self, address: str) -> None:
        known = self.summary.destinations
        if address not in known and len(known) < _MOST_DESTINATIONS:
            known.append(address)

    def _count(self, step: Step) -> None:
        summary = self.summary
        summary.packets += 1
        summary.seconds = self._now
        summary.reset += step.reset
        summary.dropped_at_doors += step.place is Place.DOOR and step.verdict is Verdict.DROPPED
        summary.would_drop += step.would_drop
        for door in step.opened:
            summary.opened[door] = summary.opened.get(door, 0) + 1


# --- packets ------------------------------------------------------------------------------------------


def _what(seen: Observation) -> str:
    """``tcp/7000 SYN``, ``udp/8000``."""
    flags = "+".join(flag.name or "" for flag in TcpFlag(seen.flags & 0x3F))
    return f"{Protocol(seen.protocol).name.lower()}/{seen.port} {flags}".rstrip()


def _observe(captured: Captured) -> Observation:
    """The headers of a packet, also of one whose payload the capture has cut off; raises Refused."""
    packet = captured.packet
    if not packet:
        raise Refused(Reason.NOT_IP)
    length = min(captured.length, _LONGEST)
    try:
        seen = observe(packet.ljust(length, b"\0"))
    except Refused as refused:
        if refused.reason is Reason.BAD_HEADER and len(packet) < length:
            raise Refused(Reason.TRUNCATED) from None
        raise
    if seen.payload > len(packet):
        raise Refused(Reason.TRUNCATED)
    return seen


def _is_loopback(address: Source) -> bool:
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK6


def _is_group(address: Source) -> bool:
    """Multicast, or the broadcast address that no network owns."""
    if len(address) == 16:
        return address[0] == 0xFF
    return 224 <= address[0] < 240 or address == b"\xff" * 4
