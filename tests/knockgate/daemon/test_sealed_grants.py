"""What becomes of a sealed knock without a network, beside what ``test_sealed_crash`` kills."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tests.knockgate.daemon.killed import Heard, hear
from tests.knockgate.daemon.sealed_stage import INCARNATION
from tests.knockgate.daemon.test_sealed_crash import World, knock

from knockgate.config.readers import Reliance
from knockgate.daemon import sealed
from knockgate.mechanisms.certainty import Floor
from knockgate.model import Source
from knockgate.spa.sealed import KeyKind
from knockgate.store.marks import SqliteMarks

CLIENT = bytes([192, 0, 2, 7])


class Ears(Heard):
    """Which also say from where doors were opened."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.senders: list[Source] = []

    def opened(self, sender: Source) -> None:
        self.senders.append(sender)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(sealed, "Ears", Ears)
    world = World(tmp_path)
    world.make()
    return world


def test_from_where_a_door_was_opened_is_heard_first_from_then_on(world: World) -> None:
    """And from nowhere else: that is how a knock gets through a flood."""
    with contextlib.closing(world.begin()) as grants:
        assert isinstance(grants.ears, Ears)
        hear(grants, knock(world.now, kind=KeyKind.ECDSA_P256))
        hear(grants, knock(world.now - 3600 * 10**9))
        world.opens = False
        hear(grants, knock(world.now + 1))
        assert grants.ears.senders == []
        world.opens = True
        hear(grants, knock(world.now + 2))
        assert grants.ears.senders == [CLIENT]


def test_the_log_is_begun_anew_when_nothing_is_left_to_look_at(world: World) -> None:
    """So no knock waits for that, and the log does not grow."""
    with contextlib.closing(world.begin()) as grants:
        assert isinstance(grants.ears, Ears)
        log = world.folder / "state" / "marks.sqlite-wal"

        def times_and_length() -> tuple[int, int]:
            return int.from_bytes(log.read_bytes()[12:16], "big"), log.stat().st_size  # "checkpoint sequence"

        hear(grants, knock(world.now))
        times, length = times_and_length()
        grants.ears.waiting = [knock(world.now + number) for number in range(1, 4)]
        grants.hear()
        assert times_and_length() == (times, length)  # control
        grants.ears.waiting = [knock(world.now + number) for number in range(4, 9)]
        grants._look_at(grants.ears.take())
        assert times_and_length() == (times, length)
        grants.hear()
        assert times_and_length() == (times + 1, length)
        assert world.count("opened") == 9


def floor_of(world: World) -> Floor:
    marks = SqliteMarks(world.folder / "state" / "marks.sqlite", incarnation=INCARNATION, devices=8)
    with contextlib.closing(marks):
        floor = marks.floor()
    assert floor is not None
    return floor


def test_the_time_is_kept_at_the_start_and_at_the_stop(world: World) -> None:
    grants = world.begin()
    began = grants._store.floor()
    grants.close()
    ended = floor_of(world)
    assert began is not None and began.up < ended.up and began.time < ended.time
    world.clock = Reliance.UNKNOWN  # who does not know it leaves what is there
    world.begin().close()
    assert floor_of(world) == ended
