"""Sockets of the run directory, and signals as something to wait for beside them."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Protocol

from knockgate.errors import KnockgateError, Unavailable

__all__ = ["Readable", "Seldom", "Signals", "alone", "listen", "say", "say_why"]


class Readable(Protocol):
    """Something that can be waited for."""

    def fileno(self) -> int:
        """The descriptor that becomes readable."""


def listen(directory: str, name: str, kind: socket.SocketKind, *, mode: int = 0o600) -> socket.socket:
    """A socket to be connected to, in place of one that is left over. It does not block.

    ``name`` may lie in a folder below, which is made where it is missing. Raises Unavailable where the
    directory is missing, forbidden, or its name too long for a socket.
    """
    path = Path(directory, name)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        _make_folder(Path(directory), path.parent)
        path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~mode)  # so that it never has another mode, not for a moment either
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.settimeout(0)
        sock.listen(16)
    except OSError as error:
        sock.close()
        message = f"cannot make the socket {path}: {error.strerror or error}"
        raise Unavailable(message, hint="gate.run_directory names the folder") from None
    return sock


def alone(directory: str, name: str, who: str) -> int:
    """The descriptor that keeps every other process of the kind out, as long as it is open.

    The lock is on the folder ``name`` of the run directory. Raises Unavailable, also where ``who`` has it.
    """
    folder = Path(directory, name)
    hint = "gate.run_directory names the folder"
    try:
        _make_folder(Path(directory), folder)
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"cannot use the folder {folder}: {error.strerror}", hint=hint) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise Unavailable(f"{who} is running already, with {directory}", hint="stop it first") from None
    return file


def _make_folder(directory: Path, folder: Path) -> None:
    """One below the run directory; systemd makes it beforehand, with the right owner. OSError."""
    if folder != directory:
        folder.mkdir(mode=0o700, exist_ok=True)


class Signals:
    """The signals that arrived, for a loop that waits on descriptors; their usual effects are off.

    A handler would break into whatever is being done; here the loop comes to them when it has time.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """Readable when there are some."""
        return self._reader.fileno()

    def take(self) -> set[signal.Signals]:
        """Those that came since the last time."""
        with contextlib.suppress(BlockingIOError):
            return {signal.Signals(number) for number in self._reader.recv(4096)}
        return set()


class _Log:
    """Lines on stderr, as long as somebody takes them: to guard is more than to tell of it."""

    def __init__(self) -> None:
        self._lost = 0
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)

    def write(self, program: str, text: str) -> None:
        if self._lost and self._put(f"{program}: {self._lost} lines were lost, nobody read the log"):
            self._lost = 0
        if self._lost or not self._put(f"{program}: {text}"):
            self._lost += 1

    def _put(self, line: str) -> bool:
        """False where it would have to wait. A pipe that is ready takes _LONGEST_LINE bytes at once."""
        if any(what & select.POLLOUT == 0 for _, what in self._poll.poll(0) or [(2, 0)]):
            return False
        with contextlib.suppress(OSError):  # whoever read it is gone; that is no reason to stop guarding
            whole = line.encode(errors="backslashreplace")[: _LONGEST_LINE - 1]
            sys.stderr.write(whole.decode(errors="ignore") + "\n")
            sys.stderr.flush()
        return True


#: Bytes of a line, with its end (PIPE_BUF); the rest is cut off.
_LONGEST_LINE = 4096
_log = _Log()


def say(program: str, text: str) -> None:
    """One line on stderr; systemd and syslog stamp it with the time.

    It never waits for a reader: lines that find no room are dropped, and counted in a later one.
    """
    _log.write(program, text)


def say_why(program: str, error: KnockgateError) -> None:
    """An error in one line, and its hint in another."""
    say(program, str(error))
    if error.hint:
        say(program, f"hint: {error.hint}")


#: Kinds that ``Seldom`` remembers; for one more the first of them is forgotten.
_KINDS = 4096


class Seldom:
    """Says things that may happen often: at once, and then not for a minute, but how often in between."""

    def __init__(self, program: str, *, every: float = 60.0) -> None:
        """``every``: seconds between two lines of one kind."""
        self._program, self._every = program, every
        self._said: dict[str, tuple[float, int]] = {}  # kind -> when, and how often it was not said since

    def say(self, kind: str, text: str) -> None:
        """``text`` may differ. Of kinds that have people's own words in them not all are remembered."""
        now = time.monotonic()
        when, unsaid = self._said.get(kind, (-math.inf, 0))
        if kind not in self._said and len(self._said) >= _KINDS:
            del self._said[next(iter(self._said))]
        if now < when + self._every:
            self._said[kind] = when, unsaid + 1
            return
        self._said[kind] = now, 0
        say(self._program, f"{text} ({unsaid} more of the kind since the last line)" if unsaid else text)
