"""A gate's own files for sealed knocks as they are now, for who only looks; a gate may be running on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from knockgate.cli.terminal import advise, say
from knockgate.config.doors import Configuration
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError, KnockgateError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knockgate.config.devices import Devices
    from knockgate.mechanisms.parties import Line
    from knockgate.simulate.sealed import SealedKeys

__all__ = ["sealed_now"]


def sealed_now(origin: Origin, found: Configuration) -> SealedKeys | None:
    """None where no ssh key opens anything, or the gate's keys cannot be had; says what is left out.

    Locks nothing and changes nothing. Raises ConfigError for what is wrong in gate.toml.
    """
    if found.sealed is None:
        return None
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli
    from knockgate.daemon.sealed import (  # noqa: PLC0415 - see cli
        DEVICES,
        GATE_KEYS,
        MARKS,
        live_cards,
        standings_of,
        suites_of,
    )
    from knockgate.simulate.sealed import SealedKeys  # noqa: PLC0415 - see cli

    find = _finding(origin, found)
    folder = Path(found.gate.state_directory)
    try:
        own = gatekeys.load(folder / GATE_KEYS)
    except ConfigError as error:
        _leave_out("sealed packets are left out", error)
        return None
    said = _said(folder / DEVICES)
    salt = _salt(folder / MARKS, needed=bool(said.known or said.barred))
    return SealedKeys(live_cards(own), find, suites_of(found.sealed.suites), standings_of(said), salt)


def _finding(origin: Origin, found: Configuration) -> Callable[[bytes], Sequence[Line]]:
    from knockgate.config.keyfiles import KeyFiles  # noqa: PLC0415 - see cli
    from knockgate.daemon.bearers import ssh_keys_of  # noqa: PLC0415 - see cli
    from knockgate.daemon.parties import parties_of  # noqa: PLC0415 - see cli
    from knockgate.mechanisms.parties import Line  # noqa: PLC0415 - see cli

    keys = ssh_keys_of(origin, found)
    files, parties = KeyFiles(keys), parties_of(found, keys)
    for notice in files.refresh():
        say(str(notice))
        advise(notice.hint)
    return lambda digest: [Line(parties[each.group], each.file, each.entry) for each in files.find(digest)]


def _said(path: Path) -> Devices:
    from knockgate.config import devices  # noqa: PLC0415 - see cli

    try:
        return devices.load(path)
    except ConfigError as error:
        _leave_out("what was said of devices is left out", error)
        return devices.Devices()


def _salt(path: Path, *, needed: bool) -> bytes:
    """Devices are known by it; with another one, nothing was said of any."""
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    try:
        return SqliteMarks.peek_salt(path)
    except Unavailable as error:
        if needed:
            _leave_out("what was said of devices is left out", error)
        return os.urandom(32)


def _leave_out(what: str, error: KnockgateError) -> None:
    say(f"{what}: {error}")
    advise(error.hint)
