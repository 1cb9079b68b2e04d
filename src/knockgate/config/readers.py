"""TOML values -> what gate.toml speaks of: ports, flags, addresses, paths, commands.

Each reader takes any TOML value and gives the field's value or raises ``Wrong``, never anything else.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import TypeVar

from knockgate.config.toml import Reader, Wrong, shown, text
from knockgate.model import Port, Protocol, TcpFlag

__all__ = [
    "MAX_STEPS",
    "Devices",
    "Flags",
    "LogFormat",
    "Network",
    "Observed",
    "Reliance",
    "RunsIn",
    "Suite",
    "address",
    "allowed",
    "command",
    "devices",
    "file_path",
    "flags",
    "folder",
    "instant",
    "interface",
    "key_files",
    "log_format",
    "networks",
    "observed",
    "port",
    "ports",
    "reliance",
    "runs_in",
    "steps",
    "suites",
    "udp_port",
    "users",
]

MAX_STEPS = 32
#: Networks that are let in without a knock, in one list: the kernel looks through them for every stranger.
_MAX_ALLOWED = 1024

Word = TypeVar("Word", bound=enum.StrEnum)


class RunsIn(enum.StrEnum):
    """Who follows a sequence."""

    KERNEL = "kernel"
    DAEMON = "daemon"


class Reliance(enum.StrEnum):
    """Whether to rely on this machine's clock."""

    AUTO = "auto"
    TRUSTED = "trusted"
    UNKNOWN = "unknown"


class LogFormat(enum.StrEnum):
    """What a line of the daemon's log is."""

    TEXT = "text"
    JSON = "json"


class Suite(enum.StrEnum):
    """What a sealed packet is sealed with."""

    X_WING = "x-wing"
    X25519 = "x25519"


class Observed(enum.StrEnum):
    """When a door lets in who sent a sealed packet that names no address."""

    NEVER = "never"
    CLOCK = "clock"
    ALWAYS = "always"


class Devices(enum.StrEnum):
    """Which devices a door takes sealed packets of."""

    ANY = "any"
    KNOWN = "known"


#: Addresses of one family that begin alike.
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Flags:
    """TCP flags that a packet must and must not have to count as a step."""

    wanted: TcpFlag
    unwanted: TcpFlag


def port(value: object) -> Port:
    """``"tcp/22"`` -> Port; raises Wrong."""
    hint = 'write "tcp/22" or "udp/53"'
    found = re.fullmatch(r"(tcp|udp)/([0-9]{1,5})", value.strip().lower()) if isinstance(value, str) else None
    if not found:
        turned = re.fullmatch(r"([0-9]{1,5})(?:[/:](tcp|udp))?", str(value).strip().lower())
        if turned:  # as others write it: 22, 22/tcp, or knockd's 22:tcp
            hint = f'did you mean "{turned[2] or "tcp"}/{turned[1]}"?'
        raise Wrong(f"{shown(value)} is no port", hint)
    number = int(found[2])
    if not 1 <= number <= 65535:
        raise Wrong(f"{shown(value)} is no port", "a port is a number from 1 to 65535")
    return Port(Protocol[found[1].upper()], number)


def _ports(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list):
        raise Wrong("must be a list of ports", 'for example ["tcp/22"]')
    found: dict[Port, None] = {}
    for one in map(port, value):
        if one in found:
            raise Wrong(f"{one} stands there twice", "once is enough")
        found[one] = None
    return tuple(found)


def _steps(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list):
        raise Wrong("must be a list of ports", 'for example ["tcp/7000", "udp/8000", "tcp/9000"]')
    if len(value) > MAX_STEPS:
        raise Wrong(f"has {len(value)} steps", f"{MAX_STEPS} are possible")
    return tuple(map(port, value))


def _flags(value: object) -> Flags:
    hint = f'a list such as ["syn", "!ack"] of {", ".join(str(bit.name).lower() for bit in TcpFlag)}'
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of TCP flags", hint)
    wanted = unwanted = TcpFlag(0)
    for item in value:
        name = item.strip().lower()
        try:
            bit = TcpFlag[name.removeprefix("!").upper()]
        except KeyError:
            raise Wrong(f"{shown(item)} is no TCP flag", hint) from None
        if name.startswith("!"):
            unwanted |= bit
        else:
            wanted |= bit
    if wanted & unwanted:
        raise Wrong("a flag is wanted and unwanted at once", hint)
    return Flags(wanted, unwanted)


def _address(value: object) -> bytes | None:
    name = text.read(value)
    if not name:
        return None
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        found = None
    # An address with a scope names an interface too, and no packet carries that.
    if found is None or getattr(found, "scope_id", None):
        raise Wrong(f"{shown(name)} is no address", 'an IPv4 or IPv6 address such as "192.0.2.7"')
    return found.packed


def _suites(value: object) -> tuple[Suite, ...]:
    names = ", ".join(f'"{each}"' for each in Suite)
    if not isinstance(value, list) or not value:
        raise Wrong("must be a list with one suite at least", f"of {names}")
    return tuple(dict.fromkeys(_one_of(Suite, each) for each in value))


def _one_of(kind: type[Word], value: object) -> Word:
    name = text.read(value)
    try:
        return kind(name)
    except ValueError:
        names = ", ".join(f'"{each}"' for each in kind)
        raise Wrong(f"{shown(name)} is none of these", names) from None


def _word(kind: type[Word]) -> Reader:
    *most, last = (f"`{each}`" for each in kind)
    return Reader(f"{', '.join(most)} or {last}", lambda value: _one_of(kind, value))


def _udp_port(value: object) -> Port:
    found = port(value)
    if found.protocol is not Protocol.UDP:
        raise Wrong(f"{found} is no UDP port", f'did you mean "udp/{found.number}"?')
    return found


def _networks(value: object) -> tuple[Network, ...]:
    hint = 'a list of addresses and networks such as ["192.0.2.0/24", "2001:db8::7"]'
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of networks", hint)
    return tuple(_network(item.strip(), hint) for item in value)


def _network(item: str, hint: str) -> Network:
    try:
        found = ipaddress.ip_network(item)
    except ValueError:
        try:
            near = ipaddress.ip_network(item, strict=False)
        except ValueError:
            raise Wrong(f"{shown(item)} is no network", hint) from None
        raise Wrong(f"{shown(item)} is an address within a network", f'did you mean "{near}"?') from None
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.scope_id:
        raise Wrong(f"{shown(item)} names an interface", "without what comes after the %")
    return found


def _allowed(value: object) -> tuple[Network, ...]:
    found = _networks(value)
    if len(found) > _MAX_ALLOWED:
        raise Wrong(f"has {len(found)} networks", f"{_MAX_ALLOWED} are possible")
    return found


def _instant(value: object) -> dt.datetime:
    """A day ends with its last second, here: whoever reads "until 3 May" may knock on 3 May."""
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    if isinstance(value, dt.date):
        if value == dt.date.max:
            raise Wrong("is the last day there is", "leave it out, and there is no end")
        return dt.datetime.combine(value + dt.timedelta(days=1), dt.time(), dt.UTC)
    raise Wrong("must be a date without quotes", "such as 2027-05-03 or 2027-05-03T18:00:00Z; UTC is meant")


def _command(value: object) -> tuple[str, ...]:
    """A list of words, or one text, which is right where ``shell`` is true; that is seen later."""
    if isinstance(value, str):
        found: tuple[str, ...] = (value,) if value.strip() else ()
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        found = tuple(value)
    else:
        raise Wrong("must be a list of words", 'for example ["/usr/bin/logger", "opened for %IP%"]')
    if any("\0" in word for word in found):
        raise Wrong("a zero byte cannot be part of a command", "take it out")
    return found


def _interface(value: object) -> str:
    name: str = text.read(value)
    # What the kernel takes for a name, less what would mean something else to nft: * is its wildcard.
    plain = name.isascii() and name.isprintable() and name not in (".", "..")
    if name and not (plain and re.fullmatch(r'[^ /:"*\\]{1,15}', name)):
        raise Wrong(f"{shown(name)} is no name for an interface", "as `ip link` lists them")
    return name


def _path(value: object, hint: str) -> str:
    name: str = text.read(value)
    if not name.startswith("/") or "\0" in name:
        raise Wrong(f"{shown(name)} is no absolute path", hint)
    return name


def _folder(value: object) -> str:
    return _path(value, "a folder such as /var/lib/knockgate")


def _file(value: object) -> str:
    return _path(value, "a file by its whole name, such as /etc/knockgate/NAME") if value != "" else ""


def _key_files(value: object) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [value]
    hint = "a file by its whole name, such as /etc/knockgate/authorized_keys or %h/.ssh/authorized_keys"
    if not several:
        raise Wrong("must be a file, or a list of files", hint)
    for path in (text.read(each) for each in several):
        if not path.startswith(("/", "%h/")) or "\0" in path:
            raise Wrong(f"{shown(path)} is no absolute path", hint)
        if re.search(r"%([^uh%]|$)", path.replace("%%", "")):
            raise Wrong(f"{shown(path)} has a % that stands for nothing", "%u, %h, or %% for itself")
    return tuple(dict.fromkeys(several))


def _users(value: object) -> tuple[str, ...]:
    # What passwd(5) cannot hold would make the look-up itself fail.
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of user names", 'for example ["jo"]')
    for item in value:
        if not item or not item.isprintable() or ":" in item or "/" in item:
            raise Wrong(f"{shown(item)} is no name of a user", "as `getent passwd` lists them")
    return tuple(dict.fromkeys(value))


ports = Reader("list of ports", _ports)
steps = Reader("list of ports", _steps)
flags = Reader("list of flags", _flags)
address = Reader("address", _address)
runs_in = _word(RunsIn)
suites = Reader("list of suites", _suites)
observed = _word(Observed)
devices = _word(Devices)
reliance = _word(Reliance)
log_format = _word(LogFormat)
udp_port = Reader("UDP port", _udp_port)
networks = Reader("list of networks", _networks)
allowed = Reader("list of networks", _allowed)
instant = Reader("date, or date and time", _instant)
command = Reader("list of words", _command)
interface = Reader("text", _interface)
folder = Reader("absolute path", _folder)
file_path = Reader("absolute path", _file)
key_files = Reader("absolute path, or list of them", _key_files)
users = Reader("list of user names", _users)
