"""Files that appear whole, all of them or none, and never over another."""

from __future__ import annotations

import contextlib
import grp
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from knockgate.config.doors import DEFAULT_PATH
from knockgate.config.private import sync_folder
from knockgate.errors import Unavailable

__all__ = ["folder_there", "for_the_halves", "refuse_without_right", "write_new", "written"]


def refuse_without_right(folder: Path) -> None:
    """Raises Unavailable without the right to write there; where it is missing, in the nearest one above."""
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110 - which needs no right
    if not os.access(there, os.W_OK):
        raise Unavailable(f"{there}: no right to write there", hint="run it as root")


def _as_it_is(file: int, path: Path) -> None:
    """Ours, and of the mode that it was made with."""


def for_the_halves(file: int, path: Path) -> None:
    """Where the folder is the units' group's they can read gate.toml, whatever the umask. OSError."""
    group = path.parent.stat().st_gid
    if path.name == DEFAULT_PATH.name and os.geteuid() == 0 and group == _units_group():
        os.fchown(file, -1, group)
        os.fchmod(file, 0o640)


def _units_group() -> int | None:
    try:
        return grp.getgrnam("knockgate").gr_gid  # knockgate.sysusers
    except KeyError:
        return None


def write_new(
    files: Mapping[Path, str] | Mapping[Path, bytes],
    *,
    private: frozenset[Path],
    dress: Callable[[int, Path], None] = _as_it_is,
) -> None:
    """Write the files, with folders that are missing; those in ``private`` are for the owner alone.

    ``dress`` gives a file its owner and mode, before it has its name (OSError). Raises Unavailable, after
    which nothing is there that was not before. Each text is on the disk under another name first; a link to
    it fails where its own name is taken, which a rename would not.
    """
    with written(files, private=private, dress=dress):
        pass


@contextlib.contextmanager
def written(
    files: Mapping[Path, str] | Mapping[Path, bytes],
    *,
    private: frozenset[Path],
    dress: Callable[[int, Path], None] = _as_it_is,
) -> Iterator[None]:
    """The same, for a block that needs them: where it raises, they are taken away again."""
    made: list[Path] = []
    folders: list[Path] = []
    waiting: dict[Path, Path] = {}
    path = Path()  # the one at work
    try:
        for path, text in files.items():
            _make_folder(path.parent, folders, private=path in private)
            waiting[path] = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            file = _made(waiting[path], 0o600 if path in private else 0o644)
            with os.fdopen(file, "wb") as stream:
                stream.write(text.encode() if isinstance(text, str) else text)
                stream.flush()
                dress(file, path)
                os.fsync(file)
        for path, temporary in waiting.items():
            os.link(temporary, path)
            made.append(path)
        for path in dict.fromkeys(each.parent for each in made):
            sync_folder(path)
    except OSError as error:
        _remove_all([*made, *waiting.values()], folders)
        raise _refusal(error, path) from None
    _remove_all(waiting.values(), [])
    try:
        yield
    except BaseException:
        _remove_all(made, folders)
        raise


@contextlib.contextmanager
def folder_there(folder: Path) -> Iterator[None]:
    """A folder for the owner alone, unless it is there; where the block raises it is taken away again.

    Raises Unavailable where it cannot be made.
    """
    made: list[Path] = []
    try:
        _make_folder(folder, made, private=True)
    except OSError as error:
        _remove_all([], made)
        raise Unavailable(f"{folder} cannot be made: {error.strerror}") from None
    try:
        yield
    except BaseException:
        _remove_all([], made)
        raise


def _refusal(error: OSError, path: Path) -> Unavailable:
    if isinstance(error, FileExistsError):
        return Unavailable(
            f"{path} is there already", hint="it is left as it is: take it away, or name another"
        )
    hint = "run it as root" if isinstance(error, PermissionError) else None
    return Unavailable(f"{path} cannot be written: {error.strerror}", hint=hint)


def _make_folder(folder: Path, made: list[Path], *, private: bool) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700 if private and each == folder else 0o755)
        made.append(each)
        sync_folder(each.parent)


def _made(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _remove_all(files: Iterable[Path], folders: list[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()
