"""``[keys.NAME]`` of gate.toml: who may knock with a packet, for what, and where the secrets are.

A key is a pair of fwknop's secrets, or files of ssh keys (``keyfiles`` reads those, again and again).

The half of the gate with rights does not read this: it knows which doors a key may open, and no more.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knockgate.config import readers, secrets
from knockgate.config.doors import DOOR_NAME, Configuration, Door
from knockgate.config.fwknop_words import one_of, user_name
from knockgate.config.hours import Week, week, zone
from knockgate.config.places import KeyFile, files_of
from knockgate.config.readers import Network
from knockgate.config.secrets import Contents
from knockgate.config.toml import (
    Document,
    Keys,
    Reader,
    Wrong,
    duration,
    fields_of,
    flag,
    key,
    shown,
    values,
    whole,
)
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = [
    "ASKED_FOR",
    "MAX_FILES",
    "MAX_KEYS",
    "FwknopKey",
    "Key",
    "KeyFile",
    "SshKeys",
    "load",
    "load_ssh",
    "parse",
    "parse_ssh",
]

MAX_KEYS = 100_000
#: Files of ssh keys, of all keys together: each is looked at before a knock is taken.
MAX_FILES = 1000
#: What a door must be called for a sealed packet to ask for it. docs/spec/spa-v1.md, "Doors".
ASKED_FOR = re.compile(r"[a-z][a-z0-9-]{0,31}")


def _doors(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of doors", 'for example ["ssh"]')
    return tuple(dict.fromkeys(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What every key is good for, whatever its packets are."""

    name: str
    doors: tuple[str, ...] = key("The doors that it opens.", Reader("list of doors", _doors))
    sources: tuple[Network, ...] = key(
        "Who may be let in: the address must be in one of these networks. Empty: anybody.",
        readers.networks,
        (),
    )
    longest: float | None = key(
        "Its leases last at most this, whatever is asked for and the door allows.",
        duration(1, 30 * 86400),
        None,
    )
    expires: dt.datetime | None = key(
        "From then on it opens nothing; leases end then at the latest.", readers.instant, None
    )
    hours: Week | None = key(
        'When it is good, such as `["Mon-Fri 08:00-18:00", "Sat 10:00-14:00", "22:00-06:00"]`: days, '
        "times, or both; over midnight a time belongs to the day on which it begins. Leases end with them. "
        "Without it: always.",
        week,
        None,
    )
    hours_in: str = key(
        "The time zone of `hours`, such as `Europe/Berlin`; empty: the machine's own.", zone, ""
    )
    revoked: bool = key(
        "It opens nothing. Unlike a key that is taken out, who still tries is told by name in the log.",
        flag,
        False,  # noqa: FBT003 - a default
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FwknopKey(Key):
    """``[keys.NAME]`` with ``fwknop``: a pair of secrets of fwknop's, and what it is good for."""

    fwknop: str = key(
        "The file with the secrets, of mode 0600: lines `KEY_BASE64: ...` and `HMAC_KEY_BASE64: ...` as "
        "`fwknop --key-gen` and `knockgate key new` print them, or `KEY: ...` and `HMAC_KEY: ...`.",
        readers.file_path,
    )
    hmac: Hash = key("What the packet is authenticated with.", one_of(Hash), Hash.SHA256)
    mode: Mode = key("How the packet is encrypted.", one_of(Mode), Mode.CBC)
    insecure: bool = key(
        "Take a key without HMAC. Its packets can be tampered with, and each costs a decryption.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    senders: tuple[Network, ...] = key(
        "Where packets may come from. It is the sender who writes that address, so it proves nothing. "
        "Empty: anywhere.",
        readers.networks,
        (),
    )
    observed: bool = key(
        "Take packets that name no address (0.0.0.0): who sent it is let in. Whoever intercepts such a "
        "packet can send it on as their own.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    username: str = key("A packet must bear this user name; empty: any.", user_name, "")
    leases: int | None = key(
        "Leases that it may have at once, so that a key for one person is not passed round. Without it: any "
        "number.",
        whole(1, 10_000),
        None,
    )
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKeys(Key):
    """``[keys.NAME]`` with ``ssh``: files of ssh keys, and what they are good for in sealed packets."""

    ssh: tuple[str, ...] = key(
        "The file, or a list of them: lines as in sshd's authorized_keys. Of their options `from`, "
        "`expiry-time`, `no-touch-required` and `verify-required` count, and in a file of our own "
        '`doors="ssh,web"` and `max-lease="10m"`. `%u` stands for the name of each of `users`, `%h` for the '
        "home. A file that changes is read again.",
        readers.key_files,
    )
    users: tuple[str, ...] = key(
        "The files are those of these users of this machine: each may belong to its user instead of root.",
        readers.users,
        (),
    )
    shared: bool | None = key(
        "sshd reads the files too. Then the options of our own are mistakes in them, for sshd would refuse "
        "the line. Without it: true where `users` is given.",
        flag,
        None,
    )
    leases: int = key("Leases that one ssh key may have at once.", whole(1, 10_000), 8)
    leases_in_all: int = key(
        "Leases that all of them together may have at once, so that who writes a file of keys does not take "
        "the room of all others (`leases` of `[gate]`).",
        whole(1, 100_000),
        1000,
    )
    files: tuple[KeyFile, ...] = ()  #: ``ssh`` for each of ``users``; none twice

    def __post_init__(self) -> None:
        if self.shared is None:
            object.__setattr__(self, "shared", bool(self.users))

    @property
    def ours(self) -> bool:
        """Whether no sshd reads the files."""
        return not self.shared


def load(
    path: Path | str, configuration: Configuration, contents: Contents = secrets.contents
) -> tuple[FwknopKey, ...]:
    """The keys of a gate.toml that are fwknop's, with the secrets they name; raises ConfigError.

    ``configuration`` is what ``doors`` made of the same file. ``contents`` reads a file of secrets.
    """
    return _fwknop_keys(Document.load(path), configuration, contents)


def load_ssh(path: Path | str, configuration: Configuration) -> tuple[SshKeys, ...]:
    """The others; raises ConfigError. Users are looked up, files are not looked at: see ``keyfiles``."""
    return _ssh_keys(Document.load(path), configuration)


def parse(content: str, configuration: Configuration, file: str = "gate.toml") -> tuple[FwknopKey, ...]:
    """``load`` from a text."""
    return _fwknop_keys(Document(content, file), configuration)


def parse_ssh(content: str, configuration: Configuration, file: str = "gate.toml") -> tuple[SshKeys, ...]:
    """``load_ssh`` from a text."""
    return _ssh_keys(Document(content, file), configuration)


def _fwknop_keys(
    document: Document, configuration: Configuration, contents: Contents = secrets.contents
) -> tuple[FwknopKey, ...]:
    doors = {door.name: door for door in configuration.doors}
    found = tuple(_fwknop_key(document, *each, doors, contents) for each in _tables(document, "fwknop"))
    owners: dict[Secret, str] = {}
    for each in found:
        if each.secret in owners:
            message = f"has the same secrets as key {owners[each.secret]}, so nobody could tell them apart"
            hint = "make one key of both, or a pair of its own"
            raise document.wrong(("keys", each.name, "fwknop"), message, hint)
        owners[each.secret] = each.name
    return found


def _tables(document: Document, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and tables of the keys of a kind; ``doors`` has seen that each is a table of one kind."""
    tables = document.only(("keys",), document.table.get("keys", {}))
    if len(tables) > MAX_KEYS:
        raise document.wrong(("keys",), f"{len(tables)} keys", f"{MAX_KEYS} are possible")
    for name, table in tables.items():
        if not DOOR_NAME.fullmatch(name):
            hint = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"
            raise document.wrong(("keys", name), f"{shown(name)} is no name for a key", hint)
        if kind in table:
            yield name, table


def _given(
    document: Document, keys: Keys, table: dict[str, Any], schema: type[FwknopKey | SshKeys]
) -> dict[str, Any]:
    """The fields of a key. One that is for the other kind of keys is told from one that nobody knows."""
    mine, other, kind = (FwknopKey, SshKeys, "ssh") if schema is FwknopKey else (SshKeys, FwknopKey, "fwknop")
    known = {field.name for field in fields_of(mine)}
    for field in fields_of(other):
        if field.name in table and field.name not in known:
            raise document.wrong((*keys, field.name), "unknown key", f"it is for keys that have {kind}")
    found = values(document, keys, table, mine)
    if found.get("hours_in") and "hours" not in found:
        raise document.wrong(
            (*keys, "hours_in"), "there are no hours in it", 'hours = ["Mon-Fri 08:00-18:00"]'
        )
    return found


def _check_doors(document: Document, keys: Keys, names: tuple[str, ...], doors: Mapping[str, Door]) -> None:
    for name in names:
        if name not in doors:
            hint = f"there are: {', '.join(list(doors)[:20])}"
            raise document.wrong((*keys, "doors"), f"there is no door {shown(name)}", hint)


def _fwknop_key(
    document: Document, name: str, table: dict[str, Any], doors: Mapping[str, Door], contents: Contents
) -> FwknopKey:
    keys: Keys = ("keys", name)
    given = _given(document, keys, table, FwknopKey)
    _check_doors(document, keys, given["doors"], doors)
    for door in given["doors"]:
        if not doors[door].ports:
            hint = f"give door {door} the port that its packets ask for"
            message = f"door {door} has no ports, so no packet can ask for it"
            raise document.wrong((*keys, "doors"), message, hint)
    insecure = given.get("insecure", False)
    try:
        secret = secrets.load(
            Path(given["fwknop"]), given.get("hmac", Hash.SHA256), given.get("mode", Mode.CBC), contents
        )
    except ConfigError as error:
        if error.file is None:
            raise document.wrong((*keys, "fwknop"), error.message, error.hint) from None
        raise
    if secret.hmac_key is None and not insecure:
        hint = f"make a new pair: knockgate key new --fwknop {name}; or say insecure = true"
        raise document.wrong(keys, f"{given['fwknop']} has no HMAC_KEY, so packets are not authentic", hint)
    return FwknopKey(name=name, secret=secret, **given)


# --- ssh ----------------------------------------------------------------------------------------------


def _ssh_keys(document: Document, configuration: Configuration) -> tuple[SshKeys, ...]:
    doors = {door.name: door for door in configuration.doors}
    found = tuple(_ssh_key(document, *each, doors) for each in _tables(document, "ssh"))
    number = 0
    for each in found:
        number += len(each.files)
        if number > MAX_FILES:
            message = f"{number} files of ssh keys so far"
            hint = f"{MAX_FILES} are possible; a file holds many keys"
            raise document.wrong(("keys", each.name, "ssh"), message, hint)
    return found


def _ssh_key(document: Document, name: str, table: dict[str, Any], doors: Mapping[str, Door]) -> SshKeys:
    keys: Keys = ("keys", name)
    given = _given(document, keys, table, SshKeys)
    _check_doors(document, keys, given["doors"], doors)
    if not any(ASKED_FOR.fullmatch(door) for door in given["doors"]):
        hint = "small letters, digits and -, at most 32 of them; the first is a letter"
        message = f"no sealed packet can ask for {', '.join(given['doors'])}: it has no room for such names"
        raise document.wrong((*keys, "doors"), message, hint)
    files = files_of(document, keys, given["ssh"], given.get("users", ()))
    return SshKeys(name=name, files=files, **given)
