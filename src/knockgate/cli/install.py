"""``knockgate install`` and ``uninstall``: the gate as units of systemd, each half a user of its own.

A list of what was laid down is kept, with the digest of each file. Only what is as we left it is ever
replaced or removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say
from knockgate.cli.words import FILE
from knockgate.config.doors import DEFAULT_PATH
from knockgate.config.private import sync_folder
from knockgate.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from knockgate.cli.unitfiles import Program

__all__ = ["install", "uninstall"]

#: What was laid down.
LIST = "/var/lib/knockgate-installed.json"
_FORMAT = 1
_PROGRAM_WORKS = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class _Change:
    """One file of the host."""

    action: str  # create, replace, remove, keep
    path: str


@click.command(cls=Page)
@click.option("--now", is_flag=True, help="Enable and start the units as well.")
@click.option("--root", metavar="DIR", type=FILE, default="/", help="Fill another tree, for packaging.")
@click.option("--packages", metavar="DIR", type=FILE, help="With --root: where knockgate's package will lie.")
@click.option("--units", metavar="DIR", type=FILE, help="Where units go (default: /etc/systemd/system).")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Say it as one JSON object.")
def install(
    *, now: bool, root: str, packages: str | None, units: str | None, dry_run: bool, as_json: bool
) -> int:
    """Set the gate up as services of systemd: each half a user of its own, none of them root.

    Lays down

        knockgate-warden      owns the table, opens and shuts; the only one that may change the firewall
        knockgate-listener    hears and judges knocks; has no rights once it listens
        knockgate-keeper      reads the files of keys for the listener; sees no network
        knockgate-runner      runs the commands of doors; as root, and only where there are commands
        knockgate-rules       instead of all these: the table alone, for sequences in the kernel

    and users and folders for them, and has systemd read it. Starts nothing, unless --now is given: it says
    what to type. The doors are shut before any interface comes up at boot. Run it again after an upgrade, or
    when Python has moved: what differs is laid down anew. To change a unit, say `systemctl edit`.

    Where knockgate is Debian's package, the units are there already; then this takes away those that another
    installation has laid down, which would come before them.

    With --root another tree is filled, as a package would; nothing outside of it is touched or run.

    Exit status: 0; 2 it could not be done: then nothing was changed.

    For example:

        knockgate install --dry-run
        knockgate install --now
    """
    from knockgate.cli import unitfiles  # noqa: PLC0415 - see cli

    tree = _Tree(Path(root).resolve())
    if packages and tree.is_live:
        raise ConfigError("is for another tree", key="--packages", hint="give --root as well")
    if now and not tree.is_live:
        raise ConfigError("nothing can be started in another tree", key="--now")
    if tree.is_live and not dry_run:
        _require_root()
    program = unitfiles.elsewhere(packages) if packages else unitfiles.here()
    if tree.is_live:
        _require_systemd()
        _try(program)
    if now:
        _check_configuration()
    packaged = tree.is_live and unitfiles.comes_as_package()
    files = {} if packaged else unitfiles.render(program, units or unitfiles.UNITS)
    changes = tree.changes(files)
    if not dry_run:
        tree.lay_down(files, changes)
        if tree.is_live:
            if not packaged:
                _make_users(files)
            _run("systemctl", "daemon-reload")
            if now:
                _run("systemctl", "enable", "--now", *unitfiles.RUNNING)
    following = [] if now or not tree.is_live else [f"systemctl enable --now {' '.join(unitfiles.RUNNING)}"]
    if tree.is_live and tree.was_there and any(each.action != "create" for each in changes) and not now:
        following = [f"systemctl try-restart {' '.join(unitfiles.RUNNING)}"]
    _tell(tree, changes, following, dry_run=dry_run, as_json=as_json)
    return 0


@click.command(cls=Page)
@click.option("--root", metavar="DIR", type=FILE, default="/", help="Take it out of another tree.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Say it as one JSON object.")
def uninstall(*, root: str, dry_run: bool, as_json: bool) -> int:
    """Stop the services, and take away what `knockgate install` has laid down.

    The doors stay shut, until the next boot: the table is in the kernel, and live leases with it. Say
    `knockgate down` to open them all. Configuration, keys and what the gate remembers stay as well, and so
    do the users to whom they belong. A file that somebody has changed is left, and told of.

    Exit status: 0; 2 it could not be done.
    """
    from knockgate.cli import unitfiles  # noqa: PLC0415 - see cli

    tree = _Tree(Path(root).resolve())
    if tree.is_live and not dry_run:
        _require_root()
    if tree.is_live and unitfiles.comes_as_package() and not tree.was_there:
        hint = "apt remove knockgate; or, to stop it alone: systemctl disable --now "
        raise Unavailable("the units are the package's", hint=hint + " ".join(unitfiles.RUNNING))
    changes = tree.removals()
    names = [Path(each.path).name for each in changes if each.path.endswith((".service", ".socket"))]
    if not dry_run and tree.was_there:
        if tree.is_live:
            # In their order: who asks the others ends first.
            _run("systemctl", "disable", "--now", *reversed(unitfiles.RUNNING))
            _run("systemctl", "stop", *names, may_fail=True)
        tree.take_up(changes)
        if tree.is_live:
            _run("systemctl", "daemon-reload")
            _run("systemctl", "reset-failed", *names, may_fail=True)
    _tell(
        tree,
        changes,
        ["knockgate down"] if tree.is_live and changes else [],
        dry_run=dry_run,
        as_json=as_json,
    )
    return 0


class _Tree:
    """A host's files, and the list of ours among them."""

    def __init__(self, root: Path) -> None:
        try:
            is_there = root.is_dir()
        except PermissionError:
            raise Unavailable(f"{root}: no right to look there", hint="run it as root") from None
        if not is_there:
            raise ConfigError(f"there is no directory {root}", key="--root")
        self.root = root
        self.is_live = root == Path("/")
        self._list = self._at(LIST)
        self._ours = self._read()
        self.was_there = bool(self._ours)

    def changes(self, files: dict[str, str]) -> list[_Change]:
        """What is to be done; raises Unavailable where something of somebody else's is in the way."""
        found = []
        for path, text in files.items():
            there = self._digest(path)
            if there is None:
                found.append(_Change("create", path))
            elif there != _digest(text.encode()):
                if there != self._ours.get(path):
                    known = "was changed by somebody" if path in self._ours else "is not from this installer"
                    hint = "move it away; changes of your own belong into `systemctl edit`"
                    raise Unavailable(f"{path} is there, and {known}", hint=hint)
                found.append(_Change("replace", path))
        gone = [path for path in self._ours if path not in files]
        return found + [_Change(self._fate(path), path) for path in gone]

    def removals(self) -> list[_Change]:
        """All of ours; ``keep`` what is not as we left it."""
        return [
            _Change(self._fate(path), path) for path in sorted(self._ours) if self._digest(path) is not None
        ]

    def lay_down(self, files: dict[str, str], changes: Sequence[_Change]) -> None:
        """Raises Unavailable; what is changed by then is on the list."""
        for change in changes:
            if change.action in ("create", "replace"):
                self._ours[change.path] = _digest(files[change.path].encode())
        self._write_list()  # first, so that what is killed half-way can be taken up
        for change in changes:
            path = self._at(change.path)
            with _told(path):
                if change.action in ("create", "replace"):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, files[change.path])
                elif change.action == "remove":
                    path.unlink(missing_ok=True)
        self._ours = {path: digest for path, digest in self._ours.items() if path in files}
        if self._ours:
            self._write_list()
        else:
            self._forget_list()

    def take_up(self, changes: Sequence[_Change]) -> None:
        """The list goes last."""
        for change in changes:
            path = self._at(change.path)
            with _told(path):
                if change.action == "remove":
                    path.unlink(missing_ok=True)
        self._forget_list()

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _fate(self, path: str) -> str:
        return "remove" if self._digest(path) in (None, self._ours[path]) else "keep"

    def _digest(self, path: str) -> str | None:
        """None where there is none; of what is no file something that no file has."""
        there = self._at(path)
        with _told(there):
            if there.is_symlink() or (there.exists() and not there.is_file()):
                return ""
            return _digest(there.read_bytes()) if there.exists() else None

    def _read(self) -> dict[str, str]:
        try:
            found: dict[str, Any] = json.loads(self._list.read_text(encoding="utf-8"))
            if found["format"] != _FORMAT:
                raise Unavailable(f"{self._list} is of another version", hint="use that knockgate")
            return dict(found["files"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError):
            hint = "take it away; units of before are then in the way, and have to be removed by hand"
            raise Unavailable(f"{self._list} cannot be read", hint=hint) from None

    def _forget_list(self) -> None:
        with _told(self._list):
            self._list.unlink(missing_ok=True)

    def _write_list(self) -> None:
        with _told(self._list):
            self._list.parent.mkdir(parents=True, exist_ok=True)
            _write(self._list, json.dumps({"format": _FORMAT, "files": self._ours}, indent=1) + "\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, text: str) -> None:
    """Whole, or not at all, and for everybody to read. OSError."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o644), "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o644)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _told(path: Path) -> Any:  # noqa: ANN401 - an iterator
    try:
        yield
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "then run it again: it goes on"
        raise Unavailable(f"{path}: {error.strerror}", hint=hint) from None


# --- the host -----------------------------------------------------------------------------------------


def _require_root() -> None:
    if os.geteuid():
        raise Unavailable("units are root's to lay down", hint="run it as root; --dry-run needs no rights")


def _require_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        hint = "`knockgate run` does the same under any other supervisor; --root fills a tree for a package"
        raise Unavailable("no systemd runs this host", hint=hint)


def _try(program: Program) -> None:
    """That the units could start it: with nothing of our environment."""
    command = [program.python, "-I", program.start, "listener", "--help"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROGRAM_WORKS, check=False, env={}, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program.python} cannot be started: {error}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        hint = "install it with all that it needs: python3 -m venv /opt/knockgate"
        raise Unavailable(f"as a service it does not start: {reason}", hint=hint)


def _check_configuration() -> None:
    """Before anything is changed."""
    from knockgate.daemon.origin import Origin  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import checked  # noqa: PLC0415 - see cli

    if not DEFAULT_PATH.exists():
        raise ConfigError(
            f"there is no {DEFAULT_PATH}", hint="knockgate init makes one, or write it yourself"
        )
    checked(Origin())


def _make_users(files: dict[str, str]) -> None:
    for program, folder in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        snippet = next(path for path in files if f"/{folder}/" in path)
        _run(program, *(["--create"] if folder == "tmpfiles.d" else []), snippet)


def _run(*command: str, may_fail: bool = False) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode and not may_fail:
        lines = [each for each in done.stderr.strip().splitlines() if not each.startswith("Created symlink")]
        reason = (lines or ["no reason given"])[0]
        raise Unavailable(f"{' '.join(command)}: {reason}", hint="its log may say more: journalctl -e")


# --- what is said -------------------------------------------------------------------------------------


def _tell(
    tree: _Tree, changes: Sequence[_Change], following: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        told = {
            "format": 1,
            "root": str(tree.root),
            "dry_run": dry_run,
            "changes": [{"action": each.action, "path": each.path} for each in changes],
            "next": list(following),
        }
        click.echo(json.dumps(told))
        return
    for each in changes:
        if each.action == "keep":
            say(f"{each.path} was changed by somebody, and is left")
            advise("take it away yourself, if nobody needs it")
        else:
            click.echo(f"{'would ' if dry_run else ''}{each.action} {each.path}")
    if not changes:
        click.echo("there is nothing to be done")
    if following and not dry_run:
        click.echo("\nnext, as root:")
        for command in following:
            click.echo(f"  {command}")
