"""Sockets of the run directory, and signals as something to wait for beside them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from knockgate.errors import Unavailable

__all__ = ["Readable", "Signals", "accepted", "alone", "connected", "listen", "only_one"]

#: Where there is no room for one more connection, of ours or of the machine's.
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
#: Seconds until it is tried again.
_A_MOMENT = 0.01
#: Seconds in which who has a name shows who it is.
_PATIENCE = 1.0


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


def accepted(doorbell: socket.socket) -> socket.socket | None:
    """Who has connected; None where they are gone again, or there is no room for them.

    They go on ringing then. So it takes a moment: a loop that waits for them would turn without end.
    """
    try:
        connection, _ = doorbell.accept()
    except OSError as error:
        if error.errno in _NO_ROOM:
            time.sleep(_A_MOMENT)
        return None
    return connection


def connected(path: str, kind: socket.SocketKind, patience: float) -> socket.socket:
    """A link to who listens at ``path``, within ``patience`` seconds; each later step may take as long.

    Where many wait already one waits with them: a socket of this kind that has a time limit of Python's is
    refused at once instead (connect(2): EAGAIN). OSError; BlockingIOError where it took too long.
    """
    seconds = int(patience)
    limit = struct.pack("@ll", seconds, round((patience - seconds) * 1_000_000))
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    sock.settimeout(patience)
    return sock


def alone(directory: str, name: str, who: str, hint: str = "stop it first") -> int:
    """The descriptor that keeps every other process of the kind out, as long as it is open.

    The lock is on the folder ``name`` of the run directory. Raises Unavailable, with ``hint`` where ``who``
    has it.
    """
    folder = Path(directory, name)
    names = "gate.run_directory names the folder"
    try:
        _make_folder(Path(directory), folder)
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"cannot use the folder {folder}: {error.strerror}", hint=names) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise Unavailable(f"{who} is running already, with {directory}", hint=hint) from None
    return file


def only_one(name: str, users: Collection[int], taken: Unavailable) -> socket.socket | None:
    """What keeps every other process of the kind out of this network namespace, as long as it is open.

    Whoever has it takes those who ring (``accepted``), and hangs up: they wait in a line, and who comes when
    it is full does not see who is there. Raises ``taken`` where one of ``users`` has it. Anybody may take
    such a name: a stranger who has keeps nobody out, and None is returned.
    """
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"\0knockgate/{name}"
    try:
        ours.bind(address)
        ours.listen(16)
    except OSError:
        ours.close()
        with (
            contextlib.suppress(OSError),
            connected(address, socket.SOCK_SEQPACKET, _PATIENCE) as asking,
        ):
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", peer)[1] in users:
                raise taken from None
        return None
    ours.settimeout(0)
    return ours


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
