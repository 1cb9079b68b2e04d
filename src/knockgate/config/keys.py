"""``[keys.NAME]`` of gate.toml: who may knock with a packet, for what, and where the secrets are.

The half of the gate with rights does not read this: it knows which doors a key may open, and no more.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from knockgate.config import readers, secrets
from knockgate.config.doors import DOOR_NAME, Configuration, Door
from knockgate.config.readers import Network
from knockgate.config.toml import (
    Document,
    Keys,
    Reader,
    Wrong,
    duration,
    flag,
    key,
    shown,
    text,
    values,
)
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret
from knockgate.spa.fwknop.fields import USERNAME

__all__ = ["MAX_KEYS", "FwknopKey", "load", "one_of", "parse", "user_name"]

MAX_KEYS = 100_000


def _doors(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Wrong("must be a list of doors", 'for example ["ssh"]')
    return tuple(dict.fromkeys(value))


def one_of(kind: type[Hash | Mode]) -> Reader:
    """One of fwknop's names, in any spelling that fwknop's own files have."""
    names = ", ".join(each.value for each in kind)

    def read(value: object) -> Hash | Mode:
        try:
            return kind(text.read(value).lower().replace("-", "_"))
        except ValueError:
            raise Wrong(f"{shown(value)} is none of these", names) from None

    return Reader(names, read)


def _username(value: object) -> str:
    name: str = text.read(value)
    if name and not USERNAME.fullmatch(name):
        hint = 'at most 48 ASCII characters, and none of " / \\ [ ] : ; | = , + * ? < >'
        raise Wrong(f"{shown(name)} is no user name for a packet", hint)
    return name


user_name = Reader("text", _username)


@dataclass(frozen=True, slots=True, kw_only=True)
class FwknopKey:
    """``[keys.NAME]``: a pair of secrets of fwknop's, and what it is good for."""

    name: str
    fwknop: str = key(
        "The file with the secrets, of mode 0600: lines `KEY_BASE64: ...` and `HMAC_KEY_BASE64: ...` as "
        "`fwknop --key-gen` and `knockgate key new` print them, or `KEY: ...` and `HMAC_KEY: ...`.",
        readers.file_path,
    )
    doors: tuple[str, ...] = key("The doors that it opens.", Reader("list of doors", _doors))
    hmac: Hash = key("What the packet is authenticated with.", one_of(Hash), Hash.SHA256)
    mode: Mode = key("How the packet is encrypted.", one_of(Mode), Mode.CBC)
    insecure: bool = key(
        "Take a key without HMAC. Its packets can be tampered with, and each costs a decryption.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    sources: tuple[Network, ...] = key(
        "Who may be let in: the address that a packet names must be in one of these networks. "
        "Empty: anybody.",
        readers.networks,
        (),
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
    longest: float | None = key(
        "Its leases last at most this, whatever it asks for and the door allows.",
        duration(1, 30 * 86400),
        None,
    )
    expires: dt.datetime | None = key("From then on it opens nothing.", readers.instant, None)
    secret: Secret


def load(path: Path | str, configuration: Configuration) -> tuple[FwknopKey, ...]:
    """The keys of a gate.toml with the secrets they name; raises ConfigError.

    ``configuration`` is what ``doors`` made of the same file.
    """
    return _keys(Document.load(path), configuration)


def parse(content: str, configuration: Configuration, file: str = "gate.toml") -> tuple[FwknopKey, ...]:
    """The same from a text."""
    return _keys(Document(content, file), configuration)


def _keys(document: Document, configuration: Configuration) -> tuple[FwknopKey, ...]:
    tables = document.only(("keys",), document.table.get("keys", {}))
    if len(tables) > MAX_KEYS:
        raise document.wrong(("keys",), f"{len(tables)} keys", f"{MAX_KEYS} are possible")
    doors = {door.name: door for door in configuration.doors}
    found = tuple(_key(document, name, table, doors) for name, table in tables.items())
    owners: dict[Secret, str] = {}
    for each in found:
        if each.secret in owners:
            message = f"has the same secrets as key {owners[each.secret]}, so nobody could tell them apart"
            hint = "make one key of both, or a pair of its own"
            raise document.wrong(("keys", each.name, "fwknop"), message, hint)
        owners[each.secret] = each.name
    return found


def _key(document: Document, name: str, table: object, doors: dict[str, Door]) -> FwknopKey:
    keys: Keys = ("keys", name)
    if not isinstance(table, dict):
        hint = "a key is a table that has a name of its own, such as [keys.alice]"
        raise document.wrong(keys, "must be a table", hint)
    if not DOOR_NAME.fullmatch(name):
        hint = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"
        raise document.wrong(keys, f"{shown(name)} is no name for a key", hint)
    given = values(document, keys, table, FwknopKey)
    for door in given["doors"]:
        if door not in doors:
            hint = f"there are: {', '.join(list(doors)[:20])}"
            raise document.wrong((*keys, "doors"), f"there is no door {shown(door)}", hint)
        if not doors[door].ports:
            hint = f"give door {door} the port that its packets ask for"
            message = f"door {door} has no ports, so no packet can ask for it"
            raise document.wrong((*keys, "doors"), message, hint)
    insecure = given.get("insecure", False)
    try:
        secret = secrets.load(
            Path(given["fwknop"]), given.get("hmac", Hash.SHA256), given.get("mode", Mode.CBC)
        )
    except ConfigError as error:
        if error.file is None:
            raise document.wrong((*keys, "fwknop"), error.message, error.hint) from None
        raise
    if secret.hmac_key is None and not insecure:
        hint = f"make a new pair: knockgate key new --fwknop {name}; or say insecure = true"
        raise document.wrong(keys, f"{given['fwknop']} has no HMAC_KEY, so packets are not authentic", hint)
    return FwknopKey(name=name, secret=secret, **given)
