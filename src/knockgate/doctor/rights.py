"""Who can read and write what decides who comes in."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knockgate.config.doors import Configuration
from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine, found
from knockgate.doctor.host import Host
from knockgate.doctor.surroundings import on_one_time
from knockgate.doctor.units import on_units
from knockgate.errors import ConfigError, Unavailable

__all__ = ["Place", "Seen", "examine", "judge", "judge_folders", "places_of"]

#: What is secret in the state directory, and what is only not to be written by others.
_SECRETS, _OTHERS = ("gate.keys", "marks.sqlite"), ("devices", "replay.sqlite", "pending.sqlite")


class Place(NamedTuple):
    """Something that counts, and whether nobody else may read it."""

    path: str
    secret: bool


class Seen(NamedTuple):
    """What there is of a place."""

    mode: int  #: permission bits, with the sticky one
    uid: int
    is_folder: bool


def examine(host: Host) -> Iterator[Finding]:
    """gate.toml, what it names, the state directory and the run directory."""
    if not host.configuration:
        return
    owners = {0, os.geteuid(), *_own_users()}
    bad: list[Finding] = []
    places = places_of(host.configuration, host.path)
    for place in places:
        try:
            bad += _on_place(place, owners)
        except OSError as error:
            bad.append(blind(Topic.RIGHTS, f"{place.path}: {error.strerror}", "run it as root"))
    bad += _on_keys(host)
    for advice in on_one_time(host.configuration):
        bad += _unusable(str(advice), advice.hint)
    bad += _on_units(host.configuration)
    yield from bad
    if not bad:
        yield fine(Topic.RIGHTS, f"only root writes {host.path} and what belongs to it")


def _on_units(configuration: Configuration) -> Iterator[Finding]:
    try:
        for advice in on_units(configuration):
            yield found(Kind.CLOSED_TO_UNIT, str(advice), advice.hint)
    except Unavailable as error:
        yield blind(Topic.RIGHTS, f"what the units may write: {error}", error.hint or "run it as root")
    except OSError as error:
        yield blind(Topic.RIGHTS, f"{error.filename}: {error.strerror}", "run it as root")


def _own_users() -> set[int]:
    """Users that are there for the gate alone."""
    return {each.pw_uid for each in pwd.getpwall() if each.pw_name.startswith("knockgate")}


def places_of(configuration: Configuration, path: str) -> list[Place]:
    """All that counts, whether it is there or not; whoever reads files of keys has rules of their own."""
    gate = configuration.gate
    found_ = [Place(os.path.abspath(path), False)] if path else []  # noqa: FBT003, PTH100 - links stay
    state = Path(gate.state_directory)
    found_ += [Place(str(state), False), Place(gate.run_directory, False)]  # noqa: FBT003
    found_ += [Place(str(state / name), True) for name in _SECRETS]  # noqa: FBT003
    found_ += [Place(str(state / name), False) for name in _OTHERS]  # noqa: FBT003
    for door in configuration.doors:
        if door.sequence and door.sequence.one_time:
            found_.append(Place(door.sequence.one_time, True))  # noqa: FBT003
    return found_


def _on_place(place: Place, owners: set[int]) -> Iterator[Finding]:
    """OSError where it cannot be looked at; nothing where it is not there."""
    try:
        there = os.stat(place.path)  # noqa: PTH116 - a link leads to what counts
    except (FileNotFoundError, NotADirectoryError):
        return
    seen = Seen(stat.S_IMODE(there.st_mode), there.st_uid, stat.S_ISDIR(there.st_mode))
    yield from judge(place, seen, owners)
    above = []
    for folder in Path(os.path.realpath(place.path)).parents:
        known = folder.stat()
        above.append((str(folder), Seen(stat.S_IMODE(known.st_mode), known.st_uid, is_folder=True)))
    yield from judge_folders(place, above, owners)


def judge(place: Place, seen: Seen, owners: set[int]) -> Iterator[Finding]:
    """What is wrong with the place itself; ``owners`` may own it."""
    path = place.path
    if seen.uid not in owners:
        yield found(Kind.FOREIGN, f"{path} belongs to user {seen.uid}", f"chown root {path}")
    if seen.mode & 0o022:
        yield found(
            Kind.WRITABLE, f"{path} can be written by others (mode {seen.mode:o})", f"chmod go-w {path}"
        )
    elif place.secret and seen.mode & 0o077:
        yield found(Kind.READABLE, f"{path} can be read by others (mode {seen.mode:o})", f"chmod 600 {path}")


def judge_folders(place: Place, above: list[tuple[str, Seen]], owners: set[int]) -> Iterator[Finding]:
    """Whoever can write a folder above can put something else into its place; not where it is sticky."""
    for folder, seen in above:
        if seen.uid not in owners:
            message = f"{folder}, above {place.path}, belongs to user {seen.uid}"
            yield found(Kind.FOREIGN, message, f"chown root {folder}")
        elif seen.mode & 0o022 and not seen.mode & stat.S_ISVTX:
            message = f"{folder}, above {place.path}, can be written by others"
            yield found(Kind.WRITABLE, message, f"chmod go-w {folder}")


# --- keys ---------------------------------------------------------------------------------------------


def _on_keys(host: Host) -> Iterator[Finding]:
    """Secrets and files of ssh keys, by those who read them for the gate."""
    from knockgate.config import gatekeys  # noqa: PLC0415 - most gates have no keys
    from knockgate.config.keyfiles import KeyFiles  # noqa: PLC0415
    from knockgate.config.keys import load, load_ssh  # noqa: PLC0415

    configuration = host.configuration
    if not configuration or not host.path:
        return
    try:
        if configuration.fwknop:
            load(host.path, configuration)
        if configuration.sealed:
            files = KeyFiles(load_ssh(host.path, configuration))
            files.refresh()
            for state in files.files:
                if state.trouble:
                    yield from _unusable(str(state.trouble), state.trouble.hint)
    except ConfigError as error:
        yield from _unusable(str(error), error.hint)
    if configuration.sealed:
        path = Path(configuration.gate.state_directory, gatekeys.FILE_NAME)
        try:
            there = path.exists()
        except OSError as error:
            yield blind(Topic.RIGHTS, f"{path}: {error.strerror}", "run it as root")
            return
        if not there:
            yield found(Kind.KEYS_MISSING, f"{path} is not there", "knockgate init")


def _unusable(message: str, hint: str | None) -> Iterator[Finding]:
    if "Permission denied" in message or (os.geteuid() and "belongs to somebody else" in message):
        yield blind(Topic.RIGHTS, message, "run it as root")
    else:
        yield found(Kind.KEYS_UNUSABLE, message, hint or "knockgate check")
