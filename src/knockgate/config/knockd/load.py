"""A whole knockd.conf -> Configuration, and notes on what is different here."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from knockgate.config.doors import MAX_DOORS, Configuration, Gate
from knockgate.config.knockd import grammar
from knockgate.config.knockd.doors import door_of
from knockgate.config.knockd.grammar import KnockdFile
from knockgate.config.knockd.reading import Reading
from knockgate.config.notes import Note
from knockgate.errors import ConfigError

__all__ = ["configuration_of", "examine", "gate_of", "load", "names_of"]

_INTERFACE_NAME = re.compile(r"[^\s/\"]{1,15}")  # IFNAMSIZ


def load(path: Path | str, interface: str = "") -> Configuration:
    """Read a knockd.conf; ``interface``, if given, stands instead of the file's. Raises ConfigError."""
    return examine(path, interface)[0]


def examine(path: Path | str, interface: str = "") -> tuple[Configuration, tuple[Note, ...]]:
    """The same, with what is different than in knockd; notes in the order of the lines."""
    return configuration_of(grammar.read(path), interface)


def configuration_of(parsed: KnockdFile, interface: str) -> tuple[Configuration, tuple[Note, ...]]:
    """The same from a file's sections. Raises ConfigError for the first that cannot be used."""
    if not parsed.doors:
        hint = "a door is a heading such as [openSSH] and has a Sequence"
        raise ConfigError("there is no door", file=parsed.file, line=len(parsed.lines), hint=hint)
    options = Reading(parsed.file, parsed.options)
    gate = gate_of(options, interface)
    notes = options.notes
    doors = []
    for name, section in zip(names_of(parsed), parsed.doors, strict=True):
        reading = Reading(parsed.file, section)
        doors.append(door_of(reading, name))
        notes += reading.notes
    configuration = Configuration(gate=gate, doors=tuple(doors), file=parsed.file)
    return configuration, tuple(sorted(notes, key=lambda note: note.line))


def gate_of(reading: Reading, interface: str) -> Gate:
    """``[options]``, of which only the interface counts here."""
    for key in ("LogFile", "PidFile", "UseSyslog"):
        if value := reading.section.last(key):
            hint = "the log goes to standard error, under systemd to the journal; there is no fork"
            reading.note(key, "is not used", None if key == "PidFile" else hint)
            if key == "UseSyslog" and value.text:
                reading.note(key, "has a value, for which knockd refuses the file")
    value = reading.value("Interface")
    name = interface or (value.text if value else "")
    if not name:
        if "eth0" in (each for _, each in socket.if_nameindex()):
            return Gate(interface="eth0")
        message = "knockd would listen on eth0, which is not here: all interfaces are listened on"
        reading.note("", message, "-i IF or Interface = IF names one")
        return Gate(interface="")
    if name == "any":
        where = "" if interface else "Interface"
        reading.note(where, "any: all interfaces are listened on, where knockd hears nothing")
        return Gate(interface="")
    if not _INTERFACE_NAME.fullmatch(name):
        message, hint = f"{name!r} is no name for an interface", "as `ip link` lists them"
        if interface:
            raise ConfigError(message, key="-i", hint=hint)
        raise reading.wrong("Interface", message, hint)
    return Gate(interface=name)


def names_of(parsed: KnockdFile) -> list[str]:
    """A name for each door that ``config.doors`` allows and no other door has."""
    if len(parsed.doors) > MAX_DOORS:
        raise ConfigError(f"{len(parsed.doors)} doors; {MAX_DOORS} are possible", file=parsed.file)
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}  # how often a name was wanted
    for section in parsed.doors:
        name = plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", section.name)[:57].lstrip(".-") or "door"
        while name in names:
            numbers[plain] = numbers.get(plain, 1) + 1
            name = f"{plain}-{numbers[plain]}"
        names[name] = None
    return list(names)
