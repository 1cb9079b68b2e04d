"""The files that ``[keys.NAME]`` with ``ssh`` names: read, and read again when they change.

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

What cannot be read opens nothing, from then on until it can be read again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.config.keys import KeyFile, SshKeys
from knockgate.errors import ConfigError
from knockgate.spa.sshkeys import Authorized, Flaw, Listing, read
from knockgate.spa.sshkeys.files import MOST_OCTETS
from knockgate.spa.sshkeys.options import Local

__all__ = ["FileState", "KeyFiles", "Line", "Notice"]

#: Nanoseconds. What changed so short a time ago may have changed twice without another time to show for it.
_RACY, _RACY_ON_FAT = 100_000_000, 2_100_000_000
#: Flaws of one file that are told at a change; ``check`` tells all.
_TOLD = 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Line(NamedTuple):
    """A line of a file that a key of gate.toml names."""

    group: str  #: the name of that key
    file: str
    entry: Authorized


class Notice(NamedTuple):
    """What an admin should know of a file; ``str`` makes a line for the log."""

    file: str
    line: int | None
    message: str
    hint: str | None
    flaw: Flaw | None = None  #: of a line that is not taken

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class FileState(NamedTuple):
    """What there is to say of a file."""

    group: str
    path: str
    keys: tuple[Authorized, ...]
    authorities: int  #: lines that trust certificates, which we do not
    trouble: Notice | None  #: why it cannot be used
    flaws: tuple[Notice, ...]  #: of single lines


class KeyFiles:
    """The lines of all files, found by the fingerprint of their key."""

    def __init__(
        self, keys: Sequence[SshKeys], *, local: Local = time.mktime, euid: int | None = None
    ) -> None:
        """Reads nothing yet: the first ``refresh`` does. ``euid`` is whose files may be ours."""
        self._local = local
        self._euid = os.geteuid() if euid is None else euid
        self._files: dict[tuple[KeyFile, bool], _File] = {}
        self._places: list[tuple[str, _File]] = []  # in the order in which lines are found
        for group in keys:
            for place in group.files:
                file = self._files.setdefault((place, group.ours), _File(place, group.ours))
                file.ranks.append(len(self._places))
                self._places.append((group.name, file))
        # Fingerprint -> rank of a file -> its lines with that key. Few have more than one rank.
        self._index: dict[bytes, dict[int, tuple[Authorized, ...]]] = {}

    def refresh(self) -> tuple[Notice, ...]:
        """Read again what has changed; where nothing has, it is one lstat(2) a file.

        So it can be called for each knock, and a line that is taken out opens nothing from that moment on.
        What it returns is for the log.
        """
        notices: list[Notice] = []
        for file in self._files.values():
            if not file.is_as_it_was():
                notices += self._look_again(file)
        return tuple(notices)

    def find(self, fingerprint: bytes) -> tuple[Line, ...]:
        """The lines with the key of that fingerprint (32 bytes), in the order of keys, files and lines."""
        return tuple(
            Line(self._places[rank][0], self._places[rank][1].place.path, entry)
            for rank, entries in sorted(self._index.get(fingerprint, {}).items())
            for entry in entries
        )

    @property
    def total(self) -> int:
        """How many keys there are, each counted once."""
        return len(self._index)

    @property
    def files(self) -> tuple[FileState, ...]:
        """Each file of each key of gate.toml, in their order."""
        return tuple(file.state(group) for group, file in self._places)

    @property
    def flaws(self) -> tuple[Notice, ...]:
        """All that is wrong with the files now, each thing once."""
        return tuple(notice for file in self._files.values() for notice in file.wrong())

    def _look_again(self, file: _File) -> Iterator[Notice]:
        before, was_in_trouble, told = file.fingerprints, file.trouble is not None, set(file.flaws)
        if not file.load(self._local, self._euid):
            return
        for fingerprint in before.keys() - file.fingerprints.keys():
            ranks = self._index[fingerprint]
            for rank in file.ranks:
                del ranks[rank]
            if not ranks:
                del self._index[fingerprint]
        for fingerprint, entries in file.fingerprints.items():
            self._index.setdefault(fingerprint, {}).update(dict.fromkeys(file.ranks, entries))
        if file.trouble:
            yield file.trouble
            return
        if was_in_trouble:
            yield Notice(file.place.path, None, f"can be read again, and has {_number(file.keys)}", None)
        fresh = [notice for notice in file.flaws if notice not in told]
        yield from fresh[:_TOLD]
        if len(fresh) > _TOLD:
            message = f"{len(fresh) - _TOLD} more lines are not taken"
            yield Notice(file.place.path, None, message, "knockgate check tells which")


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


class _Trouble(Exception):
    """The file cannot be used."""

    def __init__(self, message: str, hint: str | None, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.is_missing = message, hint, is_missing


class _File:
    """One file, and what it said when it was read last."""

    def __init__(self, place: KeyFile, ours: bool) -> None:  # noqa: FBT001 - one caller
        self.place = place
        self.ranks: list[int] = []
        self.fingerprints: dict[bytes, tuple[Authorized, ...]] = {}
        self.keys: tuple[Authorized, ...] = ()
        self.flaws: tuple[Notice, ...] = ()
        self.trouble: Notice | None = None
        self._authorities = 0
        self._ours = ours
        self._digest = b""
        # What its lines with a key came to. To read one takes 60 us, most of it for the point on the curve.
        self._lines: dict[bytes, Authorized] = {}
        self._signature: _Signature | None = None  # None: read it again, whatever it looks like
        self._is_missing = False  # and we have said so; not all of many users have such a file

    def is_as_it_was(self) -> bool:
        """Whether it can have changed since it was read; of what could not be read nobody knows."""
        if self._signature is None and not self._is_missing:
            return False
        try:
            return _Signature.of(os.lstat(self.place.path)) == self._signature
        except FileNotFoundError:
            return self._is_missing
        except OSError:
            return False

    def load(self, local: Local, euid: int) -> bool:
        """Read it; whether it says something else than before."""
        self._signature, self._is_missing = None, False
        try:
            octets, signature = self._read(euid)
            digest = hashlib.sha256(octets).digest()
            same = digest == self._digest
            if not same:
                self._take(self._listing(octets, local))
        except _Trouble as trouble:
            self._digest = b""
            self._is_missing = trouble.is_missing
            self._take(Listing((), (), 0))
            before, self.trouble = self.trouble, Notice(self.place.path, None, trouble.message, trouble.hint)
            return before != self.trouble
        self.trouble, self._digest, self._signature = None, digest, signature
        return not same

    def state(self, group: str) -> FileState:
        """For one of those that name it."""
        return FileState(group, self.place.path, self.keys, self._authorities, self.trouble, self.flaws)

    def wrong(self) -> Iterator[Notice]:
        """What is wrong with it, and with its lines."""
        if self.trouble:
            yield self.trouble
        yield from self.flaws

    def _listing(self, octets: bytes, local: Local) -> Listing:
        """What it says; lines with a key that were there before are not read again."""
        lines = octets.split(b"\n")
        kept = {
            number: known._replace(line=number)
            for number, line in enumerate(lines, 1)
            if (known := self._lines.get(line))
        }
        if len(octets) <= MOST_OCTETS:
            octets = b"\n".join(b"#" if number in kept else line for number, line in enumerate(lines, 1))
        try:
            listing = read(octets, ours=self._ours, local=local)
        except ConfigError as error:
            raise _Trouble(error.message, error.hint) from None
        keys = tuple(sorted((*kept.values(), *listing.keys), key=lambda entry: entry.line))
        self._lines = {lines[entry.line - 1]: entry for entry in keys}
        return listing._replace(keys=keys)

    def _take(self, listing: Listing) -> None:
        found: dict[bytes, list[Authorized]] = {}
        for entry in listing.keys:
            found.setdefault(entry.key.fingerprint, []).append(entry)
        self.fingerprints = {fingerprint: tuple(entries) for fingerprint, entries in found.items()}
        self.keys, self._authorities = listing.keys, listing.authorities
        self.flaws = tuple(
            Notice(
                self.place.path,
                flaw.line,
                f"{flaw.message} ({flaw.key})" if flaw.key else flaw.message,
                flaw.hint,
                flaw.flaw,
            )
            for flaw in listing.flaws
        )

    def _read(self, euid: int) -> tuple[bytes, _Signature | None]:
        """What is in it, and what it looks like; None where that may not show the next change."""
        path, owners = self.place.path, _owners(self.place, euid)
        try:
            _check_kind(os.lstat(path))  # before it is opened: a device can notice that
            opened = os.open(path, _FLAGS)
            try:
                _check_file(path, os.fstat(opened), owners)
                _check_folders(self.place, owners)
                signature = _Signature.of(os.fstat(opened))  # so that a change from now on shows
                octets = os.read(opened, MOST_OCTETS + 1)  # a file of this size is read at once
            finally:
                os.close(opened)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            raise _Trouble(*_why(error), is_missing=is_missing) from None
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)  # what the kernel takes a file's times from
        times = (signature.modified, signature.changed)
        step = _RACY if any(at % 1_000_000_000 for at in times) else _RACY_ON_FAT
        racy = any(abs(now - at) < step for at in times)
        return octets, None if racy else signature


def _number(keys: Sequence[object]) -> str:
    return "1 key" if len(keys) == 1 else f"{len(keys)} keys"


# --- whether a file may be used -----------------------------------------------------------------------


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
        raise _Trouble(*_LINK)
    if not stat.S_ISREG(found.st_mode):
        raise _Trouble("is no file", "name a file with a line for each key")


def _check_file(path: str, found: os.stat_result, owners: _Owners) -> None:
    _check_kind(found)
    if found.st_uid not in owners.allowed:
        raise _Trouble("belongs to somebody else", f"chown {owners.best} {path}")
    if found.st_mode & 0o022:
        raise _Trouble("can be written by others", f"chmod go-w {path}")


def _check_folders(place: KeyFile, owners: _Owners) -> None:
    """Whoever can write a folder can put another file into its place. Raises OSError, too."""
    home = os.path.realpath(place.home) if place.home else None
    folder = Path(os.path.realpath(place.path)).parent
    for each in (folder, *folder.parents):
        found = each.stat()
        if found.st_uid not in owners.allowed:
            raise _Trouble(f"{each}, where it is, belongs to somebody else", f"chown {owners.best} {each}")
        sticky = place.user is None and found.st_mode & stat.S_ISVTX
        if found.st_mode & 0o022 and not sticky:
            raise _Trouble(f"{each}, where it is, can be written by others", f"chmod go-w {each}")
        if str(each) == home:
            return
