"""The keys of a configuration, in words; most configurations have none, and load no codec for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from knockgate.config.doors import Configuration
from knockgate.config.toml import spell
from knockgate.daemon.origin import Origin

if TYPE_CHECKING:
    from knockgate.config.keyfiles import FileState, KeyFiles
    from knockgate.config.keys import FwknopKey, Key, SshKeys

__all__ = [
    "Keyring",
    "crypto_in_words",
    "hours_in_words",
    "key_facts",
    "key_in_words",
    "keys_of",
    "ssh_key_facts",
    "ssh_keys_in_words",
]

#: Files of one key that are told one by one.
_TOLD = 5


class Keyring(NamedTuple):
    """The keys of a gate.toml."""

    fwknop: Sequence[FwknopKey] = ()
    ssh: Sequence[SshKeys] = ()


def keys_of(origin: Origin, configuration: Configuration) -> Keyring:
    """The keys; those of fwknop with their secrets. Raises ConfigError, also where we may not read those."""
    if origin.knockd or (configuration.fwknop is None and configuration.sealed is None):
        return Keyring()
    from knockgate.config.keys import load, load_ssh  # noqa: PLC0415 - see cli

    return Keyring(load(origin.path, configuration), load_ssh(origin.path, configuration))


def key_in_words(key: FwknopKey) -> str:
    """``key alice: opens ssh, web with fwknop's packet (hmac sha256, cbc), for 10m at most``."""
    parts = [f"key {key.name}: opens {', '.join(key.doors)} with fwknop's packet ({crypto_in_words(key)})"]
    if key.longest is not None:
        parts.append(f"for {spell(key.longest)} at most")
    if key.sources:
        parts.append(f"lets in {', '.join(map(str, key.sources))}")
    if key.observed:
        parts.append("lets in who sends it")
    if key.senders:
        parts.append(f"knocks from {', '.join(map(str, key.senders))}")
    if key.username:
        parts.append(f"as {key.username}")
    if key.leases is not None:
        parts.append(_leases(key.leases))
    if key.expires:
        parts.append(f"until {key.expires:%Y-%m-%d %H:%M:%SZ}")
    return ", ".join([*parts, *_when(key)])


def _leases(number: int) -> str:
    return "1 lease" if number == 1 else f"{number} leases"


def _when(key: Key) -> Iterator[str]:
    if key.hours:
        yield hours_in_words(key)
    if key.revoked:
        yield "REVOKED: it opens nothing"


def hours_in_words(key: Key) -> str:
    """``Mon-Fri 08:00-18:00 (Europe/Berlin)``; empty where it has no hours."""
    return f"{key.hours} ({key.hours_in or 'local time'})" if key.hours else ""


def crypto_in_words(key: FwknopKey) -> str:
    """``hmac sha256, cbc``."""
    hmac = f"hmac {key.hmac.value}" if key.secret.hmac_key is not None else "no hmac"
    return f"{hmac}, {key.mode.value}"


def key_facts(key: FwknopKey) -> dict[str, object]:
    """The same for programs, without the secrets; times in seconds."""
    return {
        "name": key.name,
        "kind": "fwknop",
        "doors": list(key.doors),
        "hmac": key.hmac.value if key.secret.hmac_key is not None else None,
        "mode": key.mode.value,
        "sources": [str(each) for each in key.sources],
        "senders": [str(each) for each in key.senders],
        "observed": key.observed,
        "username": key.username or None,
        "longest": key.longest,
        "leases": key.leases,
        **_when_facts(key),
        "in_words": key_in_words(key),
    }


def ssh_keys_in_words(key: SshKeys, files: KeyFiles) -> str:
    """``key people: opens ssh with a sealed packet, 3 keys in /etc/knockgate/people, for 10m at most``."""
    parts = [f"key {key.name}: opens {', '.join(key.doors)} with a sealed packet"]
    parts += _files_in_words([each for each in files.files if each.group == key.name])
    if key.longest is not None:
        parts.append(f"for {spell(key.longest)} at most")
    if key.sources:
        parts.append(f"lets in {', '.join(map(str, key.sources))}")
    parts.append(f"{_leases(key.leases)} each")
    if key.expires:
        parts.append(f"until {key.expires:%Y-%m-%d %H:%M:%SZ}")
    return ", ".join([*parts, *_when(key)])


def _files_in_words(files: Sequence[FileState]) -> Iterator[str]:
    if len(files) > _TOLD:
        yield f"{_number(sum(len(each.keys) for each in files))} in {len(files)} files"
        return
    for each in files:
        yield f"{_number(len(each.keys))} in {each.path}"


def _number(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys or 'no'} keys"


def ssh_key_facts(key: SshKeys, files: KeyFiles) -> dict[str, object]:
    """The same for programs; times in seconds."""
    found = [each for each in files.files if each.group == key.name]
    return {
        "name": key.name,
        "kind": "ssh",
        "doors": list(key.doors),
        "files": [
            {"path": each.path, "keys": len(each.keys), "usable": each.trouble is None} for each in found
        ],
        "users": list(key.users),
        "shared": key.shared,
        "sources": [str(each) for each in key.sources],
        "longest": key.longest,
        "leases": key.leases,
        "leases_in_all": key.leases_in_all,
        **_when_facts(key),
        "in_words": ssh_keys_in_words(key, files),
    }


def _when_facts(key: Key) -> dict[str, object]:
    """Under the names that gate.toml has for them."""
    return {
        "expires": key.expires.isoformat() if key.expires else None,
        "hours": list(key.hours.written) if key.hours else None,
        "hours_in": key.hours_in or None,
        "revoked": key.revoked,
    }
