"""Somebody moves clocks, of the gate or of its clients, both ways and far.

All clocks are injected (``lived``); stores are the real ones, on the disk. For programs with such
clocks see ``tests/interop/test_sealed_replay.py``, for any course in memory ``test_sealed_life.py``.
"""

from __future__ import annotations

import calendar
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import FWKNOP_PORT, udp_ip
from tests.attacks.lived import DAY, Clock, Device, Lived, injected
from tests.knockgate.daemon.test_packets import ALICE, BOB, key, message
from tests.knockgate.spa.sshkeys.signers import signer, text

from knockgate.spa.fwknop import Secret, seal
from knockgate.spa.sshkeys import Kind

NOON = float(calendar.timegm((2026, 9, 16, 12, 0, 0)))  # a Wednesday
YEAR, HOUR = 365 * DAY, 3600.0
JO, SO = signer(Kind.ED25519, 1), signer(Kind.ED25519, 2)
HOURS = 'hours = ["Mon-Fri 08:00-18:00"]\nhours_in = "Etc/UTC"\n'
_DOOR = '[doors.ssh]\nports = ["tcp/22"]\nlease = "5m"\nlongest = "1h"\n'


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock(NOON)
    with injected(found):
        yield found


def living(folder: Path, clock: Clock) -> Lived:
    """Jo and alice at any hour, so and bob from 8 to 18."""
    table = _DOOR
    for name, one in (("jo", JO), ("so", SO)):
        file = folder / name
        file.write_bytes(text(one.public) + b"\n")
        file.chmod(0o600)
        table += f'[keys.{name}]\nssh = "{file}"\ndoors = ["ssh"]\n' + HOURS * (name == "so")
    table += key(folder, "alice", ALICE, 'doors = ["ssh"]')
    table += key(folder, "bob", BOB, 'doors = ["ssh"]', HOURS)
    return Lived(folder, clock, table)


def fwknop(now: float, source: str, secret: Secret = ALICE) -> bytes:
    """A client of fwknop's whose clock says so."""
    sealed = seal(message(source, issued=int(now)), secret, salt=secrets.token_bytes(8))
    return udp_ip(FWKNOP_PORT, source, sealed)


class Onlooker:
    """Keeps whatever was sent, and delivers it again."""

    def __init__(self, gate: Lived) -> None:
        self._gate = gate
        self._sent: list[bytes] = []
        self._opened: set[bytes] = set()
        self.delivered = 0

    @property
    def opened(self) -> int:
        """Different packets that have."""
        return len(self._opened)

    def passes(self, packet: bytes) -> bool:
        """Deliver it; whether it opens, which it may once."""
        self._sent.append(packet)
        return self._hears(packet)

    def holds_back(self, packet: bytes) -> None:
        self._sent.append(packet)

    def again(self, number: int) -> None:
        self._hears(self._sent[number % len(self._sent)])

    def all_again(self) -> None:
        """Nothing opens that opened before."""
        for each in self._sent:
            self._hears(each)

    def _hears(self, packet: bytes) -> bool:
        self.delivered += 1
        opens = self._gate.hears(packet)
        assert not (opens and packet in self._opened), "opened twice"
        if opens:
            self._opened.add(packet)
        return opens


def _reboots_in_1970(gate: Lived) -> None:
    gate.reboot(20.0)


def _boots_unsynchronised_a_year_back(gate: Lived) -> None:
    gate.reboot(gate.clock.now - YEAR)


def _set(seconds: float, *, synchronised: bool = True) -> Callable[[Lived], None]:
    def change(gate: Lived) -> None:
        gate.clock.now += seconds
        gate.clock.synchronised = synchronised

    return change


def _loses_time_and_starts_anew(gate: Lived) -> None:
    gate.clock.now -= YEAR
    gate.clock.synchronised = False
    gate.restart()


#: What happens to the gate; why an honest knock of ssh's and one of fwknop's is refused then, "": it opens.
AT_THE_GATE: dict[str, tuple[Callable[[Lived], None], str, str]] = {
    "a year back": (_set(-YEAR), "ahead", "ahead"),
    "a year ahead": (_set(YEAR), "stale", "stale"),
    "nobody vouches any more": (_set(0.0, synchronised=False), "", ""),
    "a year back, and nobody vouches": (_set(-YEAR, synchronised=False), "ahead", "ahead"),
    "the same, and started anew": (_loses_time_and_starts_anew, "", ""),
    "booted in 1970": (_reboots_in_1970, "", ""),
    "booted a year back": (_boots_unsynchronised_a_year_back, "", ""),
    "suspended for a day": (lambda gate: gate.clock.sleep(DAY), "", ""),
}


@pytest.mark.parametrize("name", AT_THE_GATE)
def test_the_gates_clock(name: str, clock: Clock, tmp_path: Path) -> None:
    """What was sent before opens nothing; who is honest gets in as said above, and again once it is right."""
    happens, *reasons = AT_THE_GATE[name]
    gate, jo = living(tmp_path, clock), Device(JO, 1)
    onlooker = Onlooker(gate)
    right = NOON
    assert onlooker.passes(jo.packet(right, "10.0.0.2")) and onlooker.passes(fwknop(right, "10.0.0.2"))
    happens(gate)
    clock.wait(60)
    right += DAY + 60 if "suspended" in name else 60
    onlooker.all_again()
    for made, reason in zip((jo.packet(right, "10.0.0.3"), fwknop(right, "10.0.0.3")), reasons, strict=True):
        before = gate.refused[reason]
        assert onlooker.passes(made) is not bool(reason), gate.refused
        assert gate.refused[reason] == before + bool(reason)
    onlooker.all_again()
    clock.now, clock.synchronised = right, True
    gate.wait(60)  # it looks at the clock at least as often as that while it is not sure
    assert onlooker.passes(jo.packet(right + 60, "10.0.0.4"))
    assert onlooker.passes(fwknop(right + 60, "10.0.0.4"))
    gate.restart(suddenly=True)
    onlooker.all_again()
    figure(
        f"clock.gate {name}",
        tries=onlooker.delivered - 6,
        wrongly=gate.opened - onlooker.opened,
        rightly=onlooker.opened,
        control="before, and once the clock is right again, an honest knock of each kind opens",
        honest_sealed_meanwhile=reasons[0] or "opens",
        honest_fwknop_meanwhile=reasons[1] or "opens",
    )
    gate.end()


#: Seconds by which a device's clock is wrong; why a gate that is sure of the time refuses it.
AT_THE_CLIENT = {"a year behind": (-YEAR, "stale"), "in 1970": (20.0 - NOON, "stale"),
                 "a year ahead": (YEAR, "ahead"), "in 2038": (2.2e9 - NOON, "ahead")}  # fmt: skip


@pytest.mark.parametrize("sure", [True, False], ids=["sure", "blind"])
@pytest.mark.parametrize("name", AT_THE_CLIENT)
def test_a_clients_clock(name: str, sure: bool, clock: Clock, tmp_path: Path) -> None:
    """It gets in as soon as it is right again; at a gate that does not know the time it always does."""
    lead, reason = AT_THE_CLIENT[name]
    clock.synchronised = sure
    gate, jo = living(tmp_path, clock), Device(JO, 1, lead=lead)
    onlooker = Onlooker(gate)
    assert onlooker.passes(jo.packet(clock.now, "10.0.0.2")) is not sure
    assert onlooker.passes(fwknop(clock.now + lead, "10.0.0.2")) is not sure
    assert gate.refused[reason] == (2 if sure else 0)
    for mended in (0.0, lead, 0.0):  # it is wrong once more in between
        jo.lead = mended
        gate.wait(60)
        opens = not sure or not mended
        assert onlooker.passes(jo.packet(clock.now, "10.0.0.3")) is opens
        assert onlooker.passes(fwknop(clock.now + mended, "10.0.0.3")) is opens
        onlooker.all_again()
    gate.restart(suddenly=True)
    onlooker.all_again()
    figure(
        f"clock.client {name}, gate {'sure' if sure else 'blind'}",
        tries=onlooker.delivered - onlooker.opened,
        wrongly=gate.opened - onlooker.opened,
        rightly=onlooker.opened,
        control="once it is right, an honest knock of each kind opens",
    )
    gate.end()


def test_leases_and_hours(clock: Clock, tmp_path: Path) -> None:
    """A lease lasts as long as it was given for, whatever the clock says; hours go by the clock."""
    gate, so = living(tmp_path, clock), Device(SO, 1)
    assert gate.hears(so.packet(clock.now, "10.0.0.2", lease=600))
    assert gate.hears(fwknop(clock.now, "10.0.0.3", BOB))
    for step in (YEAR, -2 * YEAR, YEAR + 12 * HOUR, -12 * HOUR):  # 598 s and 298 s of them in all
        clock.now += step
        gate.wait(74.5)
        assert gate.lets_in(22, "10.0.0.2") and gate.lets_in(22, "10.0.0.3")
    clock.wait(3)
    assert gate.lets_in(22, "10.0.0.2") and not gate.lets_in(22, "10.0.0.3")
    clock.now += DAY
    clock.wait(300)
    assert not gate.lets_in(22, "10.0.0.2")
    clock.now = NOON + 6 * HOUR - 30  # half a minute before they end
    assert gate.hears(so.packet(clock.now, "10.0.0.4")) and gate.hears(fwknop(clock.now, "10.0.0.5", BOB))
    clock.wait(29)
    assert gate.lets_in(22, "10.0.0.4") and gate.lets_in(22, "10.0.0.5")
    clock.wait(2)
    assert not gate.lets_in(22, "10.0.0.4") and not gate.lets_in(22, "10.0.0.5")
    assert not gate.hears(so.packet(clock.now, "10.0.0.4"))
    assert not gate.hears(fwknop(clock.now, "10.0.0.5", BOB))
    assert gate.refused["outside-hours"] == 2
    clock.now -= HOUR  # set back by mistake, or by somebody: then it is 17 hours, and clients are ahead
    assert not gate.hears(so.packet(clock.now + HOUR, "10.0.0.4"))
    assert not gate.hears(fwknop(clock.now + HOUR, "10.0.0.5", BOB))
    gate.reboot(clock.now)  # it does not know the time any more, so nobody gets in who has hours
    for _ in range(2):
        assert not gate.hears(so.packet(clock.now + HOUR, "10.0.0.4"))
        assert not gate.hears(fwknop(clock.now + HOUR, "10.0.0.5", BOB))
    assert gate.refused["clock-unknown"] == 4
    assert gate.hears(Device(JO, 2).packet(clock.now + HOUR, "10.0.0.6"))  # the control: jo has none
    figure(
        "clock.leases and hours, set years and hours either way",
        tries=8,
        wrongly=0,
        rightly=5,
        control="leases last as long as they were given for; who has no hours gets in",
    )
    gate.end()


def test_a_lease_lasts_while_the_gate_is_awake(clock: Clock, tmp_path: Path) -> None:
    """The kernel's leases do not count the time that the host is suspended for."""
    gate, jo = living(tmp_path, clock), Device(JO, 1)
    assert gate.hears(jo.packet(clock.now, "10.0.0.2"))
    clock.sleep(DAY)
    assert gate.lets_in(22, "10.0.0.2")
    clock.wait(301)
    assert not gate.lets_in(22, "10.0.0.2")
    gate.end()


@pytest.mark.parametrize(
    ("courses", "steps"), [(8, 60), pytest.param(150, 120, marks=pytest.mark.long)], ids=["some", "many"]
)
def test_any_course_of_clocks(courses: int, steps: int, clock: Clock, tmp_path: Path) -> None:
    """Nothing opens twice; who is right at a gate that is right gets in, whatever there was before."""
    delivered = opened = different = 0
    for number in range(courses):
        folder = tmp_path / str(number)
        folder.mkdir()
        clock.now, clock.synchronised = NOON, bool(number % 2)
        gate = living(folder, clock)
        onlooker = _course(gate, random.Random(number), steps)
        delivered, opened = delivered + onlooker.delivered, opened + gate.opened
        different += onlooker.opened
        gate.end()
    figure(
        "clock.any course of clocks, restarts and reboots",
        tries=delivered - opened,
        wrongly=opened - different,
        rightly=different,
        control="at the end of each course honest knocks open",
        courses=courses,
    )


def _course(gate: Lived, dice: random.Random, steps: int) -> Onlooker:
    clock, onlooker = gate.clock, Onlooker(gate)
    devices = [Device(JO, 1), Device(JO, 2), Device(SO, 1)]
    passed = 0.0  # seconds since NOON, in fact

    def waits(seconds: float) -> float:
        gate.wait(seconds)
        return seconds

    for _ in range(steps):
        match dice.randrange(12):
            case 0:
                clock.now = max(
                    20.0, clock.now + dice.choice([-YEAR, -HOUR, -61, 61, HOUR, YEAR, -20 * YEAR])
                )
            case 1:
                clock.now = NOON + passed
            case 2:
                clock.synchronised = dice.random() < 0.5
            case 3:
                dice.choice(devices).lead = dice.choice([0, -YEAR, YEAR, -HOUR, HOUR, -70, 70])
            case 4:
                gate.restart(suddenly=dice.random() < 0.5)
            case 5:
                gate.reboot(dice.choice([20.0, clock.now]), synchronised=dice.random() < 0.3)
            case 6 | 7:
                onlooker.all_again()
            case 8 | 9:
                made = dice.choice(devices).packet(NOON + passed, "10.0.0.2")
                (onlooker.holds_back if dice.random() < 0.2 else onlooker.passes)(made)
                onlooker.passes(fwknop(NOON + passed + dice.choice([0, 0, -YEAR, YEAR]), "10.0.0.3"))
            case _:
                passed += waits(dice.choice([1, 61, 700, 4000]))
    onlooker.all_again()
    passed += waits(2 * HOUR)
    clock.now, clock.synchronised = NOON + passed, True
    for device in devices[:2]:
        device.lead = 0
        assert onlooker.passes(device.packet(NOON + passed, "10.0.0.9")), gate.refused
    onlooker.all_again()
    return onlooker
