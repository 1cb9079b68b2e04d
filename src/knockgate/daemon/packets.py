"""The doors that open to a single packet: feeds the mechanism, claims what it wants claimed, opens.

Nothing opens before its claim is on the disk. A claim that is not answered, because the gate ended in
between, is told of at the next start: the packet is spent, and its sender has to knock again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from knockgate.clock import KernelClock
from knockgate.config.doors import Configuration
from knockgate.daemon.addresses import OwnAddresses
from knockgate.daemon.ears import Ears, Sounds
from knockgate.daemon.hearing import Hearing, PacketHands
from knockgate.daemon.log import Event, Record
from knockgate.daemon.records import refusal_record
from knockgate.effects import (
    ClaimToken,
    DatagramSeen,
    KnockRefused,
    OpenDoor,
    PacketEffect,
    RunCommands,
    TokenSettled,
)
from knockgate.errors import Reason, Refused, Unavailable
from knockgate.mechanisms.packet import Bearer, Packets
from knockgate.model import Claim, Token, address_text
from knockgate.refusals import refusal_in_words
from knockgate.store.sqlite import SqliteStore
from knockgate.wire import frames

__all__ = ["NETWORKS", "STORE", "PacketGrants"]

STORE = "replay.sqlite"
NETWORKS = "known-networks"
#: Seconds that a look at a packet takes, about: at any, and for each key.
_LOOK, _KEY = 5e-6, 2e-6
#: Seconds for a listener of before that has been killed and is not gone yet.
_PATIENCE = 5.0
#: Refusals that are told in full, of who has a key.
_REMEMBERED = 50
#: Replayed payloads that are turned away at a glance, at most, and seconds until each is looked at again: it
#: takes fifty times as long as junk, and anybody who has captured one can send it without end.
_REPLAYS, _AGAIN = 1024, 60.0


class PacketGrants(Hearing):
    """Takes packets, in the order in which they came."""

    def __init__(self, configuration: Configuration, bearers: Sequence[Bearer], hands: PacketHands) -> None:
        """Opens the store, and ``ears``. Raises Unavailable where the disk or the kernel refuses."""
        if configuration.fwknop is None:
            raise AssertionError("a gate with keys hears packets")
        self._fwknop = configuration.fwknop
        self._doors = {door.name: door for door in configuration.doors}
        self._hands = hands
        self._clock = KernelClock(configuration.gate.clock)
        self._packets = Packets(bearers, fresh=self._fwknop.freshness)
        self._concerns = self._packets.concerns
        self._refused: Counter[Reason] = Counter()
        self.strangers: Counter[Reason] = Counter()  #: those of who has no key, or showed another's packet
        self._replays: set[bytes] = set()  # what was claimed is never claimed again, so these stay refused
        self._replays_until = 0.0
        self._recent: deque[tuple[KnockRefused, float]] = deque(maxlen=_REMEMBERED)
        self._opened = 0
        self._store = _opened(configuration)
        for token in self._store.unsettled():
            self._hands.complain(
                f"a knock of {token.key} for {address_text(token.source)} was accepted, but the gate ended "
                "before it had answered; if the door is shut, it has to knock again"
            )
        named = [network for bearer in bearers for network in bearer.senders]
        look = _LOOK + _KEY * len(bearers)
        sounds = Sounds(self._fwknop.port.number, self._packets.shapes, look, NETWORKS, named)
        self.ears = Ears(configuration.gate, sounds, hands.complain)
        self._own = OwnAddresses()

    def _look_at(self, packets: Sequence[bytes]) -> None:
        now = time.monotonic()
        if now >= self._replays_until:
            self._replays.clear()
            self._replays_until = now + _AGAIN
        concerns, payload, replays, junk, again = self._concerns, frames.payload, self._replays, 0, 0
        for packet in packets:  # a whole flood comes by here
            carried = payload(packet)
            if carried in replays:
                again += 1
            elif concerns(carried):
                self._consider(packet)
            else:
                junk += 1
        if junk:
            self._count(Reason.NOT_OURS, junk)
        if again:
            self._count(Reason.REPLAYED, again)

    def _rest(self) -> None:
        try:
            self._store.tidy()
        except Unavailable as error:
            self._hands.complain(str(error), "settled")

    def _consider(self, packet: bytes) -> None:
        try:
            sender, destination, payload = frames.datagram(packet)
        except Refused as refused:
            self._count(refused.reason)
            return
        if destination in self._own:
            opened, replayed = self._opened, self._refused[Reason.REPLAYED]
            self._do(self._packets.feed(DatagramSeen(payload, sender, self._clock.read())))
            if self._opened != opened:
                self.ears.opened(sender)
            if self._refused[Reason.REPLAYED] != replayed and len(self._replays) < _REPLAYS:
                self._replays.add(payload)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()
        self._own.close()

    def _do(self, effects: Iterable[PacketEffect]) -> None:
        shut: set[str] = set()
        for effect in effects:
            match effect:
                case ClaimToken():
                    self._claim(effect.token)
                case OpenDoor():
                    if not self._open(effect):
                        shut.add(effect.door)
                case RunCommands():
                    if effect.door not in shut:
                        self._hands.run_commands(self._doors[effect.door], effect.source, effect.seconds)
                case KnockRefused():
                    self._refuse(effect)

    def _claim(self, token: Token) -> None:
        moment = self._clock.read()
        try:
            claim = self._store.claim(token, moment)
        except Unavailable as error:
            claim = Claim.FAILED
            line = f"a packet of fwknop cannot be remembered, so it is refused: {error}"
            self._hands.complain(line, "fwknop store")
        self._do(self._packets.feed(TokenSettled(token, claim, moment)))
        if claim is Claim.CLAIMED:
            try:
                self._store.settle(token)
            except Unavailable as error:
                self._hands.complain(str(error), "settled")

    def _open(self, effect: OpenDoor) -> bool:
        door = self._doors[effect.door]
        seconds = effect.seconds or door.lease
        record = Record(event=Event.OPENED, by="fwknop", key=effect.key)
        is_open = self._hands.open_for_key(door, effect.source, seconds, record)
        self._opened += is_open
        return is_open

    def _refuse(self, refused: KnockRefused) -> None:
        self._count(refused.reason, stranger=refused.key is None)
        if refused.key is not None:
            self._recent.appendleft((refused, time.monotonic()))
            kind = f"{refused.key} {refused.reason.value}"
            line = f"a knock of {refused.key} is refused: {refusal_in_words(refused)}"
            self._hands.complain(line, kind, refusal_record(refused, "fwknop"))

    def _count(self, reason: Reason, count: int = 1, *, stranger: bool = True) -> None:
        self._refused[reason] += count
        if stranger:
            self.strangers[reason] += count

    def document(self) -> dict[str, object]:
        """What ``control.ask`` tells of packets."""
        moment, now = self._clock.read(), time.monotonic()
        return {
            "opened": self._opened,
            "refused": {reason.value: count for reason, count in self._refused.items()},
            "strangers": {reason.value: count for reason, count in self.strangers.items()},
            "recent_refused": [
                {
                    "key": each.key,
                    "reason": each.reason.value,
                    "why": refusal_in_words(each),
                    "sender": address_text(each.sender),
                    "skew": None if each.skew is None else round(each.skew, 1),
                    "seconds_ago": round(now - at, 1),
                }
                for each, at in self._recent
            ],
            "remembered": len(self._store),
            "room": self._fwknop.remembered,
            "synchronised": moment.synchronised,
        }


def _opened(configuration: Configuration) -> SqliteStore:
    folder = Path(configuration.gate.state_directory)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make {folder}: {error.strerror}"
        raise Unavailable(message, hint="gate.state_directory names it") from None
    fwknop = configuration.fwknop
    if fwknop is None:
        raise AssertionError("there are no packets to remember")
    return SqliteStore(folder / STORE, fresh=fwknop.freshness, limit=fwknop.remembered, patience=_PATIENCE)
