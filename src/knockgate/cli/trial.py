"""A table on trial: rolled back unless somebody confirms it in time, whatever becomes of the one who asked.

A process of its own, the keeper, is there before the table changes. It has the time, a session that no
terminal belongs to, and a socket in the run directory for `knockgate confirm`. When whoever typed
`up --confirm` is killed or cut off, the keeper goes on; when the keeper is killed, the other rolls back.
Asked to end (SIGTERM, as with the rest of a login session), the keeper rolls back at once.

What is said to the keeper, a word each: ``keep``, ``undo``, ``left``, and ``none`` where nothing was
changed after all. Its answers are JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import syslog
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from knockgate.cli.terminal import PROGRAM
from knockgate.daemon.sockets import Signals, listen
from knockgate.errors import KnockgateError, Unavailable

__all__ = ["Outcome", "Trial", "begin", "confirm", "refuse_while_one_waits", "seconds_left"]

_SOCKET, _LOCK = "trial.sock", "trial.lock"
_LONGEST = 4096
_READY = b"ready"
_PATIENCE = 30.0  # seconds, for a keeper's answer; rolling back a thousand doors takes a tenth of one


class Outcome(NamedTuple):
    """How a trial ended."""

    kept: bool
    why: str
    failure: str = ""  #: why it could not be rolled back


class Trial:
    """A trial under way, as whoever asked for it holds it. Readable when it has ended."""

    def __init__(self, connection: socket.socket, keeper: int, restore: Callable[[], None]) -> None:
        self._connection, self._keeper, self._restore = connection, keeper, restore

    def fileno(self) -> int:
        """To wait for its end."""
        return self._connection.fileno()

    def answer(self, word: str) -> None:
        """Say ``keep``, ``undo`` or ``none`` to it; too late it does nothing."""
        with contextlib.suppress(OSError):
            self._connection.send(word.encode())

    def outcome(self) -> Outcome:
        """Wait for the end."""
        with self._connection, contextlib.suppress(OSError):
            said = self._connection.recv(_LONGEST)
            os.waitpid(self._keeper, 0)
            if said:
                return Outcome(**json.loads(said))
        return _rolled_back("the process that kept the time was killed", self._restore)


def begin(run_directory: str, seconds: float, restore: Callable[[], None]) -> Trial:
    """Begin a trial; the table is to be changed only after this.

    ``restore`` makes undone what is on trial, and also where nothing has changed; it is called in
    another process. Raises Unavailable where another trial waits, or nobody can keep its time.
    """
    _make(run_directory)
    lock = _locked(run_directory)
    listening = listen(run_directory, _SOCKET, socket.SOCK_SEQPACKET)
    ours, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = os.fork()
    if keeper == 0:
        status = 1  # it must never return into the frames of a command line
        try:
            ours.close()
            _detach()
            _keep(keepers, listening, time.monotonic() + seconds, restore, Path(run_directory, _SOCKET))
            status = 0
        finally:
            os._exit(status)
    # From here on the lock is the keeper's: it is free when the keeper has ended.
    for each in (listening, keepers):
        each.close()
    os.close(lock)
    # Before it has left the terminal, the end of that would take both of us, and nobody would roll back.
    said = b""
    with contextlib.suppress(OSError):
        said = ours.recv(_LONGEST)
    if said != _READY:
        ours.close()
        os.waitpid(keeper, 0)
        raise Unavailable("the process that is to keep the time has ended", hint="nothing was changed")
    return Trial(ours, keeper, restore)


def confirm(run_directory: str) -> Outcome | None:
    """Keep what is on trial; None where nothing is."""
    said = _ask(run_directory, "keep")
    return None if said is None else Outcome(**said)


def seconds_left(run_directory: str) -> float | None:
    """How long a trial still waits; None where there is none."""
    said = _ask(run_directory, "left")
    return None if said is None else float(said.get("left", 0))


def refuse_while_one_waits(run_directory: str) -> None:
    """Raises Unavailable while a trial waits: its end would undo what is done now."""
    if _ask(run_directory, "left") is not None:
        raise _waits()


def _waits() -> Unavailable:
    hint = "`knockgate confirm` keeps it; it is rolled back at the end of its time"
    return Unavailable("an `up --confirm` is waiting for its answer", hint=hint)


def _ask(run_directory: str, word: str) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(Path(run_directory, _SOCKET)))
            connection.send(word.encode())
            said = connection.recv(_LONGEST)
        except PermissionError:
            raise Unavailable("no right to ask about a trial", hint="run it as root") from None
        except OSError:  # nobody there, or no more
            return None
    return json.loads(said) if said else None


def _make(run_directory: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            Path(run_directory).mkdir(parents=True)
            Path(run_directory).chmod(0o755)  # whatever the umask: the units have their folders in it
    except OSError as error:
        message = f"cannot make {run_directory}: {error.strerror}"
        raise Unavailable(message, hint="gate.run_directory names the folder") from None


def _locked(run_directory: str) -> int:
    """The descriptor that holds the lock. It goes to every process forked from here."""
    try:
        lock = os.open(Path(run_directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot write in {run_directory}: {error.strerror}"
        hint = (
            "run it as root" if isinstance(error, PermissionError) else "gate.run_directory names the folder"
        )
        raise Unavailable(message, hint=hint) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _waits() from None
    return lock


# --- the keeper ---------------------------------------------------------------------------------------


def _detach() -> None:
    """Leave the terminal: neither its end nor its Ctrl-C may reach us, and we must not keep it open."""
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _keep(
    asker: socket.socket,
    listening: socket.socket,
    deadline: float,
    restore: Callable[[], None],
    path: Path,
) -> None:
    """Wait for a word or the deadline, and do what follows from it."""
    with selectors.DefaultSelector() as selector:
        signals = Signals(signal.SIGTERM)
        for each in (asker, listening, signals):
            selector.register(each, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # who asked may be gone already, and has changed nothing then
            asker.send(_READY)
        who, word = _awaited(selector, listening, signals, deadline)
        if word == "none":
            path.unlink(missing_ok=True)
            return
        why = {"keep": "confirmed", "undo": "taken back", "end": "the session was ended"}.get(word, word)
        outcome = Outcome(kept=True, why=why) if word == "keep" else _rolled_back(why, restore)
        path.unlink(missing_ok=True)
        heard = [_told(each, outcome) for each in {asker, who} if each]
        if not any(heard):  # nobody is left to read it on a terminal
            syslog.openlog(PROGRAM)
            syslog.syslog(
                f"up --confirm: {why}, so it was rolled back{outcome.failure and ', but '}{outcome.failure}"
            )


def _awaited(
    selector: selectors.BaseSelector, listening: socket.socket, signals: Signals, deadline: float
) -> tuple[socket.socket | None, str]:
    """Who said the word that ends the trial, and the word."""
    while (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            if key.fileobj is signals:
                return None, "end"
            if key.fileobj is listening:
                selector.register(listening.accept()[0], selectors.EVENT_READ)
                continue
            peer: socket.socket = key.fileobj  # type: ignore[assignment] # all others are connections
            word = _word_of(peer)
            if word == "left":
                _say(peer, {"left": deadline - time.monotonic()})
            elif word in ("keep", "undo", "none"):
                return peer, word
            else:  # it is gone, or speaks another language
                selector.unregister(peer)
                peer.close()
    return None, "not confirmed in time"


def _word_of(peer: socket.socket) -> str:
    with contextlib.suppress(OSError):
        return peer.recv(_LONGEST).decode(errors="replace")
    return ""


def _rolled_back(why: str, restore: Callable[[], None]) -> Outcome:
    try:
        restore()
    except KnockgateError as error:
        return Outcome(kept=False, why=why, failure=str(error))
    return Outcome(kept=False, why=why)


def _told(peer: socket.socket, outcome: Outcome) -> bool:
    return _say(peer, outcome._asdict())


def _say(peer: socket.socket, what: dict[str, object]) -> bool:
    try:
        peer.send(json.dumps(what).encode())
    except OSError:
        return False
    return True
