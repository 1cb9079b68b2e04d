"""Advice on keys: what works, and is weaker than its admin will think."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from knockgate.config.doors import Configuration
from knockgate.config.keyfiles import FileState, KeyFiles
from knockgate.config.keys import ASKED_FOR, FwknopKey, Key, SshKeys
from knockgate.config.toml import spell
from knockgate.spa.fwknop import Mode
from knockgate.spa.sshkeys import Authorized, Flaw

__all__ = ["KeyAdvice", "advise_on_keys", "advise_on_ssh_keys"]

#: Bytes. What fwknop and we make by ourselves has 32; a passphrase of fewer letters can be guessed at home.
_SHORT = 16


class KeyAdvice(NamedTuple):
    """What is doubtful about a key, and what to do about it."""

    key: str
    message: str
    hint: str


def advise_on_keys(keys: Sequence[FwknopKey], now: float) -> tuple[KeyAdvice, ...]:
    """All advice on fwknop's, in the order of the keys; ``now`` in seconds since 1970."""
    return tuple(advice for key in keys for advice in _on_key(key, now))


def advise_on_ssh_keys(
    configuration: Configuration, keys: Sequence[SshKeys], files: KeyFiles, now: float
) -> tuple[KeyAdvice, ...]:
    """All advice on ssh keys and their files; ``files`` are those of ``keys``, and have been read."""
    return tuple(
        advice
        for key in keys
        for advice in (
            *_on_date(key, now),
            *_on_doors(key, configuration),
            *_on_tokens(key, configuration, files),
            *(each for file in files.files if file.group == key.name for each in _on_file(key, file, now)),
        )
    )


def _on_date(key: Key, now: float) -> Iterator[KeyAdvice]:
    if key.expires and key.expires.timestamp() <= now:
        message = f"has expired, on {key.expires:%Y-%m-%d at %H:%M:%SZ}: it opens nothing"
        yield KeyAdvice(key.name, message, "give it another date, or take it out")


def _on_key(key: FwknopKey, now: float) -> Iterator[KeyAdvice]:
    yield from _on_date(key, now)
    new = f"make a new pair: knockgate key new --fwknop {key.name}"
    if key.secret.hmac_key is None:
        message = "has no HMAC: packets can be tampered with, and any stranger's costs a decryption"
        yield KeyAdvice(key.name, message, new)
    elif key.insecure:
        yield KeyAdvice(key.name, "is marked insecure, and has an HMAC", "take insecure = true away")
    if key.mode is Mode.ECB:
        yield KeyAdvice(key.name, "in ECB mode equal blocks look equal", 'mode = "cbc", on both sides')
    if key.mode is Mode.LEGACY:
        message = "in legacy mode what a passphrase lacks to 16 letters is filled up with zeros"
        yield KeyAdvice(key.name, message, new)
    short = [
        name
        for name, value in (("KEY", key.secret.key), ("HMAC_KEY", key.secret.hmac_key))
        if value is not None and len(value) < _SHORT
    ]
    if short:
        message = f"{' and '.join(short)} of fewer than {_SHORT} bytes can be guessed from one packet"
        yield KeyAdvice(key.name, message, new)
    if key.observed:
        message = "takes packets that name no address: who intercepts one can send it on as their own"
        yield KeyAdvice(key.name, message, "observed = false; clients then name their address (-a, -R)")


# --- ssh ----------------------------------------------------------------------------------------------


def _on_doors(key: SshKeys, configuration: Configuration) -> Iterator[KeyAdvice]:
    for door in key.doors:
        if not ASKED_FOR.fullmatch(door):
            message = f"no sealed packet can ask for {door}: it has no room for such a name"
            hint = (
                "give the door a name of small letters, digits and -, at most 32, that begins with a letter"
            )
            yield KeyAdvice(key.name, message, hint)
    most = max(door.most for door in configuration.doors if door.name in key.doors)
    if key.longest is not None and key.longest > most:
        message = f"longest = {spell(key.longest)} changes nothing: its doors give {spell(most)} at most"
        yield KeyAdvice(key.name, message, "let the door say longest, too, or take it out here")


def _on_tokens(key: SshKeys, configuration: Configuration, files: KeyFiles) -> Iterator[KeyAdvice]:
    entries = [entry for file in files.files if file.group == key.name for entry in file.keys]
    if not entries or any(entry.key.kind.on_token for entry in entries):
        return
    for door in configuration.doors:
        if door.name in key.doors and door.sealed.touch:
            message = f"none of its keys is on a token, and {door.name} demands that one was touched"
            yield KeyAdvice(key.name, message, "make a key on a token: ssh-keygen -t ed25519-sk")


def _on_file(key: SshKeys, file: FileState, now: float) -> Iterator[KeyAdvice]:
    if file.trouble:
        yield KeyAdvice(key.name, str(file.trouble), file.trouble.hint or "")
        return
    if key.ours and file.path.endswith("/.ssh/authorized_keys"):
        message = f"{file.path} is what sshd reads, where options of ours lock out whoever has them"
        yield KeyAdvice(key.name, message, "shared = true: then they are told as mistakes")
    if file.flaws and not file.keys and all(each.flaw is Flaw.RSA for each in file.flaws):
        message = f"{file.path} has RSA keys alone, and with those nobody can knock"
        yield KeyAdvice(key.name, message, file.flaws[0].hint or "")
    else:
        for each in file.flaws:
            yield KeyAdvice(key.name, str(each), each.hint or "")
        if not file.keys:
            hint = f"add a line for each key, such as that of ~/.ssh/id_ed25519.pub, to {file.path}"
            yield KeyAdvice(key.name, f"{file.path} has no key, so it lets nobody in", hint)
    if file.authorities:
        lines = "1 line trusts" if file.authorities == 1 else f"{file.authorities} lines trust"
        message = f"{file.path}: {lines} certificates, and with those nobody can knock"
        yield KeyAdvice(key.name, message, "name the keys themselves")
    for entry in file.keys:
        for message, hint in _on_line(key, entry, now):
            yield KeyAdvice(key.name, f"{file.path}:{entry.line}: {message}", hint)


def _on_line(key: SshKeys, entry: Authorized, now: float) -> Iterator[tuple[str, str]]:
    options = entry.options
    if options.expires is not None and options.expires < now:
        yield "the line has expired: it opens nothing", "give it another expiry-time, or take it out"
    if options.doors is not None and (others := [each for each in options.doors if each not in key.doors]):
        message = f"the line names {', '.join(others)}, and key {key.name} does not open that"
        yield message, "options of a line only narrow what the key may do"
