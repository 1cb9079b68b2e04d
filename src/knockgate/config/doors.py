"""gate.toml: which doors there are, what opens them, for how long, and the gate's own limits.

Imports no codec and nothing that listens: the half of the gate with rights reads this much and no
more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from knockgate.config.readers import MAX_STEPS, Devices, Flags, LogFormat, Observed, Reliance, RunsIn, Suite
from knockgate.config.schema import (
    Commands,
    Configuration,
    Demands,
    Door,
    Fwknop,
    Gate,
    Sealed,
    Sequence,
)
from knockgate.config.toml import Document, Keys, dotted, fields_of, read, shown, values
from knockgate.model import Port

__all__ = [
    "DEFAULT_PATH",
    "DOOR_NAME",
    "MAX_DOORS",
    "MAX_STEPS",
    "Commands",
    "Configuration",
    "Demands",
    "Devices",
    "Door",
    "Flags",
    "Fwknop",
    "Gate",
    "LogFormat",
    "Observed",
    "Reliance",
    "RunsIn",
    "Sealed",
    "Sequence",
    "Suite",
    "load",
    "parse",
]

DEFAULT_PATH = Path("/etc/knockgate/gate.toml")

#: What a door may be called: it stands in logs, in files of state and on command lines.
DOOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
MAX_DOORS = 10_000


# --- reading ------------------------------------------------------------------------------------------


def load(path: Path | str = DEFAULT_PATH) -> Configuration:
    """Read gate.toml; raises ConfigError with file, line, key and hint. A wrong file is refused whole."""
    return _configuration(Document.load(path))


def parse(content: str, file: str = "gate.toml") -> Configuration:
    """The same from a text; ``file`` is for the messages."""
    return _configuration(Document(content, file))


def _configuration(document: Document) -> Configuration:
    top = document.only((), document.table, ["gate", "doors", "fwknop", "sealed", "keys"])
    gate = read(document, ("gate",), top.get("gate", {}), Gate)
    fwknop = read(document, ("fwknop",), top.get("fwknop", {}), Fwknop)
    sealed = read(document, ("sealed",), top.get("sealed", {}), Sealed)
    keys = _keys(document, document.only(("keys",), top.get("keys", {})))
    tables = document.only(("doors",), top.get("doors", {}))
    if not tables:
        raise document.wrong(("doors",), "there is no door", 'begin with [doors.ssh] and ports = ["tcp/22"]')
    if len(tables) > MAX_DOORS:
        raise document.wrong(("doors",), f"{len(tables)} doors", f"{MAX_DOORS} are possible")
    doors = tuple(_door(document, name, table, keyed=name in keys.doors) for name, table in tables.items())
    configuration = Configuration(
        gate=gate,
        doors=doors,
        fwknop=fwknop if "fwknop" in keys.kinds else None,
        sealed=sealed if "ssh" in keys.kinds else None,
        file=document.file,
    )
    _no_clashes(document, configuration)
    return configuration


class _Keys(NamedTuple):
    kinds: set[str]  # of "fwknop" and "ssh"
    doors: set[str]  # which some key opens


def _keys(document: Document, tables: dict[str, Any]) -> _Keys:
    """Of what kinds the keys are, and what they open. All else about them ``config.keys`` checks."""
    kinds: set[str] = set()
    doors: set[str] = set()
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = "a key is a table that has a name of its own, such as [keys.alice]"
            raise document.wrong(("keys", name), "must be a table", hint)
        kind = [each for each in ("fwknop", "ssh") if each in table]
        if len(kind) != 1:
            message = "has both fwknop and ssh" if kind else "fwknop or ssh is missing"
            hint = (
                "fwknop names a file with the secrets of fwknop's packets, ssh an authorized_keys for sealed "
                "ones; a key has one of them"
            )
            raise document.wrong(("keys", name), message, hint)
        kinds |= set(kind)
        if isinstance(opened := table.get("doors"), list):
            doors |= {each for each in opened if isinstance(each, str)}
    return _Keys(kinds, doors)


def _door(document: Document, name: str, table: object, *, keyed: bool) -> Door:
    keys: Keys = ("doors", name)
    if not isinstance(table, dict):
        hint = "a door is a table that has a name of its own, such as [doors.ssh]"
        raise document.wrong(keys, "must be a table", hint)
    if not DOOR_NAME.fullmatch(name):
        hint = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"
        raise document.wrong(keys, f"{shown(name)} is no name for a door", hint)
    _check_places(document, keys, table)
    given = values(document, keys, table, Door, besides=tuple(_PARTS))
    for part, schema in _PARTS.items():
        if part in table:
            given[part] = read(document, (*keys, part), table[part], schema)
    door = Door(name=name, keyed=keyed, **given)
    if door.sequence:
        _check_sequence(document, (*keys, "sequence"), door.sequence)
    if door.commands:
        _check_commands(document, (*keys, "commands"), door, table["commands"])
    if not door.ports and not door.commands:
        raise document.wrong(keys, "guards no port and runs no command", 'give it ports = ["tcp/22"]')
    for word in ("allow", "shadow"):
        if getattr(door, word) and not door.ports:
            hint = "it only runs commands when somebody knocks"
            raise document.wrong((*keys, word), "the door guards no port", hint)
    if door.ports and door.lease < 1:
        raise document.wrong((*keys, "lease"), "a lease of ports lasts at least 1s", 'for example "15s"')
    return door


_PARTS: dict[str, type[Sequence | Commands | Demands]] = {
    "sequence": Sequence,
    "commands": Commands,
    "sealed": Demands,
}


def _check_places(document: Document, keys: Keys, table: dict[str, object]) -> None:
    """A key of a part that stands in the door itself is the likeliest mistake of all."""
    for part, schema in _PARTS.items():
        for name in (field.name for field in fields_of(schema)):
            if name in table:
                raise document.wrong(
                    (*keys, name), "unknown key", f"it belongs below [{dotted(keys)}.{part}]"
                )


def _check_sequence(document: Document, keys: Keys, sequence: Sequence) -> None:
    if bool(sequence.steps) == bool(sequence.one_time):
        message = "has both steps and one_time" if sequence.steps else "steps is missing"
        raise document.wrong(keys, message, 'one of them, for example steps = ["tcp/7000", "udp/8000"]')
    if sequence.runs_in is RunsIn.KERNEL:
        hint = f'add runs_in = "daemon" below [{dotted(keys)}]'
        for name in ("flags", "target", "one_time"):
            if getattr(sequence, name):
                raise document.wrong((*keys, name), "the kernel's rules cannot do that", hint)
        if sequence.within > 3600:
            raise document.wrong((*keys, "within"), "the kernel remembers a step for at most 1h", hint)


def _check_commands(document: Document, keys: Keys, door: Door, table: dict[str, object]) -> None:
    commands = door.commands
    if not commands:
        return
    if door.runs_in is RunsIn.KERNEL or not (door.sequence or door.keyed):
        hint = f'a sequence with runs_in = "daemon" below [{dotted(keys[:-1])}.sequence], or a key'
        raise document.wrong(keys, "only the daemon runs commands", hint)
    for name in ("open", "close", "open6", "close6"):
        command = getattr(commands, name)
        if not command:
            continue
        if commands.shell and len(command) != 1:
            hint = "one text; or take shell away"
            raise document.wrong((*keys, name), "with shell = true a command is no list of words", hint)
        if not commands.shell and isinstance(table[name], str):
            hint = 'for example ["/usr/bin/logger", "opened for %IP%"]; for a shell line say shell = true'
            raise document.wrong((*keys, name), "must be a list of words", hint)
        if not commands.shell and not command[0].startswith("/"):
            hint = "the first word is the program with its whole path; for a shell line say shell = true"
            raise document.wrong((*keys, name), f"{shown(command[0])} is no absolute path", hint)
    if not commands.open and not commands.open6 and (stop := commands.close or commands.close6):
        name = "close" if stop is commands.close else "close6"
        raise document.wrong((*keys, name), "there is nothing to run on opening", "give open as well")


def _no_clashes(document: Document, configuration: Configuration) -> None:
    owners: dict[Port, Door] = {}
    for door in configuration.doors:
        for one in door.ports:
            if one in owners:
                hint = f"door {owners[one].name} has it; a port belongs to one door"
                raise document.wrong(("doors", door.name, "ports"), f"{one} is taken", hint)
            owners[one] = door
    heard = _heard(document, configuration)
    for door in configuration.doors:
        for step in door.sequence.steps if door.sequence else ():
            if step in owners:
                hint = "whoever connects to the open door would be knocking; take another port"
                place = ("doors", door.name, "sequence", "steps")
                raise document.wrong(place, f"{step} is what door {owners[step].name} guards", hint)
            if step in heard:
                place = ("doors", door.name, "sequence", "steps")
                raise document.wrong(place, f"{step} is where packets come to", "take another port")
    for port, table in heard.items():
        if port in owners:
            message = f"{port} is what door {owners[port].name} guards"
            raise document.wrong((table, "port"), message, "take another port")


def _heard(document: Document, configuration: Configuration) -> dict[Port, str]:
    """Where packets come to, and which table says so."""
    fwknop, sealed = configuration.fwknop, configuration.sealed
    if fwknop and sealed and fwknop.port == sealed.port:
        table = "sealed" if "sealed" in document.table else "fwknop"
        message = f"{sealed.port} is where the packets of fwknop and the sealed ones both come to"
        raise document.wrong((table, "port"), message, "take another port for one of them")
    return ({fwknop.port: "fwknop"} if fwknop else {}) | ({sealed.port: "sealed"} if sealed else {})
