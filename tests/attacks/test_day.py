"""A day in the life of a gate, hurried: an injected clock, the daemon's grants and its stores on the disk.

People knock at any hour, some have hours; strangers send junk and try doors; an onlooker sends again what
they saw; somebody uses up a card's budget. The gate is restarted, killed, reloaded, rebooted without a
battery, and its clock is set a little. What each knock should come to is known beforehand, by the test's own
reckoning. The table is the one in memory, which the conformance suite holds to the kernel.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import secrets
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import FWKNOP_PORT, SEALED_PORT, udp_ip
from tests.attacks.lived import DAY, Clock, Device, Lived, injected
from tests.attacks.test_clock import HOURS, NOON, fwknop
from tests.knockgate.daemon.running import HOST
from tests.knockgate.daemon.test_packets import ALICE, key
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa.sshkeys.signers import signer, text
from tests.packets import raw

from knockgate.config import gatekeys
from knockgate.model import Observation
from knockgate.spa.sealed import Suite
from knockgate.spa.sshkeys import Kind

MIDNIGHT = NOON - DAY / 2
_DOORS = """
[doors.ssh]
ports = ["tcp/22"]
lease = "5m"
longest = "1h"
[doors.web]
ports = ["tcp/80"]
lease = "10m"
[doors.wiki]
ports = ["tcp/81"]
lease = "15m"
sequence = { steps = ["tcp/7000", "udp/7001", "tcp/7002"], within = "10s" }
"""
_PEOPLE, _LATE = 24, 12  # those from _LATE on have hours
_LATER_CARD = b"l" * 32
_QUARTERS = 4
_ATTACKS = ("replay", "junk", "knock of nobody", "half a sequence", "is out of hours", "kept out")


@dataclasses.dataclass
class Person:
    """What they have, and when they knocked last."""

    name: str
    devices: list[Device]
    homes: list[str]
    last: float = 0.0


class Day:
    """All that happens, and what should have."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.dice = random.Random(1)
        self.people = [_person(number) for number in range(_PEOPLE)]
        self._text = _DOORS + "".join(
            f'[keys.{name}]\nssh = ["{folder}/{name}"]\ndoors = ["ssh", "web"]\n{more}'
            for name, more in (("always", ""), ("office", HOURS))
        )
        self._text += key(folder, "alice", ALICE, 'doors = ["ssh"]')
        self._write_keys()
        self.gate = Lived(folder, clock, self._text)
        self._add_card()
        self.seen: deque[bytes] = deque(maxlen=400)
        self.did: Counter[str] = Counter()
        self._leases: dict[tuple[int, str], float] = {}  # until when, by the time that the host is awake

    def _write_keys(self, *, without: str = "") -> None:
        for file, people in (("always", self.people[:_LATE]), ("office", self.people[_LATE:])):
            lines = [text(each.devices[0].signer.public) for each in people if each.name != without]
            (self.folder / file).write_bytes(b"\n".join(lines) + b"\n")
            (self.folder / file).chmod(0o600)

    def _add_card(self) -> None:
        """People's cards are two, so that who has one cannot keep out who has the other."""
        path = self.folder / "state" / "gate.keys"
        keys = gatekeys.load(path)
        (one,) = keys.keys
        other = dataclasses.replace(one.cards[0], name="late", secret=_LATER_CARD)
        one = dataclasses.replace(one, cards=(*one.cards, other))
        gatekeys.save(path, dataclasses.replace(keys, keys=(one,)))
        self.gate.restart()

    # --- honest people ---

    @property
    def _knows_time(self) -> bool:
        return bool(self.gate.sealed._time()["state"] == "sure")

    def knock(self) -> None:
        """Somebody's, with a card."""
        who = self.dice.choice(self.people)
        if self.clock.up - who.last < 15:
            return  # people do not knock all the time; their keys have a pace
        who.last = self.clock.up
        door, source = self.dice.choice(["ssh", "web"]), self.dice.choice(who.homes)
        seconds = 300 if door == "ssh" else 600
        has_hours = who.name >= _name(_LATE)
        seconds_of_day = self.clock.now % DAY  # by the gate's clock
        opens = not has_hours or (self._knows_time and 8 * 3600 <= seconds_of_day < 18 * 3600)
        made = self.dice.choice(who.devices).packet(self._right, source, doors=[door])
        self._expect(made, opens, who.name)
        if opens:
            left = 18 * 3600 - seconds_of_day if has_hours else DAY
            self._lease(22 if door == "ssh" else 80, source, min(seconds, max(1.0, left)))

    def knock_as_fwknop(self) -> None:
        source = f"10.9.0.{self.dice.randrange(1, 20)}"
        self._expect(fwknop(self._right + self.dice.uniform(-60, 60), source), opens=True, who="alice")
        self._lease(22, source, 300)

    def knock_a_sequence(self) -> None:
        """All of it, or not; in the kernel's table."""
        source = f"10.8.{self.dice.randrange(4)}.{self.dice.randrange(1, 250)}"
        steps = [(6, 7000), (17, 7001), (6, 7002)]
        is_whole = self.dice.random() < 0.7
        if not is_whole:
            steps.pop(self.dice.randrange(3))
        opened = [door for step in steps for door in self._packet(source, *step)]
        self.did["a sequence opens" if is_whole else "half a sequence"] += 1
        assert opened == ["wiki"] * is_whole
        if is_whole:
            self._lease(81, source, 900)

    def _packet(self, source: str, protocol: int, port: int) -> tuple[str, ...]:
        flags = 2 if protocol == 6 else 0
        seen = Observation(raw(source), raw(HOST), protocol, 40000, port, flags, 40)
        return self.gate.table.judge(seen).opened

    def _expect(self, packet: bytes, opens: bool, who: str) -> None:
        found = self.gate.hears(packet)
        assert found is opens, (who, self._right % DAY / 3600, self.gate.refused, self.did)
        self.seen.append(packet)
        self.did["opens" if opens else "is out of hours"] += 1

    @property
    def _right(self) -> float:
        """What time it is, in fact."""
        return self.began + self.gone

    began, gone = MIDNIGHT, 0.0

    # --- others ---

    def replay(self) -> None:
        """From anywhere."""
        if self.seen:
            packet = self.dice.choice(self.seen)
            self.did["replay"] += 1
            assert not self.gate.hears(packet)

    def junk(self) -> None:
        port, length = self.dice.choice([(SEALED_PORT, Suite.X25519.length), (FWKNOP_PORT, 240)])
        self.did["junk"] += 1
        assert not self.gate.hears(udp_ip(port, self._stranger(), secrets.token_bytes(length)))

    def knock_as_nobody(self) -> None:
        """With the card, and a key that is on no line."""
        nobody = Device(signer(Kind.ED25519, 9999), self.dice.randrange(1, 10**6))
        self.did["knock of nobody"] += 1
        assert not self.gate.hears(nobody.packet(self._right, self._stranger()))

    def try_a_door(self) -> None:
        """Who has a lease comes in, and nobody else."""
        port = self.dice.choice([22, 80, 81])
        source = self._stranger()
        if self._leases and self.dice.random() < 0.7:
            port, source = self.dice.choice(list(self._leases))
        until = self._leases.get((port, source), 0.0)
        if abs(until - self.clock.awake) > 0.01:
            comes_in = until > self.clock.awake
            self.did["comes in" if comes_in else "kept out"] += 1
            assert self.gate.lets_in(port, source) is comes_in, (port, source, until - self.clock.awake)
        if until < self.clock.awake - 3600:
            self._leases.pop((port, source), None)

    def flood_a_card(self) -> None:
        """By who has it: others of that card wait for a moment, those of another one do not."""
        nobody = Device(signer(Kind.ED25519, 9999), 7)
        before = self.gate.refused["over-budget"]
        for _ in range(150):
            assert not self.gate.hears(nobody.packet(self._right, self._stranger()))
        assert self.gate.refused["over-budget"] - before >= 40
        self.did["flood of a card"] += 1
        for number, opens in ((0, False), (1, True)):  # those with an even number have that card
            who = self.people[number]
            who.last = self.clock.up
            self.gate.hears(who.devices[0].packet(self._right, who.homes[0])) is opens or pytest.fail(
                "budget"
            )
        self._lease(22, self.people[1].homes[0], 300)
        self.go_on(2.0)
        who = self.people[0]
        self._expect(who.devices[0].packet(self._right, who.homes[0]), opens=True, who=who.name)
        self._lease(22, who.homes[0], 300)

    def _stranger(self) -> str:
        return f"192.0.{self.dice.randrange(256)}.{self.dice.randrange(1, 255)}"

    def _lease(self, port: int, source: str, seconds: float) -> None:
        until = self.clock.awake + seconds
        self._leases[port, source] = max(until, self._leases.get((port, source), 0.0))

    # --- the admin, and the world ---

    def restart(self) -> None:
        self.did["restart"] += 1
        self.gate.restart(suddenly=self.dice.random() < 0.5)

    def reload(self) -> None:
        """Somebody is taken out for a while."""
        who = self.dice.choice(self.people)
        self._write_keys(without=who.name)
        made = who.devices[0].packet(self._right, who.homes[0])
        assert not self.gate.hears(made)
        assert self.gate.refused["unknown-key"]
        self._write_keys()
        self.gate.write(self._text, gate="sources = 5000\n")
        self.gate.restart()
        self.did["reload"] += 1

    def set_clock(self) -> None:
        """By who keeps time: a little. The day goes on as it did."""
        lead = self.clock.now - self._right
        if self.clock.synchronised:
            self.clock.now += self.dice.uniform(-2, 2) - lead
            self.did["clock set"] += 1

    def reboot(self) -> None:
        """Without a battery; five minutes later somebody tells the time."""
        self.gate.reboot(20.0)
        self._leases.clear()
        self.did["reboot"] += 1
        for who in self.people:
            who.last = -60.0

    def know_time(self) -> None:
        self.clock.now, self.clock.synchronised = self._right, True
        self.gate.sealed._look_at_clock()

    def go_on(self, seconds: float) -> None:
        self.gone += seconds
        self.gate.wait(seconds)


def _name(number: int) -> str:
    return f"person{number:03}"


def _person(number: int) -> Person:
    card = messages.CARD if number % 2 == 0 else messages.KEY.card(_LATER_CARD)
    one = signer(Kind.ED25519 if number % 3 else Kind.ECDSA_P256, 100 + number)
    devices = [Device(one, 10 * number + each + 1, card=card, lead=number - 12.0) for each in range(2)]
    return Person(_name(number), devices, [f"10.7.{number}.{each}" for each in (1, 2)])


def _lives(day: Day, events: int) -> list[dict[str, int]]:
    """Returns what there was of memory and disk after each quarter."""
    usual: list[tuple[Callable[[], None], float]] = [
        (day.knock, 30), (day.knock_as_fwknop, 8), (day.knock_a_sequence, 8), (day.replay, 20),
        (day.junk, 20), (day.knock_as_nobody, 5), (day.try_a_door, 30), (day.restart, 0.3), (day.reload, 0.2),
        (day.set_clock, 0.5), (day.flood_a_card, 0.1),
    ]  # fmt: skip
    does, weights = zip(*usual, strict=True)
    found: list[dict[str, int]] = []
    tracemalloc.start()
    has_booted = False
    try:
        while day.gone < DAY:
            day.go_on(day.dice.expovariate(events / DAY))
            if not has_booted and day.gone > 0.4 * DAY:
                has_booted = True
                day.reboot()
            if not day.clock.synchronised and day.clock.up > 320:
                day.know_time()
            does[day.dice.choices(range(len(does)), weights)[0]]()
            if day.gone > (len(found) + 1) * DAY / _QUARTERS and len(found) < _QUARTERS:
                found.append(_measured(day))
    finally:
        tracemalloc.stop()
    return [*found, _measured(day)][:_QUARTERS]


def _measured(day: Day) -> dict[str, int]:
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    return {"memory_kb": memory // 1024, "disk_kb": day.gate.bytes_on_disk() // 1024}


@pytest.mark.parametrize(
    "events", [1500, pytest.param(40_000, marks=pytest.mark.long)], ids=["quiet", "busy"]
)
def test_a_day(events: int, tmp_path: Path) -> None:
    clock = Clock(MIDNIGHT)
    with injected(clock):
        day = Day(tmp_path, clock)
        quarters = _lives(day, events)
        refused = day.gate.refused
        day.gate.end()
    figure(
        "day.24 hours",
        tries=sum(day.did[each] for each in _ATTACKS),
        wrongly=0,
        rightly=sum(day.did[each] for each in ("opens", "a sequence opens", "comes in")),
        events=events,
        control="honest knocks open, and who has a lease comes in, all day",
        refused=sum(refused.values()),
        restarts_reloads_and_reboots=sum(day.did[each] for each in ("restart", "reload", "reboot")),
        **{f"{what}_after_{6 * number}_h_kb": each[f"{what}_kb"]
           for what in ("memory", "disk") for number, each in enumerate(quarters, 1)},
    )  # fmt: skip
    assert {
        "opens",
        "is out of hours",
        "replay",
        "comes in",
        "kept out",
        "reboot",
        "reload",
    } <= day.did.keys()
    assert quarters[-1]["memory_kb"] < quarters[0]["memory_kb"] + 2048
    assert quarters[-1]["disk_kb"] < quarters[0]["disk_kb"] + 4096
