"""A knock as fields of the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from knockgate.config.doors import Door
from knockgate.daemon.log import Event, Record
from knockgate.model import Source, address_text

if TYPE_CHECKING:
    from knockgate.effects import KnockRefused, OpenDoor, Story

__all__ = ["EXHAUSTED", "at", "opening_record", "refusal_record"]

#: What the log says of a bound that was met.
EXHAUSTED = {
    "crowded": "no room for more half-made sequences; some knocks were lost (gate.sources, gate.hurried)",
    "paced": "sources knock faster than they may; some knocks were lost",
    "leases_full": "no room for more leases; somebody who knocked was not let in (gate.leases)",
}

#: What the store calls a device.
_Row = Callable[[bytes], bytes]


def at(record: Record, door: Door | None, source: Source | None) -> Record:
    """The same with the door and whom it opens for; None for what is not known."""
    seconds = record.seconds or (door.lease if door else None)
    who = address_text(source) if source else None
    return dataclasses.replace(record, door=door.name if door else None, source=who, seconds=seconds)


def opening_record(effect: OpenDoor, stories: Sequence[Story], row: _Row) -> Record:
    """A sealed knock that opens a door; ``stories`` has its own, if there is one."""
    record = Record(event=Event.OPENED, by="sealed", key=effect.key)
    if not stories:
        return record
    (story,) = stories
    return dataclasses.replace(
        record,
        sender=address_text(story.sender),
        skew=_rounded(story.skew),
        card=story.card,
        device=_device(story, row),
    )


def refusal_record(refused: KnockRefused, by: str, row: _Row | None = None) -> Record:
    """A knock of who has a key."""
    story = refused.story
    return Record(
        event=Event.REFUSED,
        by=by,
        key=refused.key,
        reason=refused.reason.value,
        sender=address_text(refused.sender) if refused.sender else None,
        source=address_text(refused.source) if refused.source else None,
        skew=_rounded(refused.skew),
        card=story.card if story else None,
        device=_device(story, row) if story and row else None,
    )


def _device(story: Story, row: _Row) -> str | None:
    return row(story.device).hex() if story.device else None


def _rounded(skew: float | None) -> float | None:
    return None if skew is None else round(skew, 3)
