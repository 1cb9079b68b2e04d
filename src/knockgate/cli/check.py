"""``knockgate check`` and ``rules``: what a configuration comes to, before anything is done."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from knockgate.cli.keyring import (
    Keyring,
    key_facts,
    key_in_words,
    keys_of,
    ssh_key_facts,
    ssh_keys_in_words,
)
from knockgate.cli.page import Page
from knockgate.cli.phrases import door_facts, door_in_words
from knockgate.cli.terminal import advise, say
from knockgate.cli.words import configuration
from knockgate.config.advice import Advice, Stopper
from knockgate.config.doors import DEFAULT_PATH, Configuration
from knockgate.config.unshut import network_text, networks_in_words
from knockgate.daemon.origin import Origin
from knockgate.errors import KnockgateError, Unavailable

if TYPE_CHECKING:
    from knockgate.config.keyfiles import KeyFiles

__all__ = ["check", "rules"]


def _complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The names in the file; what they hold is not looked at."""
    from knockgate.config.toml import Document  # noqa: PLC0415 - see cli

    path = ctx.params.get("file") or ctx.params.get("config") or str(DEFAULT_PATH)
    with contextlib.suppress(KnockgateError):
        keys = Document.load(path).table.get("keys", {})
        return [name for name in keys if name.startswith(incomplete)] if isinstance(keys, dict) else []
    return []


@click.command(cls=Page)
@configuration(file=True)
@click.option(
    "--explain",
    metavar="KEY",
    shell_complete=_complete_key,
    help="Tell what somebody with that key can do, and what is against it now.",
)
@click.option("--strict", is_flag=True, help="Take warnings for a no.")
@click.option("--json", "as_json", is_flag=True, help="Print doors, keys and warnings as one JSON object.")
def check(origin: Origin, *, explain: str | None, strict: bool, as_json: bool) -> int:
    """Say what a configuration means, and what is doubtful about it.

    Changes nothing. Besides the file it looks at this host: the files of ssh keys, line by line; the gate's
    own keys, cards, marks and devices (as root); programs that listen where knocks arrive; what the units may
    not read or write, and rules of others that lead around a door (as root); and a copy of the table that
    will not load at boot.

    With --explain it tells of one key instead: through which doors it leads, when, for whom and for how
    long, what its packet must be like, and what stands against it now: that it is revoked, has expired, is
    out of its hours, that its file cannot be used, or that there is no card to knock with. KEY is the NAME
    of a [keys.NAME], or the fingerprint (its first 8 letters will do) or the comment of an ssh key; of
    that, each line on which it stands is told, with what the options there take away. The first of them
    that lets in a knock counts.

    Exit status: 0 the configuration can be used; 1 it is said that no gate starts, or with --strict, and
    there was a warning, or with --explain, and that key opens nothing now; 2 it cannot be used, or read,
    or there is no such key.

    For example:

        knockgate check
        knockgate check --explain people
        knockgate check --explain SHA256:WYVlk+8XVFuk
        knockgate check --strict gate.toml && knockgate up gate.toml
    """
    found = origin.load()
    _compile(found)
    known = keys_of(origin, found)
    files = _files_of(known)
    if explain is not None:
        from knockgate.cli.keypolicy import explain_key  # noqa: PLC0415 - see cli

        return explain_key(explain, found, known, files, as_json=as_json)
    warnings = [*_warnings(found, origin), *_on_keys(found, known, files)]
    sealed = {door for key in known.ssh for door in key.doors}
    if as_json:
        doubts = [
            {"door": each.door or None, "message": each.message, "hint": each.hint} for each in warnings
        ]
        facts = {
            "file": found.file,
            "allow": [network_text(network) for network in found.gate.allow],
            "shadow": found.gate.shadow,
            "doors": [door_facts(door, sealed=door.name in sealed) for door in found.doors],
            "keys": [
                *map(key_facts, known.fwknop),
                *(ssh_key_facts(key, files) for key in known.ssh if files),
            ],
            "warnings": doubts,
        }
        click.echo(json.dumps(facts))
    else:
        lines = [door_in_words(door, sealed=door.name in sealed) for door in found.doors]
        if found.gate.allow:
            lines.append(f"all doors: always open for {networks_in_words(found.gate.allow)}")
        lines += map(key_in_words, known.fwknop)
        lines += [ssh_keys_in_words(key, files) for key in known.ssh if files]
        click.echo("\n".join(lines))
        for each in warnings:
            say(f"warning: {each.door}: {each.message}" if each.door else f"warning: {each.message}")
            advise(each.hint)
    stopped = any(isinstance(each, Stopper) for each in warnings)
    return 1 if stopped or (strict and warnings) else 0


@click.command(cls=Page)
@configuration(file=True)
def rules(origin: Origin) -> int:
    """Print the rules that a configuration comes to, for `nft -f`.

    Changes nothing, and needs no rights. The text is what `knockgate up` loads. It loads where there is
    no Python, again and again: live leases stay. Over the table of `knockgate up` it does not load,
    since that one has an owner; `up` changes it. Sequences with runs_in = "daemon" are not in it.

    Exit status: 0; 2 the configuration cannot be used, or read.

    For example:

        knockgate rules | ssh root@router nft -f -
    """
    click.echo(_compile(origin.load()), nl=False)
    return 0


def _files_of(known: Keyring) -> KeyFiles | None:
    """The files of ssh keys as they are now; None where no key names any."""
    if not known.ssh:
        return None
    from knockgate.config.keyfiles import KeyFiles  # noqa: PLC0415 - see cli

    files = KeyFiles(known.ssh)
    files.refresh()  # what it tells, the advice tells
    return files


def _on_keys(found: Configuration, known: Keyring, files: KeyFiles | None) -> Iterator[Advice]:
    if not any(known):
        return
    from knockgate.config.keyadvice import advise_on_keys, advise_on_ssh_keys  # noqa: PLC0415 - see cli

    # A date that an admin wrote, against the clock that they look at.
    now = time.clock_gettime(time.CLOCK_REALTIME)
    advice = [*advise_on_keys(known.fwknop, now)]
    advice += advise_on_ssh_keys(found, known.ssh, files, now) if files else ()
    for each in advice:
        yield Advice(f"key {each.key}", each.message, each.hint)
    if known.ssh:
        from knockgate.cli.own_files import on_own_files  # noqa: PLC0415 - see cli

        yield from on_own_files(found, now)


def _compile(found: Configuration) -> str:
    from knockgate.firewall.ruleset import compile_ruleset  # noqa: PLC0415 - see cli

    return compile_ruleset(found)


def _warnings(found: Configuration, origin: Origin) -> Iterator[Advice]:
    from knockgate.config.advice import advise as on_configuration  # noqa: PLC0415 - see cli
    from knockgate.doctor.surroundings import look_around, on_redirects  # noqa: PLC0415 - see cli
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    if origin.knockd:
        from knockgate.config import knockd  # noqa: PLC0415 - see cli

        for note in knockd.examine(origin.path, origin.interface)[1]:
            yield Advice("", str(note), note.hint or "")
    yield from on_configuration(found)
    yield from look_around(found)
    try:
        with Nftables(own=False) as firewall:
            redirects, unread = firewall.redirects()
    except Unavailable as error:
        say(f"the rules of others were not looked at: {error}")
        return
    yield from on_redirects(found, redirects)
    yield from (Advice("", each, "look whether it leads past a door") for each in unread)
