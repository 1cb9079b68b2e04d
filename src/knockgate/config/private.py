"""Files with secrets: read only where nobody else can have read or written them, and replaced whole.

Nothing here ever puts what is in a file into a message.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from knockgate.errors import ConfigError, Unavailable

__all__ = [
    "Sort",
    "content_of",
    "hand_over",
    "opened",
    "read",
    "replace",
    "replacement",
    "sync_folder",
    "users_of",
]


def users_of(folder: os.stat_result) -> frozenset[int]:
    """Whose files we believe in a folder of the gate's: our own, and as root those of its owner.

    Where each half is a user of its own, the folder is the listener's, and root's commands work in it. Its
    owner could put anything into it, so what root finds there is the listener's word, and no more than that.
    """
    return frozenset((os.geteuid(),) if os.geteuid() else (0, folder.st_uid))


def hand_over(file: int, folder: Path) -> None:
    """Give the owner of the folder a file that root has just made in it. OSError."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(file, owner.st_uid, owner.st_gid)


class Sort(TypedDict):
    """What a file should be, for messages, and hints for a system's error numbers."""

    kind: str
    hints: Mapping[int, str]


def read(path: Path, most: int, *, kind: str, hints: Mapping[int, str], gates: bool = False) -> bytes:
    """What is in the file, ``most`` bytes; the rest as for ``opened``."""
    with opened(path, kind=kind, hints=hints, gates=gates) as file:
        return content_of(file, path, most)


@contextlib.contextmanager
def opened(path: Path, *, kind: str, hints: Mapping[int, str], gates: bool = False) -> Iterator[int]:
    """A descriptor of the file; ``kind`` is what it should be, ``hints`` help with a system's error number.

    ``gates``: it lies in the gate's own folder (``users_of``). Raises ConfigError, whose ``file`` is None
    where it cannot be read at all: the message names it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = {**_HINTS, **hints}.get(error.errno or 0)
        raise ConfigError(f"{path} {_why(error)}", hint=hint) from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is no file", hint=f"name {kind}")
        ours = {0, os.geteuid(), *(users_of(path.parent.stat()) if gates else ())}
        if found.st_uid not in ours:
            hint = "make a copy of your own" if os.geteuid() else f"chown root {path}"
            raise ConfigError(f"{path} belongs to somebody else", hint=hint)
        if found.st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        yield file
    finally:
        os.close(file)


def content_of(file: int, path: Path, most: int) -> bytes:
    """What is in a file that is open; ConfigError as above."""
    try:
        content = os.read(file, most + 1)  # a file of this size is read at once
    except OSError as error:
        raise ConfigError(f"{path} {_why(error)}") from None
    if len(content) > most:
        raise ConfigError("is too long for a file of secrets", file=str(path))
    return content


_HINTS = {
    errno.EACCES: "it is for its owner, and for root",
    errno.ELOOP: "name the file that it leads to",
}


def _why(error: OSError) -> str:
    # The system's own words would be "too many levels of symbolic links".
    return "is a link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"


@contextlib.contextmanager
def replacement(path: Path, text: str) -> Iterator[None]:
    """Put the text in the file's place when the block ends well, for the owner of the folder alone.

    It is on the disk before the block begins, under another name, so that only the naming can still fail.
    Whoever looks, at whatever moment, finds the old file whole or the new one. Raises Unavailable where the
    disk refuses; the old file is in its place then, as it is after an exception from the block.
    One at a time: the caller sees to that.
    """
    # One name, so that what was killed half-way leaves one file at most, and that is gone with the next one.
    waiting = path.with_name(f".{path.name}.new")
    try:
        with _told(path):
            waiting.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(waiting, flags, 0o600), "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                hand_over(stream.fileno(), path.parent)
                os.fsync(stream.fileno())
        yield
        with _told(path):
            waiting.rename(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            waiting.unlink(missing_ok=True)


def replace(path: Path, text: str) -> None:
    """The same without a block: it is in the file's place when this returns."""
    with replacement(path, text):
        pass


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "what was there is as it was"
        raise Unavailable(f"{path} cannot be written: {error.strerror}", hint=hint) from None


def sync_folder(folder: Path) -> None:
    """Have the names in it on the disk: a rename is not until then. OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
