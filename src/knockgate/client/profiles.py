"""profiles.toml: hosts to be knocked at by name, in the home of the one who knocks.

    [profiles.home]
    host = "home.example"
    steps = ["7000", "udp/8000", "tcp/9000"]
    wait = "tcp/22"

    [profiles.office]
    host = "office.example"
    fwknop = "~/.config/knockgate/office.secrets"
    access = ["tcp/22"]

    [profiles.cabin]
    host = "cabin.example"
    card = "~/.config/knockgate/cards/cabin"
    doors = ["ssh"]

With ``steps`` the knock is a sequence, with ``fwknop`` a packet of fwknop's, with ``card`` a sealed one of
our own. A sequence is a secret of sorts, so the file is best readable by its owner alone. Nothing here
writes it; ``trusting`` does.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from knockgate.client import home, rights, spellings
from knockgate.client.allow import Allow, SealedAllow, Whoever, allowed, is_plain, sealed_allowed
from knockgate.client.send import DELAY, Family
from knockgate.config.fwknop_words import user_name
from knockgate.config.toml import Document, Keys, fields_of, flag, key, read, text
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode

__all__ = [
    "SEALED_PORT",
    "SPA_PORT",
    "OnePacketProfile",
    "PacketProfile",
    "Profile",
    "SealedProfile",
    "SequenceProfile",
    "default_path",
    "load",
    "parse",
]

#: Where fwknopd and our gate listen for packets, unless their configuration says otherwise.
SPA_PORT = Port(Protocol.UDP, 62201)
#: The same for sealed knocks.
SEALED_PORT = Port(Protocol.UDP, 62202)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``[profiles.NAME]``: what `knockgate knock NAME` does. Options of the command come before it."""

    host: str = key("A name or an address. It is resolved once for each knock.", spellings.host)
    wait: Port | None = key("Then wait until this TCP port answers.", spellings.door, None)
    timeout: float = key("How long to wait for it.", spellings.wait_time, 5.0)
    family: Family = key("4 or 6: use this address family.", spellings.family, socket.AF_UNSPEC)
    source: str | None = key("Knock from this address of the machine.", text, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceProfile(Profile):
    """The knock is a sequence."""

    steps: tuple[Port, ...] = key('The knocks, such as `["7000", "udp/8000"]`.', spellings.steps)
    delay: float = key("From one step to the next.", spellings.delay_time, DELAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePacketProfile(Profile):
    """The knock is one packet, which says whom to let in."""

    allow: SealedAllow = key(
        "Whom to let in: an address; the /64 of an IPv6 address; `route`, this machine's address on the way "
        "to the host; `observed`, whoever sends the packet; or a URL that answers with the address.",
        sealed_allowed,
        Whoever.ROUTE,
    )
    resolve_http: bool = key(
        "Let that URL be one without TLS, whose answer anybody on the way can change.",
        flag,
        False,  # noqa: FBT003 - a default
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketProfile(OnePacketProfile):
    """The knock is one packet of fwknop's."""

    fwknop: Path | None = key(
        "The file with the secrets, of mode 0600, as the gate's `[keys.NAME]` names it. "
        'Empty (`""`): they are in the environment, or asked for.',
        spellings.secrets_path_or_none,
    )
    access: tuple[Port, ...] = key('The ports to be opened, such as `["tcp/22"]`.', spellings.ports)
    allow: Allow = key(
        "Whom to let in: an address; `route`, this machine's address on the way to the host; `observed`, "
        "whoever sends the packet; or a URL that answers with the address.",
        allowed,
        Whoever.ROUTE,
    )
    port: Port = key("Where the packet is sent.", spellings.spa_port, SPA_PORT)
    lease: float | None = key("Ask for this long; without it the host decides.", spellings.lease_time, None)
    hmac: Hash = key(
        "What the packet is authenticated with, as the host expects it.", spellings.hash_name, Hash.SHA256
    )
    digest: Hash = key(
        "The checksum within the packet. The host takes any.", spellings.hash_name, Hash.SHA256
    )
    mode: Mode = key("How the packet is encrypted, as the host expects it.", spellings.mode_name, Mode.CBC)
    username: str = key("The user name in the packet; empty: the one logged in as.", user_name, "")
    offset: float = key("How far the host's clock is ahead of ours.", spellings.time_offset, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedProfile(OnePacketProfile):
    """The knock is one packet of our own, sealed to the gate and signed with an SSH key."""

    card: Path = key("The gate's card, as `knockgate trust` keeps it.", spellings.card_path)
    doors: tuple[str, ...] = key('The doors to be opened, such as `["ssh"]`.', spellings.sealed_doors)
    port: Port = key("Where the packet is sent.", spellings.spa_port, SEALED_PORT)
    lease: float | None = key("Ask for this long; without it the door decides.", spellings.sealed_lease, None)
    identity: Path | None = key("Sign with this SSH key and no other one.", spellings.identity_path, None)
    ssh_host: str | None = key(
        "The name that ssh is given for that host, if it is another one: keys are looked for as ssh does "
        "for it.",
        spellings.host,
        None,
    )
    small: bool = key(
        "Send 245 bytes instead of 1,333, for paths that carry no more; they are not sealed against quantum "
        "computers.",
        flag,
        False,  # noqa: FBT003 - a default
    )


#: Which kind a table is, by the one key that tells.
_KINDS: dict[str, type[Profile]] = {"steps": SequenceProfile, "fwknop": PacketProfile, "card": SealedProfile}


def default_path() -> Path:
    """``~/.config/knockgate/profiles.toml``, or where XDG_CONFIG_HOME says. ConfigError: there is no home."""
    return home.below("XDG_CONFIG_HOME", ".config") / "profiles.toml"


def load(path: Path) -> dict[str, Profile]:
    """The profiles by name, none where there is no file; raises ConfigError with file, line, key and hint."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError:
        pass  # reading it says what is wrong
    rights.check(path)
    return _profiles(Document.load(path))


def parse(content: str, file: str) -> dict[str, Profile]:
    """The same of a text; ``file`` is for the messages."""
    return _profiles(Document(content, file))


def _profiles(document: Document) -> dict[str, Profile]:
    tables = document.only((), document.table, ["profiles"]).get("profiles", {})
    if not isinstance(tables, dict):
        raise document.wrong(("profiles",), "must be a table", "begin with [profiles.home]")
    return {name: _profile(document, ("profiles", name), table) for name, table in tables.items()}


def _profile(document: Document, keys: Keys, table: object) -> Profile:
    given = document.only(keys, table)
    marks = [mark for mark in _KINDS if mark in given]
    if len(marks) > 1:
        other = "there are steps too" if marks[0] == "steps" else f"there is {marks[0]} too"
        raise document.wrong((*keys, marks[1]), other, "a knock is one or the other")
    if not marks:
        known = {field.name for kind in _KINDS.values() for field in fields_of(kind)}
        document.only(keys, given, sorted(known))
        hint = (
            'a sequence: steps = ["tcp/7000", "udp/8000"]; a packet: fwknop = "~/home.secrets"; a sealed '
            "knock: `knockgate trust` writes the profile"
        )
        raise document.wrong(keys, "there is nothing to knock with", hint)
    profile = read(document, keys, given, _KINDS[marks[0]])
    if isinstance(profile, OnePacketProfile) and is_plain(profile.allow) and not profile.resolve_http:
        hint = "use https, or say resolve_http = true: anybody on the way can change who is let in"
        raise document.wrong((*keys, "allow"), "is a URL without TLS", hint)
    return profile
