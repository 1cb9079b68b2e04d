"""A section of knockd.conf -> the Door that means the same.

A knockd door guards no port: it is a sequence that the daemon follows, with commands to run. What
knockd would take but nobody can have meant (a step at port 0, a door that never opens) is refused with
its line; the package's docstring has the whole list.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

from knockgate.config.doors import MAX_STEPS, Commands, Door, Flags, RunsIn, Sequence
from knockgate.config.knockd.reading import Reading
from knockgate.model import Port, Protocol, TcpFlag

__all__ = ["door_of"]

_SEQ_TIMEOUT, _CMD_TIMEOUT = 25, 10  # what knockd takes where none is given, seconds
_LONGEST_SEQUENCE, _LONGEST_LEASE = 86400, 30 * 86400  # what config.doors takes, seconds
_TIME_LIMIT = 3600.0
"""knockd waits for a command for ever; this is the longest that ``Commands`` allows, seconds."""


def door_of(reading: Reading, name: str) -> Door:
    """A door that is called ``name`` here. Raises ConfigError with its line for what cannot be used."""
    if name != reading.section.name:
        reading.note("", f"is called {name} here")
    sequence = _sequence(reading)
    commands = _commands(reading)
    lease = reading.whole("Cmd_Timeout", _CMD_TIMEOUT)
    if not 0 <= lease <= _LONGEST_LEASE:
        message = f"{lease} is not between 0 and {_LONGEST_LEASE} seconds"
        reason = "knockd would never run Stop_Command" if lease < 0 else None
        raise reading.wrong("Cmd_Timeout", message, reason)
    return Door(name=name, lease=float(lease), sequence=sequence, commands=commands)


def _sequence(reading: Reading) -> Sequence:
    fixed, one_time = reading.value("Sequence"), reading.value("One_Time_Sequences")
    if fixed and one_time:
        if fixed.line > one_time.line:
            hint = "take one of them away; knockd mixes them up after the first knock"
            raise reading.wrong("Sequence", "stands beside One_Time_Sequences", hint)
        reading.note("Sequence", "does not count, since One_Time_Sequences follows")
    if not fixed and not one_time:
        raise reading.wrong("", "has no Sequence", "for example Sequence = 7000,8000:udp,9000")
    within = reading.whole("Seq_Timeout", _SEQ_TIMEOUT)
    if not 1 <= within <= _LONGEST_SEQUENCE:
        message = f"{within} is not between 1 and {_LONGEST_SEQUENCE} seconds"
        reason = "knockd would never open this door" if within < 1 else None
        raise reading.wrong("Seq_Timeout", message, reason)
    steps = () if one_time else _steps(reading)
    flags = _flags(reading)
    if flags is None and (one_time or any(step.protocol is Protocol.TCP for step in steps)):
        reading.note("", "has no TCPFlags: a TCP step is a SYN alone here, for knockd any TCP packet")
    return Sequence(
        runs_in=RunsIn.DAEMON,
        steps=steps,
        within=float(within),
        flags=flags,
        target=_target(reading),
        one_time=_one_time(reading, one_time.text) if one_time else "",
    )


def _steps(reading: Reading) -> tuple[Port, ...]:
    """``7000,8000:udp`` -> the ports, at least one."""
    value = reading.section.last("Sequence")
    assert value is not None  # noqa: S101 - the caller looked
    words = value.text.split(",")
    if len(words) > MAX_STEPS:
        raise reading.wrong("Sequence", f"has {len(words)} steps; {MAX_STEPS} are possible")
    return tuple(_step(reading, word.strip()) for word in words)


def _step(reading: Reading, word: str) -> Port:
    number, *protocols = (part.strip() for part in word.split(":"))
    found = re.fullmatch(r"([0-9]{1,5})( *#.*)?", number)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise reading.wrong("Sequence", f"{number!r} is no port", _misread(number))
    if found[2]:
        reading.note("Sequence", f"{found[2].strip()!r} is passed over, as in knockd")
    try:
        (name,) = protocols or ["tcp"]
        return Port(Protocol[name.upper()], int(found[1]))
    except (KeyError, ValueError):
        hint = f"write {found[1]}:tcp or {found[1]}:udp"
        raise reading.wrong("Sequence", f"{':'.join(protocols)!r} is neither tcp nor udp", hint) from None


def _misread(number: str) -> str:
    """What knockd makes of a word that is no port: atoi(3), and 16 bits of that."""
    found = re.match(r"[+-]?[0-9]{1,9}", number)
    read = int(found[0]) if found else 0
    if read > 65535:
        return "a port is a number from 1 to 65535"
    return f"a port is a number from 1 to 65535; knockd takes this for port {read % 65536} without a word"


def _flags(reading: Reading) -> Flags | None:
    """All TCPFlags of the door together; of a flag that is named twice the last counts."""
    wanted = unwanted = TcpFlag(0)
    for value in reading.section.values.get("TCPFlags", ()):
        for word in value.text.split(","):
            if word != word.strip():
                reading.note("TCPFlags", "has blanks, for which knockd refuses the file")
            name = word.strip().upper()
            try:
                bit = TcpFlag[name.removeprefix("!")]
            except KeyError:
                names = ", ".join(flag.name.lower() for flag in TcpFlag if flag.name)
                hint = f"flags are {names}, each may have a !"
                raise reading.wrong("TCPFlags", f"{word!r} is no flag", hint) from None
            wanted, unwanted = wanted & ~bit, unwanted & ~bit
            if name.startswith("!"):
                unwanted |= bit
            else:
                wanted |= bit
    return Flags(wanted, unwanted) if wanted or unwanted else None


def _target(reading: Reading) -> bytes | None:
    value = reading.value("Target")
    if value is None:
        return None
    try:
        address = ipaddress.ip_address(value.text)
    except ValueError:
        hint = "one IPv4 or IPv6 address; with a name knockd never opens the door"
        raise reading.wrong("Target", f"{value.text!r} is no address", hint) from None
    return address.packed


def _one_time(reading: Reading, file: str) -> str:
    if not file:
        raise reading.wrong("One_Time_Sequences", "names no file")
    if not file.startswith("/"):
        reading.note("One_Time_Sequences", f"{file} is taken to be in the present folder, {Path.cwd()}")
    return os.path.abspath(file)  # noqa: PTH100 - Path.absolute() leaves ".." in


def _commands(reading: Reading) -> Commands:
    start, start6 = _command(reading, "Start_Command"), _command(reading, "Start_Command_6")
    stop, stop6 = _command(reading, "Stop_Command"), _command(reading, "Stop_Command_6")
    if not start and not start6:
        reading.note("", "runs no command: knocks at it are reported and nothing else")
        for key in ("Stop_Command", "Stop_Command_6"):
            if reading.section.last(key):
                reading.note(key, "is never run, in knockd either: there is no Start_Command")
        stop = stop6 = None
    return Commands(  # noqa: S604 - whoever wrote knockd.conf wrote shell lines
        shell=True,
        time_limit=_TIME_LIMIT,
        open=start or (),
        close=stop or (),
        open6=start6,
        close6=stop6,
    )


def _command(reading: Reading, key: str) -> tuple[str, ...] | None:
    """One line for a shell; empty where the value is, None where the key is not given."""
    value = reading.value(key)
    if value is None:
        return None
    return (value.text,) if value.text.strip() else ()  # what a gate.toml takes for none
