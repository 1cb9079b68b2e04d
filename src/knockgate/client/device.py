"""What a client keeps of its own: the secret that makes it a device, and its last date at each gate.

::

    {"version": 1, "secret": base64 of 32 bytes,
     "gates": {hex of the gate's id: {"era": 0 to 65535, "last": nanoseconds since 1970}}}

A gate takes of one device only what is newer than all before it. So a date is on the disk before anybody gets
it, two processes never get the same one, and a file that cannot be read is never made anew by itself: that
would be another device, which a door may not know.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from knockgate.client import home
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sealed import device_id
from knockgate.spa.sealed.dates import LAST_ERA, Date, following

__all__ = [
    "SECRET",
    "Ticket",
    "check_owner",
    "default_path",
    "knows",
    "machine_id",
    "next_date",
    "wait_for",
]

SECRET = 32  #: bytes
_LONGEST = 1 << 20  # bytes of the file: some thousand gates
_LATEST = 1 << 63  # nanoseconds: what a packet can say is below
#: Whoever else has the lock writes one small file. Seconds.
_PATIENCE, _LOOK_AGAIN = 5.0, 0.005
_VERSION = 1


class Ticket(NamedTuple):
    """Who knocks and when; it is spent, whether it is used or not."""

    device: bytes  #: 16 bytes, what the client calls itself at this gate
    date: Date
    is_new: bool  #: this gate has not been sent anything by this device before
    renewed: bool = False  #: its eras were used up, so it has just become another device, at all gates


@dataclass(slots=True)
class _Kept:
    """What is in the file."""

    secret: bytes = field(repr=False)
    gates: dict[str, Date]


def default_path() -> Path:
    """``~/.local/state/knockgate/device.json``, or as XDG_STATE_HOME says. ConfigError: there is no home."""
    return home.below("XDG_STATE_HOME", ".local", "state") / "device.json"


def machine_id(path: Path = Path("/etc/machine-id")) -> bytes:
    """The 32 letters that name this machine; empty where it has no such name."""
    try:
        letters = path.read_bytes().strip()
    except OSError:
        return b""
    return letters if len(letters) == 32 else b""  # "uninitialized", while it is installed


def next_date(
    path: Path, gate: bytes, *, now: int, machine: bytes, fresh_secret: Callable[[], bytes]
) -> Ticket:
    """The date of the next knock at ``gate`` (its id, 32 bytes), which is on the disk when this returns.

    ``now`` are nanoseconds since 1970, ``machine`` is as of ``machine_id``; ``fresh_secret`` gives 32 random
    bytes for a file that is not there yet, or one whose eras are used up: then all gates meet a new device.
    ConfigError where the file is not as it should be, Unavailable where it cannot be read or written.
    """
    if not 0 < now < _LATEST:
        raise Unavailable(
            "this machine's clock says that it is before 1970 or after 2261", hint="set it: timedatectl"
        )
    try:
        check_owner(path)
        with _locked(path) as folder:
            kept = _read(path) or _Kept(fresh_secret(), {})
            name = gate.hex()
            date = following(kept.gates.get(name), now)
            renewed = date is None
            if date is None:
                kept = _Kept(fresh_secret(), {})
                date = Date(0, now)
            if date.issued >= _LATEST:
                raise _damaged(path, "a date is too late")
            is_new = name not in kept.gates
            kept.gates[name] = date
            _write(path, folder, kept)
    except OSError as error:
        raise _unavailable(path, error) from None
    return Ticket(device_id(kept.secret, gate, machine), date, is_new, renewed)


def knows(path: Path, gate: bytes) -> bool:
    """Whether a date for ``gate`` was given out; nothing is written. ConfigError, Unavailable."""
    try:
        kept = _read(path)
    except OSError as error:
        raise _unavailable(path, error) from None
    return kept is not None and gate.hex() in kept.gates


# --- the file ----------------------------------------------------------------------------------------


def _read(path: Path) -> _Kept | None:
    """None where there is no file. ConfigError, OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):  # a link would be replaced, and not what it leads to
        raise ConfigError("is no file", file=str(path), hint=_move_away(path))
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(file)
        _check_uid(path, found.st_uid)
        if found.st_mode & 0o077:
            raise ConfigError(
                "others than its owner may read or write it",
                file=str(path),
                hint=f"chmod 600 {path}; or, if it may have been copied, {_move_away(path)}",
            )
        octets = stream.read(_LONGEST + 1)
    try:
        return _parsed(octets)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged(path, "it is not what was written there") from None


def _parsed(octets: bytes) -> _Kept:
    """ValueError, TypeError, KeyError, AttributeError or RecursionError where it is damaged."""
    if len(octets) > _LONGEST:
        raise ValueError("too long")
    text = json.loads(octets)
    if text.keys() != {"version", "secret", "gates"} or text["version"] != _VERSION:
        raise ValueError("another form")
    secret = base64.b64decode(text["secret"], validate=True)
    if len(secret) != SECRET:
        raise ValueError("another length")
    return _Kept(secret, {_gate(name): _date(value) for name, value in text["gates"].items()})


def _gate(name: str) -> str:
    if len(bytes.fromhex(name)) != 32 or len(name) != 64 or name != name.lower():
        raise ValueError("no id of a gate")
    return name


def _date(value: dict[str, object]) -> Date:
    era, last = value["era"], value["last"]
    if value.keys() != {"era", "last"} or type(era) is not int or type(last) is not int:
        raise ValueError("no date")
    if not (0 <= era <= LAST_ERA and 0 < last < _LATEST):
        raise ValueError("no date that a packet can have")
    return Date(era, last)


def _write(path: Path, folder: int, kept: _Kept) -> None:
    """Old or new, never less: under another name first, and on the disk before the name changes. OSError."""
    gates = {name: {"era": date.era, "last": date.issued} for name, date in kept.gates.items()}
    text = {"version": _VERSION, "secret": base64.b64encode(kept.secret).decode(), "gates": gates}
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)  # of a process that was killed: we have the lock
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(json.dumps(text, indent=1).encode() + b"\n")
        stream.flush()
        os.fsync(file)
    os.replace(new, path)
    os.fsync(folder)


# --- around it ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The folder, open, for us alone among the clients; a file of its own has the lock. OSError."""
    _make_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock = os.open(
            path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            wait_for(lock, path)
            yield folder
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def wait_for(lock: int, path: Path) -> None:
    """Lock this open file, which stands beside ``path`` and is called .lock. OSError, Unavailable."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                hint = f"another process has locked it; to see which: fuser {path.with_suffix('.lock')}"
                raise Unavailable(f"{path} is in use", hint=hint) from None
            time.sleep(_LOOK_AGAIN)
        else:
            return


def _make_folder(folder: Path) -> None:
    """With those above it; that it is there is on the disk too. OSError, ConfigError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # two that knock for the first time
            each.mkdir(0o700)
        above = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    if folder.stat().st_mode & 0o022:
        raise ConfigError("others may write in this folder", file=str(folder), hint=f"chmod 700 {folder}")


def check_owner(path: Path) -> None:
    """That we do not leave files of ours in somebody else's home, as root with the HOME of another would.

    Nor write, as root, to where somebody else has a link lead. Raises ConfigError.
    """
    # Not Path.exists, which fails where we have no right to look.
    there = next((each for each in (path.parent, *path.parents) if os.path.exists(each)), None)  # noqa: PTH110
    if there is not None:
        _check_uid(there, there.stat().st_uid, root_may=there != path.parent)


def _check_uid(path: Path, owner: int, *, root_may: bool = False) -> None:
    own = os.geteuid()
    if owner == own or (root_may and owner == 0):
        return
    name = _user(owner)
    hint = f"run it as {name}" if own else f"run it as {name}, or as root with a home of its own: sudo -H"
    raise ConfigError(f"belongs to {name}, and this runs as {_user(own)}", file=str(path), hint=hint)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the user {number}"


def _damaged(path: Path, message: str) -> ConfigError:
    return ConfigError(f"is damaged: {message}", file=str(path), hint=_move_away(path))


def _move_away(path: Path) -> str:
    return f"become another device by: mv {path} {path}.old; a door for known devices has to be told of it"


def _unavailable(path: Path, error: OSError) -> Unavailable:
    reason = error.strerror or str(error)
    return Unavailable(
        f"{path}: {reason[:1].lower()}{reason[1:]}; nothing was sent",
        hint="the date of a knock is written down before it leaves; XDG_STATE_HOME can name another folder",
    )
