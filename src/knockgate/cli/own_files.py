"""What ``check`` says of the gate's own files for sealed knocks: keys and cards, marks, the word on devices.

A gate may be running on them, so nothing is locked, and of the marks only what they look like is looked at.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from knockgate.cli.phrases import time_in_words
from knockgate.cli.terminal import advise, say
from knockgate.config.advice import Advice, Stopper
from knockgate.config.doors import Configuration
from knockgate.config.private import users_of
from knockgate.config.readers import Devices
from knockgate.errors import ConfigError

if TYPE_CHECKING:
    from knockgate.config.gatekeys import GateKeys

__all__ = ["on_own_files"]

#: Seconds before an end that is told of.
_SOON = 7 * 86400.0
_TWO_WAYS = (
    "`knockgate replay reset` keeps keys and cards, `knockgate rekey --now` makes new ones; the --help of "
    "each says what it costs"
)


def on_own_files(found: Configuration, now: float) -> Iterator[Advice]:
    """``now`` in seconds since 1970. What may not be looked at without rights is said, and is no advice."""
    if found.sealed is None:
        return
    # Here, since most configurations have no such files.
    from knockgate.daemon.ownfiles import DEVICES, GATE_KEYS, MARKS  # noqa: PLC0415 - see cli

    folder = Path(found.gate.state_directory)
    keys, marks, devices = folder / GATE_KEYS, folder / MARKS, folder / DEVICES
    try:
        are_there = [_is_there(each) for each in (keys, marks)]
    except PermissionError as error:
        _not_looked_at(f"{folder}: {error.strerror}")
        return
    if not any(are_there):
        message = f"{keys} is not there, nor are its marks, and without them no gate starts"
        yield Stopper("", message, "knockgate init makes it")
        return
    yield from _on_keys(keys, now)
    yield from _on_marks(marks)
    yield from _on_devices(devices, found)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _not_looked_at(why: str) -> None:
    say(f"the gate's own keys and marks were not looked at: {why}")
    advise("run it as root")


# --- keys and cards -----------------------------------------------------------------------------------


def _on_keys(path: Path, now: float) -> Iterator[Advice]:
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    if not _is_there(path):
        message = f"{path} is not there, and its marks are: no gate starts with those alone"
        yield Stopper("", message, "knockgate rekey --now makes new keys, and everybody needs a new card")
        return
    try:
        keys = gatekeys.load(path)
    except ConfigError as error:
        if os.access(path, os.R_OK):
            yield Stopper("", f"{error}; so no gate starts", error.hint or "")
        else:
            _not_looked_at(str(error))
        return
    yield from _on_ends(keys, now)


def _on_ends(keys: GateKeys, now: float) -> Iterator[Advice]:
    names = keys.names(now)
    if not names:
        message = "no card is good, so nobody can knock with a sealed packet"
        yield Advice("", message, "knockgate card new NAME")
    for one in keys.live_keys(now):
        if one.ends and (left := one.ends.timestamp() - now) < _SOON:
            is_newest = one is keys.keys[0]
            hint = (
                "knockgate rekey makes a new one" if is_newest else "knockgate card show NAME prints the new"
            )
            yield Advice("", f"the key {one.name} ends {_in(one.ends, left)}, with all its cards", hint)
        for card in one.cards:
            if not card.ends:
                continue
            left = card.ends.timestamp() - now
            if left > 0:
                if left < _SOON:
                    message = f"the card {card.name} ends {_in(card.ends, left)}"
                    yield Advice("", message, "then revoke it, and make another: knockgate card new NAME")
            elif card.name not in names:
                message = f"the card {card.name} has ended, on {_date(card.ends)}: nobody knocks with it"
                yield Advice("", message, f"knockgate card revoke {card.name} takes it out")


def _in(end: dt.datetime, left: float) -> str:
    return f"in {time_in_words(left)}, on {_date(end)}"


def _date(end: dt.datetime) -> str:
    return f"{end:%Y-%m-%d at %H:%M} UTC"


# --- marks and devices --------------------------------------------------------------------------------


def _on_marks(path: Path) -> Iterator[Advice]:
    """What the store itself would not start with, as far as that shows from outside."""
    if not _is_there(path):
        message = f"{path} is not there: the gate cannot know which knocks it has taken, and does not start"
        yield Stopper("", message, _TWO_WAYS)
        return
    found, folder = path.lstat(), path.parent.stat()
    ours = {0, os.geteuid(), *users_of(folder)}
    if not stat.S_ISREG(found.st_mode):
        yield Stopper("", f"{path} is no file, so no gate starts", _TWO_WAYS)
    elif found.st_mode & 0o077 or found.st_uid not in ours:
        message = f"{path} must be of mode 0600 and belong to who runs the gate, or that does not start"
        yield Stopper("", message, f"chmod 600 {path}; chown root {path}")
    if folder.st_mode & 0o022 or folder.st_uid not in ours:
        message = f"{path.parent} can be written by others, and then no gate starts"
        yield Stopper("", message, f"chmod go-w {path.parent}; chown root {path.parent}")


def _on_devices(path: Path, found: Configuration) -> Iterator[Advice]:
    from knockgate.config import devices  # noqa: PLC0415 - see cli

    try:
        said = devices.load(path)
    except ConfigError as error:
        if os.access(path, os.R_OK) or not _is_there(path):
            yield Stopper("", f"{error}; so no gate starts", error.hint or "")
        return  # who may not read this may not read the keys, which was said
    for door in found.doors:
        if door.keyed and door.sealed.devices is Devices.KNOWN and not said.known:
            hint = "have its owner knock once, then knockgate device list, and knockgate device enrol DEVICE"
            yield Advice(door.name, "it is for known devices alone, and none was enrolled", hint)
