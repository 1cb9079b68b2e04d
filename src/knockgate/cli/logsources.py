"""Where the gate's log can be read: the journal, a file, or standard input; what there is, and what comes."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from knockgate.cli.live import Waiting
from knockgate.cli.loglines import Entry, Wanted, of_journal, of_line
from knockgate.errors import Unavailable

__all__ = ["File", "Journal"]

#: Those of `knockgate install`, by name: of a pattern, journalctl takes what there is at its start.
UNITS = tuple(f"knockgate-{name}" for name in ("warden", "listener", "keeper", "runner", "rules"))
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER"
_JOURNALS = ("/var/log/journal", "/run/log/journal")
_ELSEWHERE = "--file FILE reads what `knockgate run` has said on standard error; --file - what is piped"
#: Bytes of a line; what is longer is no line of ours, and is told in pieces.
_LONGEST = 1 << 20


class Journal:
    """systemd's, by way of journalctl."""

    def __init__(self, wanted: Wanted) -> None:
        """Raises Unavailable where there is none, or none that we may read."""
        self._wanted = wanted
        self._began = time.clock_gettime(time.CLOCK_REALTIME)
        newest = list(self._entries("--reverse", "--lines=1"))
        if not newest:
            _refuse_what_is_not_there()
        self._cursor = newest[0].cursor if newest else ""

    def forwards(self) -> Iterator[Entry]:
        """All that there is, in its order."""
        for entry in self._entries(*self._bounds()):
            self._cursor = entry.cursor
            yield entry

    def backwards(self) -> Iterator[Entry]:
        """The same, the newest first."""
        for number, entry in enumerate(self._entries("--reverse", *self._bounds())):
            if number == 0:
                self._cursor = entry.cursor
            yield entry

    def later(self) -> Iterator[Entry]:
        """What comes after all that was read, without an end."""
        after = f"--after-cursor={self._cursor}" if self._cursor else f"--since=@{int(self._began)}"
        yield from self._entries("--follow", "--no-tail", after)
        raise Unavailable("journalctl has ended", hint="is the journal still there?")

    def _bounds(self) -> list[str]:
        """To the second; to the letter is the choice's business."""
        found = []
        if self._wanted.since is not None:
            found.append(f"--since=@{max(0, int(self._wanted.since))}")
        if self._wanted.until is not None:
            found.append(f"--until=@{max(0, int(self._wanted.until)) + 1}")
        return found

    def _entries(self, *words: str) -> Iterator[Entry]:
        units = [f"--unit={each}" for each in UNITS]
        # --all: else what is longer than 4 KiB is left out.
        command = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json"]
        for line in _said([*command, f"--output-fields={_FIELDS}", *units, *words]):
            with contextlib.suppress(ValueError):
                facts = json.loads(line)
                if isinstance(facts, dict):
                    yield of_journal(facts)


def _refuse_what_is_not_there() -> None:
    """Raises Unavailable where it is not only that the gate has said nothing so far."""
    folders = [each for each in map(Path, _JOURNALS) if each.is_dir()]
    files: list[Path] = []
    closed = False
    for folder in folders:
        for below in (folder, *folder.glob("*")):
            closed |= below.is_dir() and not os.access(below, os.R_OK | os.X_OK)
        files += folder.glob("*/system*.journal")
    if any(os.access(each, os.R_OK) for each in files):
        return
    if files or closed:
        hint = "sudo, or for good: usermod -aG systemd-journal USER, and log in again"
        message = "no right to read the journal: root has it, and the group systemd-journal"
        raise Unavailable(message, hint=hint)
    raise Unavailable("there is no journal on this host", hint=_ELSEWHERE)


def _said(command: Sequence[str]) -> Iterator[str]:
    """The lines of a program as they come; it ends with us. Raises Unavailable where it fails."""
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=os.environ | {"LC_ALL": "C"},
            )
        except OSError:
            raise Unavailable(f"there is no {command[0]} on this host", hint=_ELSEWHERE) from None
        try:
            if process.stdout:
                yield from _lines(process.stdout.fileno())
            failed = process.wait()
        finally:
            process.terminate()
            with process:  # which waits for it
                pass
        if failed:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()
            if command[0] == "journalctl":
                _refuse_what_is_not_there()
            raise Unavailable(f"{command[0]} fails: {said[-1] if said else failed}")


def _is_file(descriptor: int) -> bool:
    """Which always has something, be it the end."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _lines(descriptor: int) -> Iterator[str]:
    """As they come; BrokenPipeError where nobody reads ours any more."""
    is_file = _is_file(descriptor)
    waiting = Waiting(*([] if is_file else [descriptor]))
    rest = b""
    while True:
        waiting.wait(0 if is_file else None)
        chunk = os.read(descriptor, 1 << 16)
        *whole, rest = (rest + chunk).split(b"\n")
        if not chunk or len(rest) > _LONGEST:
            whole, rest = ([*whole, rest] if rest else whole), b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if not chunk:
            return


class File:
    """Lines as the daemon wrote them, as syslog keeps them, or as ``log --json`` prints them."""

    def __init__(self, path: str) -> None:
        """``-`` is standard input. Raises Unavailable where it cannot be read."""
        self._path = path
        if path == "-":
            self._descriptor = 0
            return
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.read(self._descriptor, 0)  # which a folder does not allow
        except OSError as error:
            hint = "run it as root" if isinstance(error, PermissionError) else "--file - is standard input"
            raise Unavailable(f"{path}: {error.strerror}", hint=hint) from None

    @property
    def has_an_end(self) -> bool:
        """False of a pipe, which one can only follow."""
        return self._path != "-" and _is_file(self._descriptor)

    def forwards(self) -> Iterator[Entry]:
        """All that there is; of a pipe until its end."""
        for line in _lines(self._descriptor):
            yield of_line(line)

    def later(self) -> Iterator[Entry]:
        """What is added after that, also to another file of that name."""
        if not self.has_an_end:
            return
        at = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        for line in _said(["tail", "-q", "-c", f"+{at + 1}", "-F", "--", self._path]):
            yield of_line(line)
