from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.daemon.running import network
from tests.knockgate.daemon.sealed_stage import INCARNATION, Stage, now
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.store.marks_conformance import BLIND, BOB, JO, LAPTOP, PHONE, SALT, reason, taken
from tests.netns import isolated

from knockgate.config import doors
from knockgate.config.keys import load_ssh
from knockgate.daemon import gonekeys
from knockgate.daemon.gonekeys import GoneKeys
from knockgate.daemon.sealed import SealedGrants
from knockgate.errors import Reason
from knockgate.mechanisms.certainty import Blind, Certainty, Floored, Sure
from knockgate.model import Moment
from knockgate.spa.sealed.dates import WINDOW, Date
from knockgate.store.marks import SqliteMarks
from knockgate.store.marks_memory import MemoryMarks
from knockgate.world import MarkStore

NOW, HOUR = 1_800_000_000, 3600
SECOND = 10**9


def moment(up: float, *, off: float = 0, synchronised: bool = True) -> Moment:
    return Moment(NOW + up + off, synchronised, up, "boot")


def sure(off: float = 0) -> Sure:
    return Sure(round((NOW + off) * SECOND), 0)


def store_with(*keys: bytes, age: float) -> MemoryMarks:
    """``age``: seconds before NOW."""
    store = MemoryMarks(devices=3, salt=SALT)
    for key in keys:
        assert taken(store.claim(key, LAPTOP, Date(0, round((NOW - age) * SECOND)), BLIND, None))
    return store


def keys_of(store: MarkStore) -> set[bytes]:
    return {each.key for each in store.devices()}


def test_what_is_old_of_gone_keys_goes_and_of_others_nothing() -> None:
    store = store_with(JO, BOB, age=100)
    gone = GoneKeys(store, lambda key: key == JO)
    assert gone.go_on(sure(), moment(0)) == HOUR
    assert gone.go_on(sure(), moment(HOUR - 1)) == 1 and keys_of(store) == {JO, BOB}
    assert gone.go_on(sure(), moment(HOUR)) == HOUR and keys_of(store) == {JO}
    old = Date(0, (NOW - 100) * SECOND)
    assert reason(store.claim(BOB, LAPTOP, old, BLIND, None)) is Reason.REPLAYED
    assert taken(store.claim(BOB, LAPTOP, Date(0, old.issued + 1), BLIND, None))  # control


def test_what_was_not_too_old_an_hour_ago_stays() -> None:
    for after, left in ((0, {JO}), (1, set())):
        store = store_with(JO, age=WINDOW // SECOND)
        gone = GoneKeys(store, lambda _: False)
        gone.go_on(sure(), moment(0))
        gone.go_on(sure(), moment(HOUR + after))
        assert keys_of(store) == left


@pytest.mark.parametrize(
    ("certain", "synchronised"), [(Blind(), True), (Floored(NOW * SECOND), True), (sure(), False)]
)
def test_only_a_clock_that_was_right_for_an_hour_is_gone_by(
    certain: Certainty, *, synchronised: bool
) -> None:
    """Whatever interrupts it, the hour begins anew; and so it does where the clock was set."""
    for interruption in (
        (certain, moment(HOUR - 1, synchronised=synchronised)),
        (sure(90), moment(9, off=90)),
    ):
        store = store_with(JO, age=1000)
        gone = GoneKeys(store, lambda _: False)
        gone.go_on(sure(), moment(0))
        gone.go_on(*interruption)
        gone.go_on(sure(), moment(HOUR))
        assert keys_of(store) == {JO}
        gone.go_on(sure(), moment(2 * HOUR))
        assert not keys_of(store)


def test_a_clock_that_was_set_and_nobody_has_told_yet_is_not_gone_by() -> None:
    store = store_with(JO, age=-2 * HOUR)
    gone = GoneKeys(store, lambda _: False)
    gone.go_on(sure(), moment(0))
    gone.go_on(sure(), moment(HOUR, off=300_000_000))
    assert keys_of(store) == {JO}
    gone.go_on(sure(), moment(3 * HOUR + 61))
    assert not keys_of(store)


def test_a_little_at_a_time_and_in_the_end_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gonekeys, "_KEYS", 10)
    store = store_with(*(bytes([number]) * 32 for number in range(25)), age=1000)
    gone = GoneKeys(store, lambda key: key[0] % 2 == 0)
    gone.go_on(sure(), moment(0))
    lefts, waits = [], []
    for up in range(3):
        waits.append(gone.go_on(sure(), moment(HOUR + up)))
        lefts.append(len(keys_of(store)))
    assert lefts == [20, 15, 13] and waits == [1, 1, HOUR]
    # And the next round begins at the first one.
    assert taken(store.claim(bytes([1]) * 32, PHONE, Date(0, NOW * SECOND), BLIND, None))
    gone.go_on(sure(), moment(2 * HOUR + 100))
    assert len(keys_of(store)) == 13


@contextlib.contextmanager
def grants(stage: Stage) -> Iterator[SealedGrants]:
    class Hands:
        def complain(self, *said: object) -> None:
            raise AssertionError(said)

    configuration = doors.load(stage.gate.file)
    found = SealedGrants(configuration, load_ssh(stage.gate.file, configuration), Hands())  # type: ignore[arg-type]
    try:
        yield found
    finally:
        found.close()


def _devices(listening: SealedGrants) -> set[bytes]:
    """The keys of those that are remembered."""
    told: Any = listening.explained()["devices"]
    return {bytes.fromhex(each["key"]) for each in told}


@isolated
def test_the_listener_does_it(tmp_path: Path) -> None:
    """By the files as they are then: of two keys that have knocked one was taken out."""
    with network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(gonekeys, "_HOUR", 0.0)
        stage = Stage(tmp_path, signers.line(signers.ED25519), signers.line(signers.ECDSA))
        file = stage.state / "marks.sqlite"
        keys = [signers.fingerprint(each) for each in (signers.ED25519, signers.ECDSA)]
        with contextlib.closing(SqliteMarks(file, incarnation=INCARNATION, devices=8)) as store:
            for key in keys:
                assert taken(store.claim(key, LAPTOP, Date(0, now() - 2 * WINDOW), BLIND, None))
        with grants(stage) as listening:
            listening.tick()
            assert _devices(listening) == set(keys)
            stage.write_keys(signers.line(signers.ECDSA))
            listening.tick()
            assert _devices(listening) == {keys[1]}
