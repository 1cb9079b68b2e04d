"""gate.toml: which doors there are, what opens them, for how long, and the gate's own limits.

Imports no codec and nothing that listens: the half of the gate with rights reads this much and no
more. A configuration is a value; ``checksum`` tells whether two processes hold the same one.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from knockgate.config.toml import (
    Document,
    Keys,
    Reader,
    Wrong,
    duration,
    flag,
    key,
    read,
    text,
    values,
    whole,
)
from knockgate.model import Port, Protocol, TcpFlag

__all__ = [
    "DEFAULT_PATH",
    "Commands",
    "Configuration",
    "Door",
    "Flags",
    "Gate",
    "RunsIn",
    "Sequence",
    "load",
    "parse",
]

DEFAULT_PATH = Path("/etc/knockgate/gate.toml")

#: What a door may be called: it stands in logs, in comments of the kernel's sets and on command lines.
DOOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_INTERFACE_NAME = re.compile(r"[^\s/\"]{1,15}")
MAX_STEPS = 32
MAX_DOORS = 10_000


class RunsIn(enum.Enum):
    """Who follows a sequence."""

    KERNEL = "kernel"
    DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class Flags:
    """TCP flags that a packet must and must not have to count as a step."""

    wanted: TcpFlag
    unwanted: TcpFlag


# --- readers ------------------------------------------------------------------------------------------


def port(value: object) -> Port:
    """``"tcp/22"`` -> Port; raises Wrong."""
    hint = 'write "tcp/22" or "udp/53"'
    if not isinstance(value, str):
        raise Wrong(f'must be a text such as "tcp/22", not {value!r}', hint)
    found = re.fullmatch(r"(tcp|udp)/([0-9]{1,5})", value.strip().lower())
    if not found:
        turned = re.fullmatch(r"([0-9]{1,5})[/:](tcp|udp)", value.strip().lower())
        raise Wrong(f"{value!r} is no port", f"did you mean {turned[2]}/{turned[1]}?" if turned else hint)
    number = int(found[2])
    if not 1 <= number <= 65535:
        raise Wrong(f"{value!r}: a port is a number from 1 to 65535")
    return Port(Protocol[found[1].upper()], number)


def _ports(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list):
        raise Wrong("must be a list of ports", 'for example ["tcp/22"]')
    ports = tuple(port(item) for item in value)
    for one in ports:
        if ports.count(one) > 1:
            raise Wrong(f"{one} stands there twice", "once is enough")
    return ports


def _steps(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list):
        raise Wrong("must be a list of ports", 'for example ["tcp/7000", "udp/8000", "tcp/9000"]')
    if len(value) > MAX_STEPS:
        raise Wrong(f"has {len(value)} steps; {MAX_STEPS} are possible")
    return tuple(port(item) for item in value)


def _flags(value: object) -> Flags:
    names = ", ".join(flag.name.lower() for flag in TcpFlag if flag.name)
    hint = f'a list such as ["syn", "!ack"] of {names}'
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of TCP flags", hint)
    wanted = unwanted = TcpFlag(0)
    for item in value:
        name = item.strip().lower()
        try:
            bit = TcpFlag[name.removeprefix("!").upper()]
        except KeyError:
            raise Wrong(f"{item!r} is no TCP flag", hint) from None
        if name.startswith("!"):
            unwanted |= bit
        else:
            wanted |= bit
    if wanted & unwanted:
        raise Wrong("a flag is wanted and unwanted at once", hint)
    return Flags(wanted, unwanted)


def _target(value: object) -> bytes | None:
    if value == "":
        return None
    try:
        return ipaddress.ip_address(str(value)).packed
    except ValueError:
        raise Wrong(f"{value!r} is no address", 'an IPv4 or IPv6 address such as "192.0.2.7"') from None


def _runs_in(value: object) -> RunsIn:
    try:
        return RunsIn(value)
    except ValueError:
        raise Wrong(f"{value!r} is neither kernel nor daemon", 'write "kernel" or "daemon"') from None


def _command(value: object) -> tuple[str, ...]:
    """A list of words, or one text where ``shell`` is true; which of both is right is seen later."""
    if isinstance(value, str):
        found: tuple[str, ...] = (value,) if value.strip() else ()
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        found = tuple(value)
    else:
        raise Wrong("must be a list of words", 'for example ["/usr/bin/logger", "opened for %IP%"]')
    if any("\0" in word for word in found):
        raise Wrong("a zero byte cannot be part of a command")
    return found


def _interface(value: object) -> str:
    name = text.read(value)
    if name and not _INTERFACE_NAME.fullmatch(name):
        raise Wrong(f"{name!r} is no name for an interface", "as `ip link` lists them")
    return str(name)


def _directory(value: object) -> str:
    name = text.read(value)
    if not name.startswith("/") or "\0" in name:
        raise Wrong(f"{name!r} is no absolute path", "a folder such as /var/lib/knockgate")
    return str(name)


_port_list = Reader("list of ports", _ports)
_step_list = Reader("list of ports", _steps)
_command_line = Reader("list of words", _command)
_folder = Reader("absolute path", _directory)


# --- the schema ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """``[gate]``: what holds for all doors. Everything here has a default."""

    interface: str = key(
        "Guard and listen on this interface alone; empty: on all but loopback.",
        Reader("text", _interface),
        "",
    )
    sources: int = key(
        "Sources whose half-made sequences the kernel remembers for their full time (64 bytes each).",
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
    run_directory: str = key("Sockets of the running daemon.", _folder, "/run/knockgate")
    state_directory: str = key(
        "What must outlive a reboot: commands that are still to be run to close a door.",
        _folder,
        "/var/lib/knockgate",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """``[doors.NAME.sequence]``: the ports to be knocked at, in this order."""

    steps: tuple[Port, ...] = key('The knocks, such as `["tcp/7000", "udp/8000"]`; 1 to 32.', _step_list, ())
    within: float = key(
        "In the kernel: the longest pause from one knock to the next. In the daemon: the time for the whole "
        "sequence, from the first knock to the last.",
        duration(0.1, 86400),
        5.0,
    )
    runs_in: RunsIn = key(
        "`kernel`: the rules themselves follow the sequence and no daemon is needed. `daemon`: for what "
        "they cannot do (the four keys below, and a total time).",
        Reader("kernel or daemon", _runs_in),
        RunsIn.KERNEL,
    )
    flags: Flags | None = key(
        "TCP flags that a knock must have and, behind `!`, must not have; TCP packets that differ are no "
        "knocks. Without it a knock is a SYN alone. Daemon only.",
        Reader("list of flags", _flags),
        None,
    )
    target: bytes | None = key(
        "Knocks go to this address instead of this host's own (on a router). Daemon only.",
        Reader("address", _target),
        None,
    )
    one_time: str = key(
        "File with one sequence a line, each good for one opening; used ones are marked with `#` in "
        "place. Stands instead of `steps`. Daemon only.",
        _folder,
        "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """``[doors.NAME.commands]``: what to run when the door opens and closes. Needs the daemon.

    A command is a list of words, run as it is, without a shell. ``%IP%`` in a word becomes the source's
    address; the environment has KNOCKGATE_DOOR, KNOCKGATE_SOURCE and KNOCKGATE_EVENT (open or close).
    """

    open: tuple[str, ...] = key("Run when the door opens.", _command_line, ())
    close: tuple[str, ...] = key(
        "Run when the lease ends; also after a crash or a reboot in between. It is not run for a door "
        "that has nothing to run on opening.",
        _command_line,
        (),
    )
    open6: tuple[str, ...] | None = key(
        "The same as `open` for an IPv6 source; without it `open` is run, `[]` runs nothing.",
        _command_line,
        None,
    )
    close6: tuple[str, ...] | None = key(
        "The same as `close` for an IPv6 source; without it `close` is run, `[]` runs nothing.",
        _command_line,
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
        _port_list,
        (),
    )
    lease: float = key(
        "How long the door stays open for who knocked; connections made in that time live on. A new knock "
        "begins the time anew. 0 is possible for a door that only runs commands.",
        duration(0, 30 * 86400),
        15.0,
    )
    sequence: Sequence | None = None
    commands: Commands | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole gate.toml, checked; doors in the order of the file, which numbers them."""

    gate: Gate
    doors: tuple[Door, ...]
    file: str = dataclasses.field(default="", compare=False)

    @property
    def checksum(self) -> bytes:
        """16 bytes that differ where what is configured differs; comments and order of keys do not count."""
        return hashlib.sha256(repr((self.gate, self.doors)).encode()).digest()[:16]

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
    top = document.only((), document.table, ["gate", "doors"])
    gate = read(document, ("gate",), top.get("gate", {}), Gate)
    tables = top.get("doors", {})
    if not isinstance(tables, dict) or not tables:
        raise document.wrong(("doors",), "there is no door", 'begin with [doors.ssh] and ports = ["tcp/22"]')
    if len(tables) > MAX_DOORS:
        raise document.wrong(("doors",), f"{len(tables)} doors; {MAX_DOORS} are possible")
    doors = tuple(_door(document, name, table) for name, table in tables.items())
    _no_clashes(document, doors)
    return Configuration(gate=gate, doors=doors, file=document.file)


def _door(document: Document, name: str, table: object) -> Door:
    keys: Keys = ("doors", name)
    if not DOOR_NAME.fullmatch(name):
        hint = "letters, digits, _, . and -, at most 63 of them"
        raise document.wrong(keys, f"{name!r} is no name for a door", hint)
    given = values(document, keys, table, Door, besides=("sequence", "commands"))
    for part, schema in (("sequence", Sequence), ("commands", Commands)):
        if isinstance(table, dict) and part in table:
            given[part] = read(document, (*keys, part), table[part], schema)
    door = Door(name=name, **given)
    if door.sequence:
        _check_sequence(document, (*keys, "sequence"), door.sequence)
    if door.commands:
        _check_commands(document, (*keys, "commands"), door)
    if not door.ports and not door.commands:
        raise document.wrong(keys, "guards no port and runs no command", 'give it ports = ["tcp/22"]')
    if door.ports and door.lease < 1:
        raise document.wrong((*keys, "lease"), "a lease of ports lasts at least 1 s", 'for example "15s"')
    return door


def _check_sequence(document: Document, keys: Keys, sequence: Sequence) -> None:
    if bool(sequence.steps) == bool(sequence.one_time):
        message = "has both steps and one_time" if sequence.steps else "steps is missing"
        raise document.wrong(keys, message, 'one of them, for example steps = ["tcp/7000", "udp/8000"]')
    if sequence.runs_in is RunsIn.KERNEL:
        for name in ("flags", "target", "one_time"):
            if getattr(sequence, name):
                hint = 'add runs_in = "daemon" to this sequence'
                raise document.wrong((*keys, name), "the kernel's rules cannot do that", hint)
        if sequence.within > 3600:
            raise document.wrong((*keys, "within"), "the kernel remembers a step for at most 1h")


def _check_commands(document: Document, keys: Keys, door: Door) -> None:
    commands = door.commands
    if commands is None:
        return
    if not door.sequence or door.sequence.runs_in is not RunsIn.DAEMON:
        hint = f'a sequence with runs_in = "daemon" below [doors.{door.name}.sequence]'
        raise document.wrong(keys, "only the daemon runs commands", hint)
    for name in ("open", "close", "open6", "close6"):
        command = getattr(commands, name)
        if command and commands.shell and len(command) != 1:
            raise document.wrong((*keys, name), "with shell = true it is one text", "or take shell away")
        if command and not commands.shell and not command[0].startswith("/"):
            hint = "the first word is the program with its whole path; for a shell line say shell = true"
            raise document.wrong((*keys, name), f"{command[0]!r} is no absolute path", hint)
    if (commands.close or commands.close6) and not (commands.open or commands.open6):
        raise document.wrong((*keys, "close"), "there is nothing to run on opening", "give open as well")


def _no_clashes(document: Document, doors: tuple[Door, ...]) -> None:
    owners: dict[Port, Door] = {}
    for door in doors:
        for one in door.ports:
            if one in owners:
                hint = f"door {owners[one].name} has it; a port belongs to one door"
                raise document.wrong(("doors", door.name, "ports"), f"{one} is taken", hint)
            owners[one] = door
    for door in doors:
        if not (sequence := door.sequence):
            continue
        for step in sequence.steps:
            if step in owners:
                hint = "whoever connects to the open door would be knocking; take another port"
                place = ("doors", door.name, "sequence", "steps")
                raise document.wrong(place, f"{step} is what door {owners[step].name} guards", hint)
