"""Stores that an admin's command makes: whole and on the disk before they have their name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from knockgate.config import private
from knockgate.errors import Unavailable
from knockgate.store.base import PrivateBase

__all__ = ["all_of", "made", "put_in_place", "remove"]

#: What SQLite keeps beside the file, by the endings of their names.
_BESIDE = ("-wal", "-journal", "-shm")


@contextlib.contextmanager
def made(path: Path, lay_out: Callable[[PrivateBase], None], *, hint: str) -> Iterator[Path]:
    """A whole file beside ``path``, on the disk; whoever gives it that name in here has given it durably.

    ``lay_out`` fills it, in one transaction. Raises Unavailable.
    """
    # One name, so that what was killed half-way leaves one file at most, and that is gone with the next one.
    new = path.with_name(f".{path.name}.new")
    try:
        remove(new)
        base = PrivateBase(new, user="listener", hint=hint)
        try:
            with base.transaction():
                lay_out(base)
            base.do("PRAGMA wal_checkpoint(TRUNCATE)")  # out of the log, which does not get the name
        finally:
            base.close()
        yield new
        remove(new)
        private.sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} cannot be made: {error.strerror}", hint=hint) from error
    finally:
        with contextlib.suppress(OSError):
            remove(new)


def put_in_place(path: Path, lay_out: Callable[[PrivateBase], None], *, hint: str, taken: str) -> None:
    """Make the file: all of it is on the disk then, or nothing. Never over another; ``taken`` is the hint."""
    there = [each for each in all_of(path) if os.path.lexists(each)]
    if there:
        raise Unavailable(f"{there[0]} is there already", hint=taken)
    with made(path, lay_out, hint=hint) as new:
        os.link(new, path)


def remove(path: Path) -> None:
    """The file, and what is beside it. OSError."""
    for each in all_of(path):
        each.unlink(missing_ok=True)


def all_of(path: Path) -> list[Path]:
    """The file, and what SQLite may keep beside it."""
    return [path, *(path.with_name(path.name + end) for end in _BESIDE)]
