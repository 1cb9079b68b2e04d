"""Whether a file of ssh keys may be used, and whether it has changed: without a look at what is in it.

What may be read, and by whom it may be written, is decided as sshd decides it with ``StrictModes yes``
(``safe_path`` in OpenSSH's misc.c): the file and the folders above it, as far as the user's home, or else up
to ``/``, belong to root or to the user, and neither the group nor others can write them. We differ in this:

* the file itself is no symbolic link; sshd follows one and looks at what it leads to;
* a file of no user belongs to root or to us, and above it a folder such as ``/tmp`` is let pass, where all
  may write and nobody can replace what is another's (the sticky bit);
* sshd reads with the user's rights, and we with ours;
* sshd looks at folders at every login, and we when a file is read: whoever puts another file into a folder
  that has become writable is seen, and that it has become so is not;
* Debian's sshd lets the group write where it is the user's own; we do not.

A file is read again when its device, number, size or times are not what they were. The kernel's file times
move in steps of up to 10 ms (2 s on FAT), so a file that was read right after it had changed may change again
unseen: it is read once more. Who is in the middle of writing it lets us read what sshd would read just then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knockgate.config.places import KeyFile

__all__ = ["Seen", "Trouble", "opened"]

#: Nanoseconds. What changed so short a time ago may have changed twice without another time to show for it.
_RACY, _RACY_ON_FAT = 100_000_000, 2_100_000_000
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Signature(NamedTuple):
    """What differs where a file does."""

    device: int
    number: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Signature:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Trouble(Exception):
    """The file cannot be used."""

    def __init__(self, message: str, hint: str | None, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.is_missing = message, hint, is_missing


class Seen(NamedTuple):
    """What there was of a file when it was looked at last."""

    signature: _Signature | None = None  #: None: look again, whatever it looks like
    is_missing: bool = False

    def is_so(self, path: str) -> bool:
        """Whether it cannot have changed since; of what could not be read nobody knows."""
        if self.signature is None and not self.is_missing:
            return False
        try:
            return _Signature.of(os.lstat(path)) == self.signature
        except FileNotFoundError:
            return self.is_missing
        except OSError:
            return False


@contextlib.contextmanager
def opened(place: KeyFile, euid: int) -> Iterator[tuple[int, Seen]]:
    """A descriptor of the file, and what it looks like: a change from now on shows. Raises Trouble.

    ``euid`` is whose files may be ours.
    """
    path, owners = place.path, _owners(place, euid)
    try:
        _check_kind(os.lstat(path))  # before it is opened: a device can notice that
        file = os.open(path, _FLAGS)
        try:
            _check_file(path, os.fstat(file), owners)
            _check_folders(place, owners)
            yield file, _seen(_Signature.of(os.fstat(file)))
        finally:
            os.close(file)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        raise Trouble(*_why(error), is_missing=is_missing) from None


def _seen(signature: _Signature) -> Seen:
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)  # what the kernel takes a file's times from
    times = (signature.modified, signature.changed)
    step = _RACY if any(at % 1_000_000_000 for at in times) else _RACY_ON_FAT
    return Seen(None if any(abs(now - at) < step for at in times) else signature)


class _Owners(NamedTuple):
    allowed: set[int]
    best: str  # for chown


def _owners(place: KeyFile, euid: int) -> _Owners:
    if place.user is not None:
        return _Owners({0, euid, place.uid}, place.user)
    return _Owners({0, euid}, str(euid) if euid else "root")


def _why(error: OSError) -> tuple[str, str | None]:
    match error.errno:
        case errno.ELOOP:  # the system's own words would be "too many levels of symbolic links"
            return _LINK
        case errno.ENOENT:
            return "there is no such file", "its keys open nothing until it is there"
        case errno.EACCES | errno.EPERM:
            return f"cannot be read: {error.strerror}", "run it as root"
        case _:
            return f"cannot be read: {error.strerror}", None


_LINK = ("is a link", "name the file that it leads to")


def _check_kind(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise Trouble(*_LINK)
    if not stat.S_ISREG(found.st_mode):
        raise Trouble("is no file", "name a file with a line for each key")


def _check_file(path: str, found: os.stat_result, owners: _Owners) -> None:
    _check_kind(found)
    if found.st_uid not in owners.allowed:
        raise Trouble("belongs to somebody else", f"chown {owners.best} {path}")
    if found.st_mode & 0o022:
        raise Trouble("can be written by others", f"chmod go-w {path}")


def _check_folders(place: KeyFile, owners: _Owners) -> None:
    """Whoever can write a folder can put another file into its place. Raises OSError, too."""
    home = os.path.realpath(place.home) if place.home else None
    folder = Path(os.path.realpath(place.path)).parent
    for each in (folder, *folder.parents):
        found = each.stat()
        if found.st_uid not in owners.allowed:
            raise Trouble(f"{each}, where it is, belongs to somebody else", f"chown {owners.best} {each}")
        sticky = place.user is None and found.st_mode & stat.S_ISVTX
        if found.st_mode & 0o022 and not sticky:
            raise Trouble(f"{each}, where it is, can be written by others", f"chmod go-w {each}")
        if str(each) == home:
            return
