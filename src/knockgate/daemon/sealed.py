"""The doors that open to a sealed knock: feeds the mechanism, has marks moved, opens.

Nothing opens before its mark is on the disk. Who ends in between has spent the knock, and its sender has to
knock again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from knockgate.clock import KernelClock
from knockgate.config import devices
from knockgate.config.devices import Devices
from knockgate.config.doors import Configuration
from knockgate.config.gatekeys import GateKeys
from knockgate.config.keyfiles import FileState, KeyFiles, Notice, Reading
from knockgate.config.keys import SshKeys
from knockgate.daemon.addresses import OwnAddresses
from knockgate.daemon.ears import Ears, Sounds
from knockgate.daemon.gonekeys import GoneKeys
from knockgate.daemon.hearing import Hearing, PacketHands
from knockgate.daemon.log import Event, Record
from knockgate.daemon.notices import Notices
from knockgate.daemon.ownfiles import DEVICES, GATE_KEYS, MARKS, NETWORKS, own_files
from knockgate.daemon.parties import parties_of
from knockgate.daemon.records import opening_record, refusal_record
from knockgate.daemon.stories import Stories
from knockgate.effects import DatagramSeen, KnockRefused, KnockTaken, OpenDoor, RunCommands
from knockgate.errors import Reason, Refused, Unavailable
from knockgate.mechanisms import certainty
from knockgate.mechanisms.certainty import DropFloor, KeepFloor, Sure, TellStep
from knockgate.mechanisms.parties import Line
from knockgate.mechanisms.sealed import ClaimMark, LiveCard, MarkSettled, Sealed, SealedEffect, Standing
from knockgate.refusals import advice_on, refusal_in_words
from knockgate.spa.sealed import CardKeys, Suite
from knockgate.store.marks import SqliteMarks
from knockgate.wire import frames
from knockgate.world import DeviceMark

__all__ = [
    "DEVICES",
    "GATE_KEYS",
    "MARKS",
    "NETWORKS",
    "SealedGrants",
    "live_cards",
    "own_files",
    "standings_of",
    "suites_of",
]

#: Seconds that it takes to find a packet to be none of ours: at any, and for each card.
_LOOK, _CARD = 4e-6, 4e-6
#: Seconds for a listener of before that has been killed and is not gone yet.
_PATIENCE = 5.0
#: Seconds until the clock is looked at again: while the gate is not sure of the time, and once it is.
_SOON, _LATER = 60.0, 3600.0
_NANO = 10**9
#: Devices that are told of: whoever asks waits for it, and so do all knocks.
_DEVICES = 10_000
#: Flaws that are told of: of one file, and of all.
_FLAWS_OF_ONE, _FLAWS = 20, 1000


class SealedGrants(Hearing):
    """Takes packets, in the order in which they came."""

    def __init__(
        self,
        configuration: Configuration,
        keys: Sequence[SshKeys],
        hands: PacketHands,
        reading: Reading | None = None,
    ) -> None:
        """Opens the store, and ``ears``. ``reading``: who reads files of keys, where it is not we.

        Raises ConfigError for the gate's own files, Unavailable where the disk or the kernel refuses.
        """
        sealed = configuration.sealed
        if sealed is None:
            raise AssertionError("a gate with ssh keys hears sealed packets")
        folder = Path(configuration.gate.state_directory)
        own, said = own_files(configuration)
        devices.keep(folder / DEVICES)  # somebody may have written it by hand
        self._doors = {door.name: door for door in configuration.doors}
        self._hands = hands
        self._port = sealed.port
        self._clock = KernelClock(configuration.gate.clock, sticky=False)
        self._files = KeyFiles(keys, reading=reading)
        self._notices = Notices(hands.complain)
        self._parties = parties_of(configuration, keys)
        self._store = SqliteMarks(
            folder / MARKS, incarnation=own.incarnation, devices=sealed.devices, patience=_PATIENCE
        )
        self._standings = standings_of(said)
        self._stories = Stories(self._store.row, self._said_of)
        suites = suites_of(sealed.suites)
        self._sealed = Sealed(
            live_cards(own),
            self._lines,
            self._standing,
            suites=suites,
            budget=sealed.budget,
            certain=certainty.started(self._store.floor(), self._clock.read()),
        )
        self._look_at_clock()
        self._look_at_files()
        self._gone = GoneKeys(self._store, lambda key: bool(self._files.find(key)))
        self._gone_due = time.monotonic()
        cards = len(list(own.live(None)))
        shapes = [(suite.length, ()) for suite in suites]
        sounds = Sounds(sealed.port.number, shapes, _LOOK + _CARD * cards, NETWORKS)
        try:
            self.ears = Ears(configuration.gate, sounds, hands.complain)
        except Unavailable:
            self._store.close()
            raise
        self._own = OwnAddresses()

    @property
    def total(self) -> int:
        """Lines with a key that can knock."""
        return self._files.total

    def next_wakeup(self) -> float:
        """When to call ``tick`` at the latest, by the monotonic clock."""
        wakeup = self.ears.next_wakeup()
        ours = min(self._clock_due, self._gone_due)
        return ours if wakeup is None else min(wakeup, ours)

    def tick(self) -> None:
        """Do what time asks for."""
        super().tick()
        if time.monotonic() >= self._clock_due:
            self._look_at_clock()
        if time.monotonic() >= self._gone_due:
            self._forget_gone_keys()

    def close(self) -> None:
        """Keep the time that the gate is sure of, and let go of the store."""
        floor = certainty.floor_at(self._sealed.certain, self._clock.read())
        if floor is not None:
            self._keep(KeepFloor(floor))
        self._store.close()
        self._own.close()

    # --- packets --------------------------------------------------------------------------------------

    def _look_at(self, packets: Sequence[bytes]) -> None:
        concerns, payload, junk = self._sealed.concerns, frames.payload, 0
        for packet in packets:  # a whole flood comes by here
            if concerns(payload(packet)):
                self._consider(packet)
            else:
                junk += 1
        self._stories.junk(junk)

    def _rest(self) -> None:
        try:
            self._store.tidy()
        except Unavailable as error:
            self._hands.complain(str(error), "tidying")

    def _consider(self, packet: bytes) -> None:
        try:
            sender, destination, payload = frames.datagram(packet)
        except Refused as refused:
            self._stories.turned_away(KnockRefused(refused.reason))
            return
        if destination not in self._own:
            return
        opened = self._stories.opened
        self._do(self._sealed.feed(DatagramSeen(payload, sender, self._clock.read())))
        if self._stories.opened != opened:
            self.ears.opened(sender)

    def _do(self, effects: Sequence[SealedEffect]) -> None:
        leases: dict[str, float] = {}
        stories = [effect.story for effect in effects if isinstance(effect, KnockTaken)]
        for effect in effects:
            match effect:
                case ClaimMark():
                    self._claim(effect)
                case OpenDoor():
                    door = self._doors[effect.door]
                    seconds = effect.seconds or door.lease
                    record = opening_record(effect, stories, self._store.row)
                    if self._hands.open_for_key(door, effect.source, seconds, record):
                        leases[effect.door] = seconds
                case RunCommands():
                    if effect.door in leases:
                        self._hands.run_commands(self._doors[effect.door], effect.source, effect.seconds)
                case KnockTaken():
                    self._stories.taken(effect.story, leases)
                case KnockRefused():
                    self._refuse(effect)
                case KeepFloor() | DropFloor() | TellStep():
                    self._keep(effect)

    def _claim(self, claim: ClaimMark) -> None:
        try:
            verdict = self._store.claim(
                claim.key, claim.device, claim.date, claim.taken, claim.floor, may_spend=claim.may_spend
            )
        except Unavailable as error:
            verdict = None
            line = f"a sealed knock cannot be remembered, so it is refused: {error}"
            self._hands.complain(line, "sealed store")
        self._do(self._sealed.feed(MarkSettled(verdict, self._clock.read())))

    def _refuse(self, refused: KnockRefused) -> None:
        self._stories.turned_away(refused)
        if refused.key is not None:
            kind = f"{refused.key} {refused.reason.value}"
            line = f"a knock of {refused.key} is refused: {refusal_in_words(refused)}"
            if refused.story and (advice := advice_on(refused, self._store.row(refused.story.device))):
                line += f"; {advice}"
            self._hands.complain(line, kind, refusal_record(refused, "sealed", self._store.row))

    # --- who ------------------------------------------------------------------------------------------

    def _lines(self, fingerprint: bytes) -> list[Line]:
        self._look_at_files()  # here it is as often as cards have a budget for, at most
        found = self._files.find(fingerprint)
        return [Line(self._parties[each.group], each.file, each.entry) for each in found]

    def _standing(self, device: bytes) -> Standing:
        return self._standings.get(self._store.row(device), Standing.UNSAID)

    def _said_of(self, row: bytes) -> str | None:
        found = self._standings.get(row)
        return found.name.lower() if found else None

    def _look_at_files(self) -> None:
        if notices := self._files.refresh():
            self._notices.tell(notices, self._clock.read().up)

    def _forget_gone_keys(self) -> None:
        self._look_at_files()
        wait = _LATER
        try:
            wait = self._gone.go_on(self._sealed.certain, self._clock.read())
        except Unavailable as error:
            self._hands.complain(f"keys that are no more cannot be forgotten: {error}", "gone keys")
        self._gone_due = time.monotonic() + wait

    # --- the time -------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        self._do(self._sealed.look_at_clock(self._clock.read()))
        is_sure = isinstance(self._sealed.certain, Sure)
        self._clock_due = time.monotonic() + (_LATER if is_sure else _SOON)

    def _keep(self, effect: KeepFloor | DropFloor | TellStep) -> None:
        if isinstance(effect, TellStep):
            side = "ahead" if effect.by > 0 else "back"
            line = f"clock-stepped: the clock was set {side} by {abs(effect.by) / _NANO:.0f} s"
            self._hands.complain(line, "clock", Record(event=Event.CLOCK))
            return
        try:
            self._store.keep_floor(effect.floor if isinstance(effect, KeepFloor) else None)
        except Unavailable as error:
            self._hands.complain(f"the time cannot be kept for the next start: {error}", "floor")

    @property
    def strangers(self) -> Mapping[Reason, int]:
        """Refusals of who has no key."""
        return self._stories.strangers

    # --- what is told ---------------------------------------------------------------------------------

    def document(self) -> dict[str, object]:
        """What ``control.ask`` tells of sealed knocks."""
        return {
            "opened": self._stories.opened,
            "refused": {reason.value: count for reason, count in self._stories.refused.items()},
            "strangers": {reason.value: count for reason, count in self._stories.strangers.items()},
            "keys": self.total,
            "clock": self._time(),
        }

    def explained(self) -> dict[str, object]:
        """What ``control.explain`` tells, which is more."""
        now = self._clock.read().now
        devices, number = self._devices()
        return {
            "format": 1,
            "port": str(self._port),
            "clock": self._time(),
            "files": list(_told_of(self._files.files)),
            **self._stories.document(),
            "devices": [
                {
                    "row": each.row.hex(),
                    "key": each.key.hex(),
                    "era": each.mark.era,
                    "issued": each.mark.issued / _NANO,
                    "seconds_ago": round(now - each.mark.issued / _NANO, 1),
                }
                for each in devices
            ],
            "devices_left_out": number - len(devices),
        }

    def _devices(self) -> tuple[list[DeviceMark], int]:
        """Those to tell of, and how many there are."""
        try:
            return self._store.newest(_DEVICES)
        except Unavailable as error:
            self._hands.complain(f"devices cannot be told of: {error}", "devices")
            return [], 0

    def _time(self) -> dict[str, object]:
        """What the gate knows of the time."""
        state = self._sealed.certain
        taken = certainty.span(state, self._clock.read())
        return {
            "state": type(state).__name__.lower(),
            "vouched": state.vouched if isinstance(state, Sure) else False,
            "not_before": None if taken.lower is None else taken.lower / _NANO,
        }


def _told_of(files: Iterable[FileState]) -> Iterator[dict[str, object]]:
    """Of flaws only some: who writes a file decides how many there are, and knocks wait for the telling."""
    room = _FLAWS
    for each in files:
        flaws = (each.trouble,) if each.trouble else each.flaws
        told = flaws[: min(_FLAWS_OF_ONE, room)]
        room -= len(told)
        yield {
            "keys_of": each.group,
            "file": each.path,
            "keys": len(each.keys),
            "flaws": [_flaw(notice) for notice in told],
            "flaws_left_out": len(flaws) - len(told),
        }


def _flaw(notice: Notice) -> dict[str, object]:
    return {"line": notice.line, "message": notice.message, "hint": notice.hint}


_SUITES = {"x-wing": Suite.XWING, "x25519": Suite.X25519}


def suites_of(names: Iterable[str]) -> list[Suite]:
    """Those that ``suites`` in ``[sealed]`` names."""
    return [_SUITES[name] for name in names]


def standings_of(said: Devices) -> dict[bytes, Standing]:
    """What the admin has said, by what stands for a device in the store."""
    return dict.fromkeys(said.known, Standing.KNOWN) | dict.fromkeys(said.barred, Standing.BARRED)


def live_cards(own: GateKeys) -> list[LiveCard]:
    """Also those whose time is over: whether it is, the mechanism asks each time."""
    made = {one.name: one.gate_key() for one in own.keys}
    cards = []
    for one, card in own.live(None):
        ends = [end.timestamp() for end in (one.ends, card.ends) if end]
        until = round(min(ends) * _NANO) if ends else None
        cards.append(LiveCard(card.name, CardKeys(card.secret), made[one.name], until))
    return cards
