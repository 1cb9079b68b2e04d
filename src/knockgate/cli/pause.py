"""``knockgate pause`` and ``resume``: doors that let everybody in for a while, and then are shut again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import click

from knockgate.cli.gate import loaded, warden
from knockgate.cli.page import Page
from knockgate.cli.phrases import time_in_words
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import configuration, door_named, doors_argument, seconds
from knockgate.config.doors import Configuration, Door
from knockgate.config.toml import Reader, Wrong, duration, several
from knockgate.config.unshut import shadow_in_words
from knockgate.daemon.link import LONGEST_PAUSE
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError

__all__ = ["pause", "resume"]

_TIME = duration(1, LONGEST_PAUSE)


def _time(value: object) -> float:
    """Seconds; 0 ends a pause."""
    with contextlib.suppress(Wrong):
        if duration(0, LONGEST_PAUSE).read(value) == 0:
            return 0.0
    try:
        return float(_TIME.read(value))
    except Wrong as wrong:
        hint = "from 1s to 24h, or 0 to end it; what stands open for longer has no place in gate.toml"
        raise Wrong(wrong.message, wrong.hint or hint) from None


@click.command(cls=Page)
@click.argument("time", type=seconds(Reader("time", _time)))
@doors_argument
@configuration(file=False)
def pause(origin: Origin, time: float, names: tuple[str, ...]) -> int:
    """Let everybody in for a time, through all doors or those that are named.

    TIME is from 1s to 24h. The kernel shuts the doors at the end of it, also where nothing of knockgate runs
    any more. Said again, it begins anew, longer or shorter; 0 ends it, as `knockgate resume` does.
    Connections that are made meanwhile live on. A pause outlives a reload and the daemon, but no reboot.
    Needs root.

    Exit status: 0 the doors are open; 2 it could not be done. Doors are opened one after the other.

    For example:

        knockgate pause 10m
        knockgate pause 1h ssh web
    """
    found = origin.load()
    if not time:
        return _end(found, names)
    chosen = _guarding(found, names)
    _set(found, chosen if names else None, time)
    tell(f"{_listed(chosen)}: open for EVERYBODY for {time_in_words(time)}, and then shut again")
    return 0


@click.command(cls=Page)
@doors_argument
@configuration(file=False)
def resume(origin: Origin, names: tuple[str, ...]) -> int:
    """End a pause before its time: of all doors, or of those that are named.

    The same as `knockgate pause 0`. Who has come in meanwhile keeps the connection. Needs root.

    Exit status: 0 they are not paused any more, also where they were not; 2 it could not be done.

    For example:

        knockgate resume
        knockgate resume ssh
    """
    return _end(origin.load(), names)


def _end(found: Configuration, names: Sequence[str]) -> int:
    chosen = _guarding(found, names)
    ended = _set(found, chosen if names else None, 0)
    if ended:
        tell(f"{_listed(chosen)}: not paused any more; connections that are established live on")
    else:
        tell(f"{_listed(chosen)}: there was no pause")
    if dark := shadow_in_words(found):
        say(dark)
        advise("take shadow out of the configuration to shut them")
    return 0


def _guarding(found: Configuration, names: Sequence[str]) -> list[Door]:
    """The doors of these names, or all; none that only runs commands."""
    if not names:
        return [door for door in found.doors if door.ports]
    chosen = [door_named(found, name) for name in dict.fromkeys(names)]
    for door in chosen:
        if not door.ports:
            hint = "it only runs commands when somebody knocks"
            raise ConfigError(f"door {door.name} guards no port", file=found.file or None, hint=hint)
    return chosen


def _set(found: Configuration, chosen: Sequence[Door] | None, time: float) -> int:
    """Begin or end the pause of these doors, or of all; at how many ports something changed."""
    with warden(found) as client:
        if client:
            if chosen is None:
                return client.pause(found, None, time)
            return sum(client.pause(found, door, time) for door in chosen)
    with loaded() as firewall:
        paused = [pause.port for pause in firewall.pauses()]
        if chosen is None:
            ports = [port for door in found.doors for port in door.ports] if time else paused
        else:
            ports = [port for door in chosen for port in door.ports]
        firewall.pause(ports, time)
        return len(ports) if time else len(set(ports).intersection(paused))


def _listed(doors: Sequence[Door]) -> str:
    return several(door.name for door in doors)
