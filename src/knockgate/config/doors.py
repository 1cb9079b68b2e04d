"""gate.toml: which doors there are, what opens them, for how long, and the gate's own limits.

Imports no codec and nothing that listens: the half of the gate with rights reads this much and no
more. A configuration is a value; ``checksum`` tells whether two processes hold the same one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knockgate.config import readers
from knockgate.config.readers import MAX_STEPS, Flags, Reliance, RunsIn
from knockgate.config.toml import (
    Document,
    Keys,
    dotted,
    duration,
    fields_of,
    flag,
    key,
    read,
    shown,
    values,
    whole,
)
from knockgate.model import Port, Protocol

__all__ = [
    "DEFAULT_PATH",
    "DOOR_NAME",
    "MAX_DOORS",
    "MAX_STEPS",
    "Commands",
    "Configuration",
    "Door",
    "Flags",
    "Fwknop",
    "Gate",
    "Reliance",
    "RunsIn",
    "Sequence",
    "load",
    "parse",
]

DEFAULT_PATH = Path("/etc/knockgate/gate.toml")

#: What a door may be called: it stands in logs, in files of state and on command lines.
DOOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
MAX_DOORS = 10_000


# --- the schema ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """``[gate]``: what holds for all doors. Everything here has a default."""

    interface: str = key(
        "Guard and listen on this interface alone; empty: on all but loopback.",
        readers.interface,
        "",
    )
    sources: int = key(
        "Sources whose half-made sequences the kernel remembers for their full time, for each address "
        "family (64 bytes each).",
        whole(16, 1 << 24),
        65536,
    )
    hurried: int = key(
        "Further sources, remembered for at most one second, once those places are taken: it is what "
        "keeps a door reachable under a flood.",
        whole(16, 1 << 24),
        524288,
    )
    leases: int = key("Leases that may be live at once, for each address family.", whole(16, 1 << 24), 262144)
    log_group: int = key(
        "The netlink log group through which the kernel reports openings (`log group` in nft).",
        whole(0, 65535),
        5,
    )
    tracked: int = key(
        "Sources whose half-made sequences the daemon remembers; the oldest is forgotten first.",
        whole(1, 1 << 24),
        65536,
    )
    clock: Reliance = key(
        "`auto`: rely on the clock while the kernel says that it is synchronised, and ever after until the "
        "gate is started again. `trusted`: always. `unknown`: never; then a packet's age says nothing, and "
        "packets are remembered for good.",
        readers.reliance,
        Reliance.AUTO,
    )
    run_directory: str = key("Sockets of the running daemon.", readers.folder, "/run/knockgate")
    state_directory: str = key(
        "What must outlive a reboot: commands that are still to be run to close a door.",
        readers.folder,
        "/var/lib/knockgate",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fwknop:
    """``[fwknop]``: how fwknop's packets are heard; they are as soon as a key of ``[keys]`` is for them."""

    port: Port = key(
        "Packets come to this UDP port. Nothing is bound to it, and it answers nobody.",
        readers.udp_port,
        Port(Protocol.UDP, 62201),
    )
    freshness: float = key(
        "How far the time that a packet bears may be from ours, before and after, while our clock is "
        "synchronised.",
        duration(1, 86400),
        120.0,
    )
    remembered: int = key(
        "Packets that are remembered, so that none is taken twice. When there is no room for more they are "
        "refused: that takes a clock that is not synchronised, or very many knocks.",
        whole(16, 100_000_000),
        1_000_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """``[doors.NAME.sequence]``: the ports to be knocked at, in this order."""

    steps: tuple[Port, ...] = key(
        'The knocks, such as `["tcp/7000", "udp/8000"]`; 1 to 32.', readers.steps, ()
    )
    within: float = key(
        "In the kernel: the longest pause from one knock to the next, at most 1h. In the daemon: the time "
        "for the whole sequence, from the first knock to the last.",
        duration(0.1, 86400),
        5.0,
    )
    runs_in: RunsIn = key(
        "`kernel`: the rules themselves follow the sequence and no daemon is needed. `daemon`: for what "
        "they cannot do (the three keys below, commands, and a time for the whole sequence).",
        readers.runs_in,
        RunsIn.KERNEL,
    )
    flags: Flags | None = key(
        'TCP flags that a knock must have and, behind `!`, must not have, such as `["syn", "!ack"]`, of fin, '
        "syn, rst, psh, ack and urg. TCP packets that differ are as if they had not come. Without it a knock "
        "is a SYN alone. Daemon only.",
        readers.flags,
        None,
    )
    target: bytes | None = key(
        "Knocks go to this address instead of this host's own (on a router). Daemon only.",
        readers.address,
        None,
    )
    one_time: str = key(
        "File with one sequence a line, each good for one opening; used ones are marked with `#` in "
        "place. Stands instead of `steps`. Daemon only.",
        readers.file_path,
        "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """``[doors.NAME.commands]``: what to run when the door opens and closes. Needs the daemon.

    A command is a list of words, run as it is, without a shell. ``%IP%`` in a word becomes the source's
    address; the environment has KNOCKGATE_DOOR, KNOCKGATE_SOURCE and KNOCKGATE_EVENT (open or close).
    """

    open: tuple[str, ...] = key("Run when the door opens.", readers.command, ())
    close: tuple[str, ...] = key(
        "Run when the lease ends; also after a crash or a reboot in between. It is not run for a door "
        "that has nothing to run on opening.",
        readers.command,
        (),
    )
    open6: tuple[str, ...] | None = key(
        "The same as `open` for an IPv6 source; without it `open` is run, `[]` runs nothing.",
        readers.command,
        None,
    )
    close6: tuple[str, ...] | None = key(
        "The same as `close` for an IPv6 source; without it `close` is run, `[]` runs nothing.",
        readers.command,
        None,
    )
    shell: bool = key(
        "The commands are single texts for `/bin/sh -c`, as knockd's are. Imported configurations have it; "
        "a list of words is safer.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    time_limit: float = key(
        "A command that runs longer is killed, with its children.", duration(0.1, 3600), 10.0
    )

    def for_source(self, source: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What to run on opening and on closing for a source of 4 or 16 bytes."""
        start, stop = self.open, self.close
        if len(source) == 16:
            start = start if self.open6 is None else self.open6
            stop = stop if self.close6 is None else self.close6
        return start, stop if start else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """``[doors.NAME]``: a named set of ports that stays shut until the right knock arrives."""

    name: str
    ports: tuple[Port, ...] = key(
        'What is shut, such as `["tcp/22"]`. A port belongs to one door. May be empty for a door that only '
        "runs commands.",
        readers.ports,
        (),
    )
    lease: float = key(
        "How long the door stays open for who knocked; connections made in that time live on. A new knock "
        "begins the time anew. At least 1s, but for a door that only runs commands.",
        duration(0, 30 * 86400),
        15.0,
    )
    longest: float | None = key(
        "A packet that asks for a time of its own gets at most this; without it `lease` is the most.",
        duration(1, 30 * 86400),
        None,
    )
    sequence: Sequence | None = None
    commands: Commands | None = None
    keyed: bool = False  #: whether a key may open it

    @property
    def most(self) -> float:
        """Seconds that a lease for somebody's key lasts at most."""
        return max(self.lease, self.longest or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole gate.toml, checked; doors in the order of the file, which numbers them."""

    gate: Gate
    doors: tuple[Door, ...]
    fwknop: Fwknop | None = None  #: None where no key is for its packets
    file: str = dataclasses.field(default="", compare=False)

    @property
    def checksum(self) -> bytes:
        """16 bytes that differ where what is configured differs; comments and order of keys do not count."""
        return hashlib.sha256(repr((self.gate, self.doors, self.fwknop)).encode()).digest()[:16]

    def kernel_doors(self) -> list[Door]:
        """The doors whose sequence the kernel follows."""
        return [door for door in self.doors if door.sequence and door.sequence.runs_in is RunsIn.KERNEL]

    def daemon_doors(self) -> list[Door]:
        """The doors whose sequence the daemon follows."""
        return [door for door in self.doors if door.sequence and door.sequence.runs_in is RunsIn.DAEMON]

    def door_of(self, port: Port) -> Door | None:
        """The door that a port belongs to."""
        return next((door for door in self.doors if port in door.ports), None)


# --- reading ------------------------------------------------------------------------------------------


def load(path: Path | str = DEFAULT_PATH) -> Configuration:
    """Read gate.toml; raises ConfigError with file, line, key and hint. A wrong file is refused whole."""
    return _configuration(Document.load(path))


def parse(content: str, file: str = "gate.toml") -> Configuration:
    """The same from a text; ``file`` is for the messages."""
    return _configuration(Document(content, file))


def _configuration(document: Document) -> Configuration:
    top = document.only((), document.table, ["gate", "doors", "fwknop", "keys"])
    gate = read(document, ("gate",), top.get("gate", {}), Gate)
    fwknop = read(document, ("fwknop",), top.get("fwknop", {}), Fwknop)
    keys = document.only(("keys",), top.get("keys", {}))
    keyed = _keyed(keys)
    tables = document.only(("doors",), top.get("doors", {}))
    if not tables:
        raise document.wrong(("doors",), "there is no door", 'begin with [doors.ssh] and ports = ["tcp/22"]')
    if len(tables) > MAX_DOORS:
        raise document.wrong(("doors",), f"{len(tables)} doors", f"{MAX_DOORS} are possible")
    doors = tuple(_door(document, name, table, keyed=name in keyed) for name, table in tables.items())
    _no_clashes(document, doors, fwknop.port if keys else None)
    return Configuration(gate=gate, doors=doors, fwknop=fwknop if keys else None, file=document.file)


def _keyed(keys: dict[str, Any]) -> set[str]:
    """The doors that some key opens. All else about keys is for ``config.keys``, which checks it."""
    named: set[str] = set()
    for table in keys.values():
        doors = table.get("doors") if isinstance(table, dict) else None
        if isinstance(doors, list):
            named |= {name for name in doors if isinstance(name, str)}
    return named


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
    if door.ports and door.lease < 1:
        raise document.wrong((*keys, "lease"), "a lease of ports lasts at least 1s", 'for example "15s"')
    return door


_PARTS: dict[str, type[Sequence | Commands]] = {"sequence": Sequence, "commands": Commands}


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
    by_kernel = door.sequence is not None and door.sequence.runs_in is RunsIn.KERNEL
    if by_kernel or not (door.sequence or door.keyed):
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


def _no_clashes(document: Document, doors: tuple[Door, ...], heard: Port | None) -> None:
    owners: dict[Port, Door] = {}
    for door in doors:
        for one in door.ports:
            if one in owners:
                hint = f"door {owners[one].name} has it; a port belongs to one door"
                raise document.wrong(("doors", door.name, "ports"), f"{one} is taken", hint)
            owners[one] = door
    for door in doors:
        for step in door.sequence.steps if door.sequence else ():
            if step in owners:
                hint = "whoever connects to the open door would be knocking; take another port"
                place = ("doors", door.name, "sequence", "steps")
                raise document.wrong(place, f"{step} is what door {owners[step].name} guards", hint)
            if step == heard:
                place = ("doors", door.name, "sequence", "steps")
                raise document.wrong(place, f"{step} is where packets come to", "take another port")
    if heard in owners:
        message = f"{heard} is what door {owners[heard].name} guards"
        raise document.wrong(("fwknop", "port"), message, "take another port")
