"""Laying files down so that they can be taken up again, whatever happens in between.

A manifest says what is about to be done before any of it is done; originals that are replaced are
copied beside it first; every file appears whole by a rename. Undoing looks at what is really there
and not at how far the doing came, so it works after a crash at any point, and twice.

Knows nothing of knocking: paths and bytes only. Every path it is given is absolute, as it is on the
finished host, and stands below ``root``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knockdemo.manifest import Entry, Manifest, Saved
from knockdemo.units import File
from knockgate.errors import KnockgateError, Unavailable

__all__ = ["EDITED", "STATE", "Change", "Ledger"]

STATE = "/var/lib/knockdemo"
EDITED = ".knockdemo-edited"


@dataclass(frozen=True)
class Change:
    """What happens to one path.

    ``create``, ``replace`` (an original is kept), ``update`` (it is ours), ``edited`` (the user's own
    version is kept beside it, under the name ``kept``), ``remove``, ``restore``.
    """

    action: str
    path: str
    kept: str = ""


class Ledger:
    """The files of one installation below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> Path:
        """Where ``path`` of the finished host is on this one; Unavailable if a link leads out of the root."""
        here = self.root / path.lstrip("/")
        if self.root != Path("/") and not here.parent.resolve().is_relative_to(self.root.resolve()):
            raise Unavailable(f"{here} is outside of {self.root}", hint="a symbolic link leads there")
        return here

    # What is there

    def manifest(self) -> Manifest | None:
        """What an earlier run recorded; None if there was none."""
        path = self.at(f"{STATE}/manifest.json")
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except PermissionError:
            raise Unavailable(f"{path} may not be read", hint="run it again with sudo") from None
        return Manifest.from_json(text, str(path))

    def changes(self, files: Mapping[str, File], old: Manifest | None) -> list[Change]:
        """What ``lay_down`` would do, without doing it."""
        known = old.files if old else {}
        found = []
        for path, file in files.items():
            here = self.at(path)
            try:
                if not os.path.lexists(here):
                    found.append(Change("create", path))
                elif not _is_same(here, file):
                    found.append(Change(_what_it_is(here, known.get(path)), path))
            except PermissionError:
                raise Unavailable(f"{here} may not be read", hint="run it again with sudo") from None
        return found + [Change("remove", path) for path in known if path not in files]

    # Doing

    def lay_down(
        self,
        files: Mapping[str, File],
        old: Manifest | None,
        facts: Mapping[str, Any],
        steps: Sequence[tuple[Callable[[], None], Callable[[], object]]] = (),
    ) -> list[Change]:
        """Make the tree hold ``files``, recording it first; if anything fails, nothing has happened.

        A file that is in place already and not in ``old`` is somebody else's and stays so. ``steps``
        are done after the files, each given with what undoes it; ``facts`` must tell enough to undo them
        later.
        Raises Unavailable with the failure after having undone everything.
        """
        changes = self.changes(files, old)
        manifest = self._intend(files, old, facts, changes)
        undo: list[Callable[[], object]] = []
        try:
            self._make_directories([*_parents(STATE), STATE], undo)
            self.at(STATE).chmod(0o700)
            self._keep_manifest(manifest, undo)
            self._make_directories([path for path in manifest.directories if path != STATE], undo)
            changes = [self._apply(change, files, manifest, undo) for change in changes]
            for path, file in files.items():
                if path in manifest.files:
                    manifest.files[path].sha256 = [hashlib.sha256(file.content).hexdigest()]
            for do, take_back in steps:
                undo.append(take_back)
                do()
            manifest.complete = True
            self._keep_manifest(manifest, undo)
        except (OSError, KnockgateError, KeyboardInterrupt) as error:
            self._roll_back(undo, error)
        return changes

    def _intend(
        self, files: Mapping[str, File], old: Manifest | None, facts: Mapping[str, Any], changes: list[Change]
    ) -> Manifest:
        manifest = Manifest({**(old.facts if old else {}), **facts})
        manifest.directories = list(old.directories) if old else []
        for path in [STATE, *(change.path for change in changes if change.action != "remove")]:
            for parent in [*_parents(path), *([STATE] if path == STATE else [])]:
                if parent not in manifest.directories and not self.at(parent).is_dir():
                    manifest.directories.append(parent)
        known = old.files if old else {}
        manifest.files = {path: Entry(list(entry.sha256), entry.saved) for path, entry in known.items()}
        for change in changes:
            if change.action == "remove":
                continue
            entry = manifest.files.setdefault(change.path, Entry([]))
            if change.action == "replace":
                entry.saved = self._describe(change.path)
            entry.sha256.append(hashlib.sha256(files[change.path].content).hexdigest())
        return manifest

    def _describe(self, path: str) -> Saved:
        here = self.at(path)
        status = here.lstat()
        link = str(here.readlink()) if here.is_symlink() else None
        name = f"{STATE}/saved/{path.strip('/').replace('/', '-')}"
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        return Saved(name, _digest(here), mode, *owner, status.st_mtime_ns, link)

    def _make_directories(self, paths: list[str], undo: list[Callable[[], object]]) -> None:
        for path in paths:
            here = self.at(path)
            if not here.is_dir():
                here.mkdir()
                here.chmod(0o755)  # whatever the umask
                undo.append(here.rmdir)

    def _keep_manifest(self, manifest: Manifest, undo: list[Callable[[], object]]) -> None:
        path = self.at(f"{STATE}/manifest.json")
        undo.append(_rewriter(path))
        _write(path, File(0o600, manifest.to_json().encode()))

    def _apply(
        self, change: Change, files: Mapping[str, File], manifest: Manifest, undo: list[Callable[[], object]]
    ) -> Change:
        here = self.at(change.path)
        if change.action == "remove":
            undo.append(_rewriter(here))
            taken = self._take_up(change.path, manifest.files.pop(change.path))
            return taken[0] if taken else change
        saved = manifest.files[change.path].saved
        if change.action == "replace" and saved:
            self._make_directories([f"{STATE}/saved"], undo)
            if not saved.link:
                copy = self.at(saved.copy)
                undo.append(lambda: copy.unlink(missing_ok=True))
                _write(copy, File(0o600, here.read_bytes()))
            undo.append(lambda: self._put_back(change.path, saved))
        elif change.action == "edited":
            kept = _free_name(here)
            undo.append(lambda: kept.replace(here))
            here.replace(kept)
            change = Change("edited", change.path, str(kept))
        else:
            undo.append(_rewriter(here))
        _write(here, files[change.path])
        return change

    def _roll_back(self, undo: list[Callable[[], object]], error: BaseException) -> None:
        failures = []
        for step in reversed(undo):
            try:
                step()
            except (OSError, KnockgateError) as failure:
                failures.append(str(failure))
        if isinstance(error, KeyboardInterrupt):
            raise error
        if failures:
            raise Unavailable(
                f"{error}; and not all of it could be undone: {failures[0]}", hint="run knockdemo uninstall"
            ) from error
        raise Unavailable(f"{error}; everything was put back as it was") from error

    # Undoing

    def removals(self, manifest: Manifest) -> list[Change]:
        """What ``take_up`` would do to the files, without doing it."""
        entries = reversed(manifest.files.items())
        return [change for path, entry in entries for change in self._removal(path, entry)]

    def take_up(self, manifest: Manifest) -> list[Change]:
        """Remove what is ours, put back what was saved, keep what was edited; forget the manifest last."""
        done = []
        for path, entry in reversed(manifest.files.items()):
            done += self._take_up(path, entry)
        shutil.rmtree(self.at(f"{STATE}/saved"), ignore_errors=True)
        deepest_first = sorted(manifest.directories, key=len, reverse=True)
        for path in deepest_first:
            if not Path(STATE).is_relative_to(path):
                # What Python cached beside modules of ours is nobody's work.
                shutil.rmtree(self.at(path) / "__pycache__", ignore_errors=True)
                _rmdir_if_empty(self.at(path))
        self.at(f"{STATE}/manifest.json").unlink(missing_ok=True)
        self.forget()
        for path in deepest_first:
            if Path(STATE).is_relative_to(path):
                _rmdir_if_empty(self.at(path))
        return done

    def forget(self) -> None:
        """Remove an empty state directory: what is left of a run that died before it had a manifest."""
        for leftover in self.at(STATE).glob(".manifest.json.*"):
            leftover.unlink()
        _rmdir_if_empty(self.at(STATE))

    def _removal(self, path: str, entry: Entry) -> list[Change]:
        here, saved = self.at(path), entry.saved
        found = []
        if os.path.lexists(here):
            now = _digest(here)
            if saved and now == saved.sha256 and now not in entry.sha256:
                return []  # the run died before it came to this one
            if now not in entry.sha256:
                found.append(Change("edited", path, str(_free_name(here))))
            elif not saved:
                found.append(Change("remove", path))
        if saved and (saved.link or self.at(saved.copy).exists()):
            found.append(Change("restore", path))
        return found

    def _take_up(self, path: str, entry: Entry) -> list[Change]:
        here = self.at(path)
        for leftover in here.parent.glob(f".{here.name}.knockdemo-*"):
            leftover.unlink()
        changes = self._removal(path, entry)
        for change in changes:
            if change.action == "edited":
                here.replace(change.kept)
            elif change.action == "remove":
                here.unlink()
            elif entry.saved:
                self._put_back(path, entry.saved)
        return changes

    def _put_back(self, path: str, saved: Saved) -> None:
        here = self.at(path)
        if saved.link:
            here.unlink(missing_ok=True)
            here.symlink_to(saved.link)
            return
        _write(here, File(saved.mode, self.at(saved.copy).read_bytes()), saved)


def _what_it_is(here: Path, entry: Entry | None) -> str:
    """The action for a file that differs from what it should be."""
    now = _digest(here)
    if entry and now in entry.sha256:
        return "update"
    # An original may stand there still, if an earlier run died before it came to this file.
    return "edited" if entry and not (entry.saved and entry.saved.sha256 == now) else "replace"


def _parents(path: str) -> list[str]:
    """Every directory above ``path`` but the root, the outermost first."""
    return [str(parent) for parent in reversed(Path(path).parents) if parent != Path("/")]


def _digest(path: Path) -> str:
    """Of the content; of the target for a symbolic link, which is never the same as a file's."""
    if path.is_symlink():
        return f"link:{path.readlink()}"
    if not path.is_file():
        raise Unavailable(f"{path} is in the way and is no file", hint="move it away")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_same(path: Path, file: File) -> bool:
    return (
        not path.is_symlink()
        and path.is_file()
        and stat.S_IMODE(path.stat().st_mode) == file.mode
        and path.read_bytes() == file.content
    )


def _write(path: Path, file: File, owner: Saved | None = None) -> None:
    """Put a whole file in place by a rename; it has its mode before it has its name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.knockdemo-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
            stream.flush()
            os.fchmod(stream.fileno(), file.mode)
            if owner:
                # Only root may give a file away; nobody else could have replaced another's file.
                with contextlib.suppress(PermissionError):
                    os.fchown(stream.fileno(), owner.uid, owner.gid)
                os.utime(stream.fileno(), ns=(owner.mtime_ns, owner.mtime_ns))
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _rewriter(path: Path) -> Callable[[], None]:
    """A step that puts back what is at ``path`` now: the file as it is, or nothing."""
    if not os.path.lexists(path):
        return lambda: path.unlink(missing_ok=True)
    if path.is_symlink():
        target = path.readlink()

        def relink() -> None:
            path.unlink(missing_ok=True)
            path.symlink_to(target)

        return relink
    status = path.stat()
    before = File(stat.S_IMODE(status.st_mode), path.read_bytes())
    owner = Saved("", "", before.mode, status.st_uid, status.st_gid, status.st_mtime_ns)
    return lambda: _write(path, before, owner)


def _free_name(path: Path) -> Path:
    for number in range(1, 1000):
        name = path.with_name(path.name + EDITED + (f".{number}" if number > 1 else ""))
        if not os.path.lexists(name):
            return name
    raise Unavailable(f"too many kept versions of {path}", hint=f"remove some of the files *{EDITED}*")


def _rmdir_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
