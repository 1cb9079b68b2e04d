"""What the daemon would make of sealed packets: its mechanism, marks in memory, the capture's own time.

The capture's time is taken for a clock that the gate is sure of, whatever the configuration says of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from knockgate.config.doors import Configuration
from knockgate.effects import DatagramSeen, KnockRefused, KnockTaken, OpenDoor, RunCommands
from knockgate.errors import Refused
from knockgate.firewall.memory import MemoryFirewall, Place
from knockgate.mechanisms.certainty import Blind
from knockgate.mechanisms.parties import Line
from knockgate.mechanisms.sealed import ClaimMark, LiveCard, MarkSettled, Sealed, SealedEffect, Standing
from knockgate.model import Moment, Observation, Port, Protocol, address_text
from knockgate.refusals import reason_in_words, refusal_in_words
from knockgate.simulate.listening import NOTHING_HEARD, Heard
from knockgate.simulate.openings import Openings
from knockgate.spa.sealed import Suite
from knockgate.spa.sshkeys import fingerprint_text
from knockgate.store.marks_memory import MemoryMarks
from knockgate.wire.frames import datagram

__all__ = ["SealedKeys", "SealedListening"]


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """What a gate has besides its configuration, to judge sealed packets by."""

    cards: Sequence[LiveCard]
    find: Callable[[bytes], Sequence[Line]]  #: the lines on which a key of that SHA-256 stands
    suites: Collection[Suite]
    standings: Mapping[bytes, Standing]  #: by what stands for a device in the gate's store
    salt: bytes  #: of that store: 32 bytes


class SealedListening:
    """The half of the gate that listens, as far as sealed packets go."""

    def __init__(
        self, configuration: Configuration, keys: SealedKeys | None, firewall: MemoryFirewall
    ) -> None:
        """Without ``keys`` it hears nothing."""
        self._doors = {door.name: door for door in configuration.doors}
        self._firewall = firewall
        self._port: Port | None = None
        if configuration.sealed and keys:
            marks = MemoryMarks(devices=configuration.sealed.devices, salt=keys.salt)
            self._port = configuration.sealed.port
            self._lengths = frozenset(suite.length for suite in keys.suites)
            self._marks = marks
            self._sealed = Sealed(
                keys.cards,
                keys.find,
                lambda device: keys.standings.get(marks.row(device), Standing.UNSAID),
                suites=keys.suites,
                budget=configuration.sealed.budget,
                certain=Blind(),
            )

    def hear(self, seen: Observation, packet: bytes, now: float, up: float) -> Heard:
        """What the daemon does about a packet for this host.

        ``now`` is seconds since 1970, ``up`` since the capture began.
        """
        if seen.protocol != Protocol.UDP or self._port is None or seen.port != self._port.number:
            return NOTHING_HEARD
        try:
            payload = datagram(packet).payload
        except Refused:
            return Heard("the capture has cut off what is in it", Place.KNOCK)
        if len(payload) not in self._lengths:  # the daemon's socket is not given it
            return Heard("no sealed packet has its length", Place.KNOCK)
        moment = Moment(now, True, up, "the capture's")  # noqa: FBT003 - a tuple of its own
        self._sealed.look_at_clock(moment)  # before the first one, as the daemon does when it starts
        effects = self._sealed.feed(DatagramSeen(payload, seen.source, moment))
        claim = next((effect for effect in effects if isinstance(effect, ClaimMark)), None)
        if claim:
            verdict = self._marks.claim(
                claim.key, claim.device, claim.date, claim.taken, claim.floor, may_spend=claim.may_spend
            )
            effects = self._sealed.feed(MarkSettled(verdict, moment))
        return self._told(effects)

    def _told(self, effects: Sequence[SealedEffect]) -> Heard:
        openings, why = Openings(self._doors, self._firewall), ""
        for effect in effects:  # what concerns the clock is kept nowhere here
            match effect:
                case KnockRefused():
                    why = _refused_in_words(effect)
                case OpenDoor():
                    openings.open(effect)
                case RunCommands():
                    openings.run(effect)
                case KnockTaken():
                    why = f"a sealed packet of {effect.story.key}"
        return Heard(why, Place.KNOCK, tuple(openings.opened), tuple(openings.said))


def _refused_in_words(refused: KnockRefused) -> str:
    """Whose it is as far as that is certain, or else what it says itself; and why."""
    story = refused.story
    if story is None:  # junk, and what came before: the mechanism looks at no more of it
        why = reason_in_words(refused.reason, sealed=True)
        relayed = ", from another sender" if refused.asked else ""
        sender = address_text(refused.sender)
        return f"a packet is refused: {refused.reason.value}: {why}{relayed} (from {sender})"
    whose = f"a packet with the card {story.card}"
    if refused.key is not None:
        whose = f"a sealed packet of {refused.key}"
    elif story.fingerprint:
        key = fingerprint_text(story.fingerprint)
        whose = f"a sealed packet with the card {story.card} that names the key {key}"
    return f"{whose} is refused: {refusal_in_words(refused)}"
