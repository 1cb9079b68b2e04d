"""What systemd starts of the gate at boot, and what the units' processes cannot get at.

Units may be ours, laid down by `knockgate install` or by a package, or somebody's own that run us.
"""

from __future__ import annotations

import contextlib
import enum
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from knockgate.config.advice import Advice
from knockgate.config.doors import DEFAULT_PATH, Configuration
from knockgate.doctor.host import output_of, read_text
from knockgate.errors import Unavailable

__all__ = [
    "LISTENER",
    "RULES",
    "WARDEN",
    "Confined",
    "Does",
    "confined",
    "enabled",
    "is_there",
    "on_listener",
    "on_units",
    "read_confined",
]

WARDEN, LISTENER, RULES = "knockgate-warden.service", "knockgate-listener.service", "knockgate-rules.service"
#: Where systemd is process 1 it has this folder: sd_booted(3). What is in it is gone after a reboot.
_PASSING = "/run/systemd/system"
#: Where units lie, the first that has a name counts: systemd.unit(5). A package has them in /usr/lib.
FOLDERS = (
    "/etc/systemd/system",
    _PASSING,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_STARTS = re.compile(r"^Exec(?:Start|StartPre|StartPost)=.*\bknockgate\b.*$", re.MULTILINE)
_LINKS = ("*.wants/*.service", "*.requires/*.service")
#: What of a unit says where it may write, and as whom.
_SHOWN = (
    "User",
    "Group",
    "SupplementaryGroups",
    "ProtectSystem",
    "ReadWritePaths",
    "StateDirectory",
    "RuntimeDirectory",
)


class Does(enum.Flag):
    """What a unit does for the gate once it is started."""

    NOTHING = 0
    GUARDS = 1  #: it loads the table
    HEARS = 2  #: it runs the half that hears knocks


#: The listener wants the warden, so that is started with it.
_OURS = {WARDEN: Does.GUARDS, LISTENER: Does.GUARDS | Does.HEARS, RULES: Does.GUARDS}


def enabled(folders: Iterable[str] | None = None) -> dict[str, Does]:
    """The units that are started at boot and do something for the gate, by name."""
    places = list(map(Path, folders or FOLDERS))
    lasting = [place for place in places if str(place) != _PASSING]
    names = {link.name for place in lasting for each in _LINKS for link in place.glob(each)}
    known = {name: _does(name, text) for name in sorted(names) if (text := _text_of(name, places))}
    return {name: what for name, what in known.items() if what}


def _does(name: str, text: str) -> Does:
    if name in _OURS:
        return _OURS[name]
    found = Does.NOTHING
    for line in _STARTS.findall(text):
        if re.search(r"\bknockgate\b.* run\b", line):
            found |= Does.GUARDS | Does.HEARS
        elif re.search(r"\bknockgate\b.* up\b|\bnft\b.* -f\b", line):
            found |= Does.GUARDS
    return found


def is_there(name: str, folders: Iterable[str] | None = None) -> bool:
    """Whether there is a unit of that name that can be started."""
    return bool(_text_of(name, map(Path, folders or FOLDERS)))


def _text_of(name: str, places: Iterable[Path]) -> str | None:
    """A unit with its drop-ins; None where there is none, or it is masked, which an empty file does too."""
    template = re.sub(r"@.*\.", "@.", name)
    places = list(places)
    own = next((place / name for place in places if os.path.lexists(place / name)), None)
    own = own or next((place / template for place in places if (place / template).exists()), None)
    with contextlib.suppress(OSError):
        if text := own and read_text(own):
            more = [path for place in places for path in sorted((place / f"{name}.d").glob("*.conf"))]
            return "\n".join([text, *(read_text(path) or "" for path in more)])
    return None


# --- what the halves cannot get at --------------------------------------------------------------------


class Confined(NamedTuple):
    """Whom a unit runs as, and where it may write."""

    user: str
    uid: int
    groups: frozenset[int]
    states: tuple[str, ...]  #: its own folders: where one is not its user's, systemd gives it all to them
    writes: tuple[str, ...] | None  #: these folders and what is in them; None: wherever it has the right

    def reaches(self, path: str) -> bool:
        """Whether that is where it may write, if it has the right to."""
        return self.writes is None or any(Path(path).is_relative_to(each) for each in self.writes)

    def closed(self, path: str, right: int) -> str | None:
        """The first on the way to ``path`` that it may not enter, or ``path`` without the ``right``.

        ``right`` is what ``os`` has as R_OK, W_OK and X_OK. None: nothing is in the way, or it will not be
        once the unit is started. OSError.
        """
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(each) and Path(each).stat().st_uid != self.uid for each in self.states):
            return None
        for folder in reversed(real.parents):
            if not self._may(folder.stat(), os.X_OK):
                return str(folder)
        return None if self._may(real.stat(), right) else str(real)

    def _may(self, there: os.stat_result, right: int) -> bool:
        shift = 6 if there.st_uid == self.uid else 3 if there.st_gid in self.groups else 0
        return (stat.S_IMODE(there.st_mode) >> shift) & right == right


def confined(unit: str) -> Confined | None:
    """What systemd says of that unit; None where there is none, or no systemd. Raises Unavailable."""
    if not Path(_PASSING).is_dir() or not is_there(unit):
        return None
    told = output_of("systemctl", "show", unit, *(f"--property={each}" for each in _SHOWN))
    return read_confined(dict(line.split("=", 1) for line in told.splitlines() if "=" in line))


def read_confined(told: Mapping[str, str]) -> Confined:
    """What ``systemctl show`` told of one. Raises Unavailable where its user is not there."""
    name = told.get("User") or "root"
    try:
        user = pwd.getpwnam(name)
        own = grp.getgrnam(told["Group"]).gr_gid if told.get("Group") else user.pw_gid
        more = [grp.getgrnam(each).gr_gid for each in told.get("SupplementaryGroups", "").split()]
    except KeyError:
        raise Unavailable(f"there is no user {name}, or not its group", hint="systemd-sysusers") from None
    states = tuple(f"/var/lib/{each}" for each in told.get("StateDirectory", "").split())
    writes: tuple[str, ...] | None = None
    if told.get("ProtectSystem") == "strict":
        run = (f"/run/{each}" for each in told.get("RuntimeDirectory", "").split())
        writes = (*states, *run, *(each.lstrip("-+") for each in told.get("ReadWritePaths", "").split()))
    groups = frozenset(os.getgrouplist(name, own)) | {own, *more}
    return Confined(name, user.pw_uid, groups, states, writes)


def on_units(configuration: Configuration) -> Iterator[Advice]:
    """What the halves need, as units of systemd, and cannot get at. Raises Unavailable, OSError."""
    warden, listener = confined(WARDEN), confined(LISTENER)
    if configuration.file == str(DEFAULT_PATH):
        for unit, half in ((WARDEN, warden), (LISTENER, listener)):
            if half and (closed := half.closed(configuration.file, os.R_OK)):
                read = "r" if closed == os.path.realpath(configuration.file) else "rx"
                fix = f"chgrp knockgate {closed}; chmod g+{read} {closed}"
                yield Advice("", f"{_named(unit)} cannot read {configuration.file}: {closed} is closed", fix)
    if warden and not warden.reaches(f"{configuration.gate.run_directory}/warden"):
        message = f"{_named(WARDEN)} makes no sockets in {configuration.gate.run_directory}"
        yield Advice("", message, "take run_directory out of gate.toml, or use knockgate run instead")
    if listener:
        yield from on_listener(configuration, listener)


def on_listener(configuration: Configuration, listener: Confined) -> Iterator[Advice]:
    """What it has to write: what is remembered, and files of one-time sequences. OSError."""
    state = configuration.gate.state_directory
    if configuration.fwknop or configuration.sealed:
        message = f"{_named(LISTENER)} cannot write in {state}, which is its state_directory"
        own = f"chown -R {listener.user} {state}"
        if not listener.reaches(state):
            fix = f"systemctl edit {LISTENER}, with ReadWritePaths={state} below [Service]; {own}"
            yield Advice("", message, fix)
        elif Path(state).exists() and listener.closed(state, os.W_OK | os.X_OK):
            yield Advice("", message, own)
    for door in configuration.doors:
        path = door.sequence.one_time if door.sequence else ""
        if not path or not Path(path).exists():
            continue
        message = f"{_named(LISTENER)} cannot write {path}, so none of its sequences opens the door"
        real = os.path.realpath(path)
        closed = None if not listener.reaches(real) else listener.closed(real, os.R_OK | os.W_OK)
        if closed == real:
            yield Advice(door.name, message, f"chown {listener.user} {real}")
        elif closed or not listener.reaches(real):
            there = f"{next(iter(listener.states), state)}/{Path(path).name}"
            fix = f'mv {path} {there}; chown {listener.user} {there}; one_time = "{there}" in gate.toml'
            yield Advice(door.name, message, fix)


def _named(unit: str) -> str:
    return unit.removesuffix(".service")
