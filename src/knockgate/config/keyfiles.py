"""The files that ``[keys.NAME]`` with ``ssh`` names: read, and read again when they change.

Which may be read, and what shows that one has changed, is the business of ``strictmodes``. What cannot be
read opens nothing, from then on until it can be read again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from knockgate.config.keys import KeyFile, SshKeys
from knockgate.config.strictmodes import Seen, Trouble, opened
from knockgate.errors import ConfigError
from knockgate.spa.sshkeys import Authorized, Flaw, Listing, read
from knockgate.spa.sshkeys.files import MOST_OCTETS
from knockgate.spa.sshkeys.options import Local

__all__ = ["FileState", "KeyFiles", "Line", "Notice", "Reading"]

#: Flaws of one file that are told at a change; ``check`` tells all.
_TOLD = 20


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


class Reading(Protocol):
    """Who looks at files, and reads them."""

    def look(self) -> None:
        """A round of looks begins."""

    def is_so(self, place: KeyFile, seen: Seen) -> bool:
        """Whether it is as it was ``seen``, and cannot have changed since."""

    def read(self, place: KeyFile) -> tuple[bytes, Seen]:
        """What is in it, and what it looks like; raises Trouble."""


class _Disk:
    """``Reading`` by ourselves; ``euid`` is whose files may be ours."""

    def __init__(self, euid: int) -> None:
        self._euid = euid

    def look(self) -> None:
        """Each file is looked at when it is asked for."""

    def is_so(self, place: KeyFile, seen: Seen) -> bool:
        return seen.is_so(place.path)

    def read(self, place: KeyFile) -> tuple[bytes, Seen]:
        with opened(place, self._euid) as (file, seen):
            return os.read(file, MOST_OCTETS + 1), seen  # a file of this size is read at once


class KeyFiles:
    """The lines of all files, found by the fingerprint of their key."""

    def __init__(
        self,
        keys: Sequence[SshKeys],
        *,
        local: Local = time.mktime,
        euid: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Reads nothing yet: the first ``refresh`` does. ``euid`` is whose files may be ours.

        ``reading``: who reads them, where it is not we.
        """
        self._local = local
        self._reading = reading or _Disk(os.geteuid() if euid is None else euid)
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
        self._reading.look()
        for file in self._files.values():
            if not file.is_as_it_was(self._reading):
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
        if not file.load(self._reading, self._local):
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
        self._seen = Seen()  # not all of many users have such a file

    def is_as_it_was(self, reading: Reading) -> bool:
        """Whether it cannot have changed since it was read; of what could not be read nobody knows."""
        return reading.is_so(self.place, self._seen)

    def load(self, reading: Reading, local: Local) -> bool:
        """Read it; whether it says something else than before."""
        self._seen = Seen()
        try:
            octets, seen = reading.read(self.place)
            digest = hashlib.sha256(octets).digest()
            same = digest == self._digest
            if not same:
                self._take(self._listing(octets, local))
        except Trouble as trouble:
            self._digest = b""
            self._seen = Seen(is_missing=trouble.is_missing)
            self._take(Listing((), (), 0))
            before, self.trouble = self.trouble, Notice(self.place.path, None, trouble.message, trouble.hint)
            return before != self.trouble
        self.trouble, self._digest, self._seen = None, digest, seen
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
            raise Trouble(error.message, error.hint) from None
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


def _number(keys: Sequence[object]) -> str:
    return "1 key" if len(keys) == 1 else f"{len(keys)} keys"
