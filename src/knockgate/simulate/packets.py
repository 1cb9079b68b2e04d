"""What the daemon would make of fwknop's packets: its mechanism, a store in memory, the capture's own time.

The capture's time is taken for a clock that can be relied on, whatever the configuration says of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from knockgate.config.doors import Configuration
from knockgate.effects import (
    ClaimToken,
    DatagramSeen,
    KnockRefused,
    OpenDoor,
    PacketEffect,
    RunCommands,
    TokenSettled,
)
from knockgate.errors import Refused
from knockgate.firewall.memory import MemoryFirewall, Place
from knockgate.mechanisms.packet import Bearer, Packets
from knockgate.model import Moment, Observation, Port, Protocol
from knockgate.refusals import refusal_in_words
from knockgate.simulate.listening import NOTHING_HEARD, Heard
from knockgate.simulate.openings import Openings
from knockgate.store.memory import MemoryStore
from knockgate.wire.frames import datagram

__all__ = ["PacketListening"]


class PacketListening:
    """The half of the gate that listens, as far as packets go."""

    def __init__(
        self, configuration: Configuration, bearers: Sequence[Bearer], firewall: MemoryFirewall
    ) -> None:
        """Without ``bearers`` it hears nothing."""
        self._doors = {door.name: door for door in configuration.doors}
        self._firewall = firewall
        self._port: Port | None = None
        if configuration.fwknop and bearers:
            fwknop = configuration.fwknop
            self._port = fwknop.port
            self._packets = Packets(bearers, fresh=fwknop.freshness)
            self._store = MemoryStore(fresh=fwknop.freshness, limit=fwknop.remembered)

    def hear(self, seen: Observation, packet: bytes, now: float, up: float) -> Heard:
        """What the daemon does about a packet for this host.

        ``now`` is seconds since 1970, ``up`` since the capture began.
        """
        if seen.protocol != Protocol.UDP or self._port is None or seen.port != self._port.number:
            return NOTHING_HEARD
        moment = Moment(now, True, up, "the capture's")  # noqa: FBT003 - a tuple of its own
        try:
            payload = datagram(packet).payload
        except Refused:
            return Heard("the capture has cut off what is in it", Place.KNOCK)
        (effect,) = self._packets.feed(DatagramSeen(payload, seen.source, moment))
        key = ""
        effects: tuple[PacketEffect, ...] = (effect,)
        if isinstance(effect, ClaimToken):
            key = effect.token.key
            claim = self._store.claim(effect.token, moment)
            effects = self._packets.feed(TokenSettled(effect.token, claim, moment))
            self._store.settle(effect.token)
        return self._told(effects, key)

    def _told(self, effects: Sequence[PacketEffect], key: str) -> Heard:
        openings = Openings(self._doors, self._firewall)
        for effect in effects:
            if isinstance(effect, KnockRefused):
                whose = f"a packet of {effect.key}" if effect.key else "a packet"
                return Heard(f"{whose} is refused: {refusal_in_words(effect)}", Place.KNOCK)
            if isinstance(effect, OpenDoor):
                openings.open(effect)
            elif isinstance(effect, RunCommands):
                openings.run(effect)
        return Heard(f"a packet of {key}", Place.KNOCK, tuple(openings.opened), tuple(openings.said))
