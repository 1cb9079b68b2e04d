"""``knockgate backup``: what a gate needs to be the same one on another machine, in one file.

Marks and what is remembered of fwknop's packets are not in it, on purpose: while the gate runs nobody else
can read them, and as soon as one more knock is taken a copy says too little. ``knockgate restore`` makes new
ones that shut out all that came before.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from knockgate.cli.archive import MOST, Archived, Backup, pack
from knockgate.cli.gatefiles import GateFiles, config_option, now
from knockgate.cli.new_files import write_new
from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import FILE
from knockgate.config import doors as configurations
from knockgate.config.doors import Configuration
from knockgate.errors import ConfigError, Unavailable

__all__ = ["Named", "backup", "named"]


@click.command(cls=Page)
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--dry-run", is_flag=True, help="Say what would be in it, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Say what is in it as one JSON object.")
@config_option
def backup(file: str, *, dry_run: bool, as_json: bool, config: str | None) -> int:
    """Put all of a gate that cannot be made anew into one file.

    FILE is made, of mode 0600, and never over another; - is standard output. It is a tar with

        gate.toml             and the files of secrets and of ssh keys that it names
        gate.keys             the gate's secret keys, and the cards
        devices               which ones are known, and which are barred
        known-networks        who is heard first in a flood

    and a few words for `knockgate restore`. The gate may run. Left out is what belongs to others, which is
    told: files of ssh keys of users and of sshd, and lists of one-time sequences, since those that were used
    meanwhile would be good again. Left out too is what the gate remembers of knocks: that is old with the
    next one, and `restore` shuts out all that came before instead.

    Whoever has FILE can read knocks, and make the gate look at packets; with fwknop's keys they come in. So
    keep it as you keep secret keys, such as with `knockgate backup - | age -r KEY > gate.age`. What a door
    runs as a command is not in it. Changes nothing at the gate, and needs root.

    Exit status: 0 it is made; 2 it could not be, or there is no gate that would start.

    For example:

        knockgate backup /root/gate.tar
        knockgate backup --dry-run /root/gate.tar
    """
    if file == "-" and as_json and not dry_run:
        raise click.UsageError(
            "either the backup goes to standard output, or JSON", click.get_current_context()
        )
    if file == "-" and not dry_run and sys.stdout.isatty():
        raise Unavailable("a backup is nothing for a terminal", hint="name a file, or send it through a pipe")
    files = GateFiles.of(config)
    made, left_out = _collected(files)
    octets = pack(made)
    if len(octets) > MOST:
        raise Unavailable(
            f"it would be larger than {MOST >> 20} MiB", hint="there are too many files of keys"
        )
    if not dry_run:
        if file == "-":
            sys.stdout.buffer.write(octets)
        else:
            write_new({Path(file).absolute(): octets}, private=frozenset([Path(file).absolute()]))
    _tell(file, made, left_out, dry_run=dry_run, as_json=as_json)
    return 0


def _tell(file: str, made: Backup, left_out: dict[str, str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        found = {"file": file, "dry_run": dry_run, "made": made.made, "files": list(made.files)}
        tell(json.dumps(found | {"left_out": [{"path": path, "why": why} for path, why in left_out.items()]}))
        return
    lines = [f"{'would make' if dry_run else 'made'} {file}, with", *(f"    {path}" for path in made.files)]
    for line in lines:
        click.echo(line, err=file == "-")
    for path, why in left_out.items():
        say(f"not in it: {path}: {why}")
    if not dry_run:
        advise("the gate's secrets are in it: keep it where nobody else reads it")


# --- what a gate's files are --------------------------------------------------------------------------


class Named(NamedTuple):
    """The files of a gate."""

    ours: list[Path]  #: what is in a backup if it is there, gate.toml first
    left_out: dict[str, str]  #: and what is not, and why


def named(found: Configuration, text: str) -> Named:
    """Those of a gate.toml, which is ``text``; raises ConfigError."""
    from knockgate.config import keys  # noqa: PLC0415 - see cli
    from knockgate.config.toml import Document  # noqa: PLC0415 - see cli

    document = Document(text, found.file)
    ours, left_out = [Path(found.file)], {}
    tables = document.table.get("keys", {})
    ours += [Path(table["fwknop"]) for table in tables.values() if "fwknop" in table]
    for key in keys.parse_ssh(text, found, found.file) if found.sealed else ():
        for each in key.files:
            if each.user is not None:
                left_out[each.path] = f"it belongs to {each.user}"
            elif key.shared:
                left_out[each.path] = "it is sshd's too"
            else:
                ours.append(Path(each.path))
    for door in found.doors:
        if door.sequence and door.sequence.one_time:
            why = "sequences that are used from now on would be good again"
            left_out[door.sequence.one_time] = why
    return Named(list(dict.fromkeys([*ours, *_of_state(found)])), left_out)


def _of_state(found: Configuration) -> Iterator[Path]:
    from knockgate.daemon import packets, sealed  # noqa: PLC0415 - see cli

    folder = Path(found.gate.state_directory)
    if found.sealed:
        names = (sealed.GATE_KEYS, sealed.DEVICES, f"{sealed.DEVICES}.kept", sealed.NETWORKS)
        yield from (folder / each for each in names)
    if found.fwknop:
        yield folder / packets.NETWORKS


# --- what is read -------------------------------------------------------------------------------------


def _collected(files: GateFiles) -> tuple[Backup, dict[str, str]]:
    """All of it as of one moment. Raises ConfigError and Unavailable."""
    from knockgate.daemon.origin import Origin  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import checked  # noqa: PLC0415 - see cli
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    config = str(Path(files.found.file).absolute())
    sealed = files.found.sealed is not None
    with files.changing() if sealed else contextlib.nullcontext():
        checked(Origin(config))
        salt = SqliteMarks.peek_salt(files.marks) if sealed else None
        # Once: what is in the backup is what says which files belong to it.
        read = {config: _read(Path(config))}
        text = read[config].content.decode()
        ours, left_out = named(configurations.parse(text, config), text)
        for path in ours[1:]:
            if os.path.lexists(path):
                read[str(path)] = _read(path)
            elif path.parent != files.folder:
                left_out[str(path)] = "there is no such file"
    made = Backup(
        made=int(now().timestamp()), host=socket.gethostname(), config=config, salt=salt, files=read
    )
    return made, left_out


def _read(path: Path) -> Archived:
    try:
        # Links are followed: what is restored is a file in their place.
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            content = stream.read(MOST + 1)
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else None
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    user, group = _name(pwd.getpwuid, found.st_uid), _name(grp.getgrgid, found.st_gid)
    return Archived(content, found.st_mode & 0o777, user, group)


def _name(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return "root"
