"""``knockgate restore``: the gate of a backup, on this machine, with nothing of its past to be repeated.

All of it is checked before anything is written, and nothing is written over. In which order things appear is
what makes it safe to be killed: first a store that takes no old packet of fwknop's, then secrets and keys,
then marks, without which no gate starts, and gate.toml last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import grp
import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knockgate.cli.archive import MOST, Archived, Backup, unpack
from knockgate.cli.backup import named
from knockgate.cli.gatefiles import GateFiles, now
from knockgate.cli.new_files import folder_there, refuse_without_right, written
from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import FILE
from knockgate.config import doors as configurations
from knockgate.config import private
from knockgate.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from knockgate.config.gatekeys import GateKeys

__all__ = ["restore"]


@click.command(cls=Page)
@click.argument("file", metavar="FILE", type=FILE)
@click.option(
    "--clock-right", "clock", flag_value="right", help="This host's clock is right; do not doubt it."
)
@click.option("--clock-unknown", "clock", flag_value="unknown", help="Nobody knows what time it is.")
@click.option("--dry-run", is_flag=True, help="Check all of it, say what would be made, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as one JSON object.")
def restore(file: str, *, clock: str | None, dry_run: bool, as_json: bool) -> int:
    """Make the gate that is in a backup, here or on another machine.

    FILE is what `knockgate backup` has made, - is standard input. All files come to where they were, with
    their modes, and owners by name. To clients it is the same gate: cards, profiles and devices stay as they
    are. Nothing is written over; a file that is there already and is the same is left as it is.

    What the gate had remembered of knocks is not in a backup, so whoever has recorded one could come in with
    it. Therefore, without being asked, all that is dated until now is refused from now on, sealed or
    fwknop's, recorded or not. That goes by this host's clock, which must be right; where nothing vouches for
    it say so with --clock-right, or with --clock-unknown, which shuts out nothing. A client whose clock is
    behind ours waits until it says what ours says now; a knock that was dated ahead of its time, by a client
    whose clock was wrong, could be taken once more.

    One gate with these keys may run, and no other, since each would open to what the other one has heard. If
    the old machine may still run, or be in somebody's hands, `knockgate rekey --now` makes other keys.

    FILE decides who comes in, and which commands run: take none but your own. No gate may run here. Needs
    root.

    Exit status: 0 it is made; 2 it could not be: then nothing was changed, or where it was killed there is
    no gate.toml, and what is there has to be taken away first.

    For example:

        knockgate restore --dry-run gate.tar
        knockgate restore gate.tar
    """
    plan = _planned(unpack(_content(file), file if file != "-" else "standard input"))
    low = _shut_out_until(plan.backup, clock)
    _look(plan)
    missing = list(plan.missing)
    if not dry_run:
        from knockgate.daemon.run import alone  # noqa: PLC0415 - see cli

        with alone(plan.files.found.gate.run_directory):
            _make(plan, low)
    _tell(plan, missing, low, dry_run=dry_run, as_json=as_json)
    return 0


def _content(file: str) -> bytes:
    """Raises ConfigError where others could have written it, or read it."""
    if file != "-":
        return private.read(Path(file), MOST, kind="the backup", hints={})
    content = sys.stdin.buffer.read(MOST + 1)
    if len(content) > MOST:
        raise ConfigError("is too long for a backup", file="standard input")
    return content


# --- what is checked ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """A gate that is to be."""

    backup: Backup
    files: GateFiles
    keys: GateKeys | None  #: with another incarnation than they had; None: there are none

    @property
    def contents(self) -> dict[Path, bytes]:
        """What is to be in each file."""
        found = {Path(path): file.content for path, file in self.backup.files.items()}
        if self.keys:
            from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

            found[self.files.keys] = gatekeys.text_of(self.keys).encode()
        return found

    @property
    def missing(self) -> dict[Path, bytes]:
        """Those that are not there; the others are the same, or `_look` has refused."""
        return {path: content for path, content in self.contents.items() if not os.path.lexists(path)}

    @property
    def stores(self) -> list[Path]:
        """What is made anew."""
        from knockgate.daemon import packets  # noqa: PLC0415 - see cli

        found = [self.files.folder / packets.STORE] if self.files.found.fwknop else []
        return [*found, self.files.marks] if self.keys else found


def _planned(backup: Backup) -> _Plan:
    """Raises ConfigError where it is no gate that could start here."""
    from knockgate.config import devices, gatekeys  # noqa: PLC0415 - see cli

    text = _text(backup.files[backup.config], backup.config)
    found = configurations.parse(text, backup.config)
    ours = {str(path) for path in named(found, text).ours}
    for path in backup.files:
        if path not in ours:
            message = f"{path} is in the backup, and its gate.toml does not name it"
            raise ConfigError(message, hint="take a file that `knockgate backup` has made, as it is")
    files = GateFiles(found)
    if found.sealed is None:
        return _Plan(backup, files, None)
    path = str(files.keys)
    if path not in backup.files or backup.salt is None:
        raise ConfigError("the backup has no keys of the gate's", hint="make keys: knockgate init --bare")
    keys = gatekeys.parse(_text(backup.files[path], path), path)
    said = str(files.devices)
    if said in backup.files:
        devices.parse(_text(backup.files[said], said), said)
    return _Plan(backup, files, dataclasses.replace(keys, incarnation=os.urandom(16)))


def _text(file: Archived, path: str) -> str:
    try:
        return file.content.decode()
    except UnicodeDecodeError:
        raise ConfigError("is no UTF-8", file=path) from None


def _shut_out_until(backup: Backup, clock: str | None) -> int:
    """In nanoseconds since 1970, 0: nothing is. Raises Unavailable where that cannot be said."""
    if clock == "unknown":
        return 0
    low = time.clock_gettime_ns(time.CLOCK_REALTIME)
    if clock is None:
        from knockgate.clock import is_synchronised  # noqa: PLC0415 - see cli

        if not is_synchronised():
            message = (
                f"by this host's clock it is {now():%Y-%m-%d %H:%M:%S} UTC, and nothing vouches for that"
            )
            hint = "--clock-right if it is, --clock-unknown if nobody knows"
            raise Unavailable(message, hint=hint)
        if low < backup.made * 10**9:
            when = dt.datetime.fromtimestamp(backup.made, dt.UTC)
            message = f"by this host's clock the backup of {when:%Y-%m-%d %H:%M:%S} UTC is still to come"
            raise Unavailable(message, hint="set it right; --clock-right if the other one was wrong")
    return low


def _look(plan: _Plan) -> None:
    """That nothing is in the way; raises Unavailable."""
    from knockgate.store.making import all_of  # noqa: PLC0415 - see cli

    differs = [path for path, content in plan.contents.items() if not _is_free(path, content)]
    differs += [each for store in plan.stores for each in all_of(store) if os.path.lexists(each)]
    if differs:
        hint = f"nothing is written over: move away {' '.join(map(str, differs))}"
        raise Unavailable(f"{differs[0]} is there already", hint=hint)
    for path in (*plan.missing, *plan.stores):
        refuse_without_right(path.parent)


def _is_free(path: Path, content: bytes) -> bool:
    """Whether there is nothing there, or just that."""
    try:
        return not os.path.lexists(path) or (not path.is_symlink() and path.read_bytes() == content)
    except OSError:
        return False


# --- what is made -------------------------------------------------------------------------------------


def _make(plan: _Plan, low: int) -> None:
    """All of it, or nothing. Raises Unavailable, and ConfigError where it would not start."""
    from knockgate.daemon.origin import Origin  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import checked  # noqa: PLC0415 - see cli

    config = Path(plan.backup.config)
    files = plan.missing
    last = {path: files.pop(path) for path in [config] if path in files}
    dress = _dressing(plan)
    with (
        folder_there(plan.files.folder),
        _packets(plan, low),
        written(files, private=frozenset(files), dress=dress),
        _marks(plan, low),
        written(last, private=frozenset(last), dress=dress),
    ):
        checked(Origin(str(config)))


def _dressing(plan: _Plan) -> Callable[[int, Path], None]:
    """Owners by their names; where there are none of these, root."""

    def dress(file: int, path: Path) -> None:
        if path.parent == plan.files.folder:
            private.hand_over(file, plan.files.folder)
            return
        archived = plan.backup.files[str(path)]
        if os.geteuid() == 0:
            user, group = _number(pwd.getpwnam, archived.user, 2), _number(grp.getgrnam, archived.group, 2)
            os.fchown(file, user, group)
        os.fchmod(file, archived.mode)

    return dress


def _number(look_up: Callable[[str], Sequence[Any]], name: str, index: int) -> int:
    try:
        return int(look_up(name)[index])
    except KeyError:
        return 0


@contextlib.contextmanager
def _packets(plan: _Plan, low: int) -> Iterator[None]:
    """What takes no packet of fwknop's that was issued until ``low``."""
    from knockgate.daemon import packets  # noqa: PLC0415 - see cli
    from knockgate.store.sqlite import SqliteStore  # noqa: PLC0415 - see cli

    if plan.files.found.fwknop is None or not low:
        yield
        return
    path = plan.files.folder / packets.STORE
    SqliteStore.create(path, low=low // 10**9, fresh=plan.files.found.fwknop.freshness)
    with _taken_away(path):
        yield


@contextlib.contextmanager
def _marks(plan: _Plan, low: int) -> Iterator[None]:
    """New marks for the keys, which call devices as the old ones did."""
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    if plan.keys is None:
        yield
        return
    SqliteMarks.create(plan.files.marks, plan.keys.incarnation, low=low, salt=plan.backup.salt)
    with _taken_away(plan.files.marks):
        yield


@contextlib.contextmanager
def _taken_away(path: Path) -> Iterator[None]:
    from knockgate.store.making import remove  # noqa: PLC0415 - see cli

    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(path)
        raise


# --- what is said -------------------------------------------------------------------------------------


def _tell(plan: _Plan, missing: list[Path], low: int, *, dry_run: bool, as_json: bool) -> None:
    from knockgate.daemon import packets  # noqa: PLC0415 - see cli

    until = dt.datetime.fromtimestamp(low // 10**9, dt.UTC)
    created = [*missing, *(each for each in plan.stores if low or each.name != packets.STORE)]
    if as_json:
        files = [{"path": str(each), "action": "create"} for each in created]
        files += [{"path": str(each), "action": "keep"} for each in plan.contents if each not in missing]
        found = {"dry_run": dry_run, "host": plan.backup.host, "made": plan.backup.made, "files": files}
        tell(json.dumps(found | {"refused_until": until.isoformat() if low else None}))
        return
    for each in created:
        tell(f"{'would make' if dry_run else 'made'} {each}")
    for each in plan.contents:
        if each not in missing:
            tell(f"{each} is the same already")
    if plan.stores and low:
        tell(f"knocks dated until {until:%Y-%m-%d %H:%M:%S} UTC are refused from now on")
    elif plan.stores:
        say("NOTHING IS SHUT OUT: each knock that somebody has recorded could open once more")
    advise(f"see that {plan.backup.host} does not run with these keys any more; then knockgate check")
