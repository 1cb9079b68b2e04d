"""The words of a knock, in a profile as on a command line: TOML values or texts -> ports, times, names.

Each reader takes any TOML value and gives the field's value or raises ``Wrong``, never anything else.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from knockgate.client import home
from knockgate.client.send import Family
from knockgate.config.fwknop_words import one_of
from knockgate.config.toml import Reader, Wrong, duration, shown, text
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode

__all__ = [
    "card_path",
    "delay_time",
    "door",
    "family",
    "hash_name",
    "host",
    "identity_path",
    "lease_time",
    "mode_name",
    "ports",
    "sealed_door",
    "sealed_doors",
    "sealed_lease",
    "secrets_path_or_none",
    "spa_port",
    "step",
    "steps",
    "time_offset",
    "wait_time",
]

# What a sealed knock has room for; ``spa.sealed.Head`` is the judge, and loads a library.
_DOOR = re.compile(r"[a-z][a-z0-9-]*")
_ROOM = 32
_PORT = re.compile(r"(?:(tcp|udp)/)?([0-9]{1,9})(?:[/:](tcp|udp))?")


def _port(value: object, protocol: str, kind: str) -> Port:
    """``7000``, ``tcp/7000``, ``7000/tcp`` or, as knockd has it, ``7000:tcp``; raises Wrong."""
    word = str(value).strip().lower() if type(value) in (str, int) else ""
    found = _PORT.fullmatch(word)
    if not found or (found[1] and found[3]):
        hint = "write 7000, tcp/7000 or udp/8000"
        if "," in word and kind == "step":
            hint = "give the steps as separate words: " + " ".join(word.replace(",", " ").split())
        raise Wrong(f"{shown(value)} is no {kind}", hint)
    number = int(found[2])
    if not 1 <= number <= 65535:
        raise Wrong(f"{shown(value)}: a port is a number from 1 to 65535")
    return Port(Protocol[(found[1] or found[3] or protocol).upper()], number)


def _step(value: object) -> Port:
    return _port(value, "tcp", "step")


def _steps(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong("must be a list of steps", 'for example ["tcp/7000", "udp/8000", "tcp/9000"]')
    return tuple(_step(item) for item in value)


def _access(value: object) -> tuple[Port, ...]:
    """A list, or what stands after fwknop's -A: ``tcp/22,udp/53``."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise Wrong("must be a list of ports", 'for example ["tcp/22"]')
    return tuple(_port(item, "tcp", "port") for item in items)


def _spa_port(value: object) -> Port:
    port = _port(value, "udp", "port")
    if port.protocol is not Protocol.UDP:
        raise Wrong(f"{port} is no UDP port", "packets travel over UDP alone")
    return port


def _door(value: object) -> Port:
    port = _port(value, "tcp", "port")
    if port.protocol is not Protocol.TCP:
        raise Wrong(
            f"cannot wait for {port}: an open UDP port need not answer", "a TCP port of the same door"
        )
    return port


def _family(value: object) -> Family:
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    if type(value) is not int or value not in families:
        raise Wrong(f"{shown(value)} is no address family", "4 or 6")
    return families[value]


#: Characters: a name has 253 of them at most (RFC 1035), and an address may name its interface.
_LONGEST_HOST = 255


def _host(value: object) -> str:
    name: str = text.read(value)
    if not name.strip():
        raise Wrong("the host is empty", 'a name or an address such as "192.0.2.7"')
    if len(name) > _LONGEST_HOST:
        raise Wrong(f"the host has {len(name)} characters", f"a name has {_LONGEST_HOST} at most")
    if "@" in name:  # as ssh would have it
        raise Wrong(f"{shown(name)} names a user", f"the host alone: {name.rpartition('@')[2]}")
    return name


def _path(value: object, example: str) -> Path:
    name: str = text.read(value)
    if name.startswith("~/"):
        try:
            name = f"{home.folder()}{name[1:]}"
        except ConfigError as error:
            raise Wrong(f"HOME {error.message}", error.hint) from None
    if not name.startswith("/") or "\0" in name:
        raise Wrong(f"{shown(name)} is no path from / or ~/", f"such as {example}")
    return Path(name)


def _card_path(value: object) -> Path:
    return _path(value, "~/.config/knockgate/cards/home")


def _identity_path(value: object) -> Path:
    return _path(value, "~/.ssh/id_ed25519")


def _secrets_path_or_none(value: object) -> Path | None:
    return None if value == "" else _path(value, "~/.config/knockgate/home.secrets")


def _lease(value: object) -> float:
    seconds: float = duration(1, 65536).read(value)
    if seconds % 1:
        raise Wrong(f"{shown(value)} is no time in whole seconds", "the packet has no room for a fraction")
    return seconds


def _whole_lease(value: object) -> float:
    seconds: float = _LEASE.read(value)
    if seconds % 1:
        raise Wrong(f"{shown(value)} is no time in whole seconds", "the knock has no room for a fraction")
    return seconds


def _sealed_door(value: object) -> str:
    name: str = text.read(value).strip()
    if not _DOOR.fullmatch(name) or len(name) > _ROOM:
        raise Wrong(
            f"{shown(name)} is no door that a sealed knock can ask for",
            f"a letter from a to z, then such letters, digits and -; at most {_ROOM} of them",
        )
    return name


def _sealed_doors(value: object) -> tuple[str, ...]:
    """Sorted, as they stand in the knock."""
    if not isinstance(value, list) or not value:
        raise Wrong("must be a list of doors", 'for example ["ssh"]')
    names = tuple(sorted({_sealed_door(item) for item in value}))
    if len(",".join(names)) > _ROOM:
        raise Wrong(
            f"{shown(','.join(names))} does not fit into a knock",
            f"there is room for {_ROOM} characters, commas included: knock twice",
        )
    return names


#: What is the longest that a door's lease can be.
_LEASE = duration(1, 36500 * 86400)
_OFFSET = duration(-36500 * 86400, 36500 * 86400)


def _offset(value: object) -> float:
    """A time that may have a sign before it."""
    word = value.strip() if isinstance(value, str) else value
    if isinstance(word, str) and word.startswith(("+", "-")):
        seconds: float = _OFFSET.read(word[1:])
        return -seconds if word.startswith("-") else seconds
    return float(_OFFSET.read(word))


host = Reader("text", _host)
family = Reader("4 or 6", _family)
step = Reader("port", _step)
steps = Reader("list of ports", _steps)
door = Reader("TCP port", _door)
delay_time = duration(0, 60)
wait_time = duration(0.01, 3600)
secrets_path_or_none = Reader("path from `/` or `~/`, or empty", _secrets_path_or_none)
ports = Reader("list of ports", _access)
spa_port = Reader("UDP port", _spa_port)
card_path = Reader("path from `/` or `~/`", _card_path)
identity_path = Reader("path from `/` or `~/`", _identity_path)
sealed_door = Reader("door", _sealed_door)
sealed_doors = Reader("list of doors", _sealed_doors)
sealed_lease = Reader("time in whole seconds, from 1s", _whole_lease)
lease_time = Reader("time in whole seconds, 1s to 65536s", _lease)
time_offset = Reader("time, with - before it where the host's clock is behind", _offset)
hash_name = one_of(Hash)
mode_name = one_of(Mode)
