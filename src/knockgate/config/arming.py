"""A configuration -> what the engine follows for it."""

from __future__ import annotations

from collections.abc import Mapping

from knockgate.config.doors import Configuration, Door, Sequence
from knockgate.engine import Armed
from knockgate.mechanisms.sequence import OPENINGS, Counted
from knockgate.model import Port

__all__ = ["Line", "armed"]

#: Where a one-time sequence stands in its file, counted from 1, and its steps.
Line = tuple[int, tuple[Port, ...]]
_USED_UP: Line = (0, ())


def armed(configuration: Configuration, one_time: Mapping[str, Line]) -> list[Armed]:
    """The doors whose sequence the daemon follows.

    ``one_time``: the line that counts now, by the door's name. A door with a file of one-time sequences
    that is not named has used up all of them.
    """
    return [_armed(door, door.sequence, one_time) for door in configuration.daemon_doors() if door.sequence]


def _armed(door: Door, sequence: Sequence, one_time: Mapping[str, Line]) -> Armed:
    line, steps = one_time.get(door.name, _USED_UP) if sequence.one_time else (None, sequence.steps)
    return Armed(
        door.name,
        steps,
        sequence.within,
        counted=_counted(sequence),
        line=line,
        runs_commands=door.commands is not None,
    )


def _counted(sequence: Sequence) -> Counted:
    mask, value = OPENINGS.mask, OPENINGS.value
    if flags := sequence.flags:
        mask, value = int(flags.wanted | flags.unwanted), int(flags.wanted)
    return Counted(mask=mask, value=value, target=sequence.target)
