"""``knockgate check --explain KEY``: what somebody with that key can do, and what stands against it now."""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.keyrights import Rights, door_in_words, fingerprint_of, of_fwknop, of_line, of_ssh
from knockgate.cli.keyring import Keyring
from knockgate.cli.terminal import plain
from knockgate.clock import is_synchronised
from knockgate.config import gatekeys
from knockgate.config.doors import Configuration
from knockgate.config.readers import Reliance
from knockgate.config.toml import shown
from knockgate.daemon.ownfiles import GATE_KEYS
from knockgate.errors import ConfigError

if TYPE_CHECKING:
    from knockgate.config.keyfiles import KeyFiles

__all__ = ["explain_key"]

#: Letters of a fingerprint that are enough to ask for it.
_ENOUGH = 8


def explain_key(
    word: str, found: Configuration, known: Keyring, files: KeyFiles | None, *, as_json: bool
) -> int:
    """Print it; 1 where that key opens nothing now. Raises ConfigError where there is no such key."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    rights = [_completed(each, found, known, now) for each in _named(word, found, known, files, now)]
    if not rights:
        raise _nobody(word, found, known)
    if as_json:
        click.echo(json.dumps({"key": word, "found": [_facts(each) for each in rights]}))
    else:
        for number, each in enumerate(rights):
            click.echo("\n" * bool(number) + "\n".join(map(plain, _lines(each))))
    return 0 if any(each.opens for each in rights) else 1


# --- which --------------------------------------------------------------------------------------------


def _named(
    word: str, found: Configuration, known: Keyring, files: KeyFiles | None, now: float
) -> Iterator[Rights]:
    """The key of gate.toml that is called so; else all lines whose key, or comment, is that."""
    states = files.files if files else ()
    for fwknop in known.fwknop:
        if fwknop.name == word:
            yield of_fwknop(found, fwknop, now)
            return
    for group in known.ssh:
        if group.name == word:
            yield of_ssh(found, group, [each for each in states if each.group == word], now)
            return
    groups = {each.name: each for each in known.ssh}
    wanted = word.removeprefix("SHA256:")
    for state in states:
        for entry in state.keys:
            letters = fingerprint_of(entry).removeprefix("SHA256:")
            if (word and entry.comment == word) or (len(wanted) >= _ENOUGH and letters.startswith(wanted)):
                yield of_line(found, groups[state.group], state.path, entry, now)


def _nobody(word: str, found: Configuration, known: Keyring) -> ConfigError:
    names = [*(each.name for each in known.fwknop), *(each.name for each in known.ssh)]
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "it is a NAME of [keys.NAME]"
    if known.ssh and not near:
        hint += (
            ", or an ssh key's fingerprint or comment; `knockgate check` tells of lines that are not taken"
        )
    return ConfigError(f"there is no key {shown(word)}", file=found.file or None, hint=hint)


# --- what the rest of the gate adds to it -------------------------------------------------------------

_TIMELESS = "a gate that is not sure of the time opens nothing for a key that is good at some times only"


def _completed(rights: Rights, found: Configuration, known: Keyring, now: float) -> Rights:
    against, doubts = list(rights.against), list(rights.doubts)
    if all(each.against for each in rights.doors):
        against.append("there is no door that it could open")
    if rights.name in [each.name for each in known.ssh]:
        no_card, unknown = _without_card(found, now)
        against += no_card
        doubts += unknown
    clock = found.gate.clock
    if rights.when and clock is Reliance.UNKNOWN:
        against.append(f'clock = "unknown" in [gate], and {_TIMELESS}')
    elif rights.when and clock is Reliance.AUTO and not is_synchronised():
        doubts.append(f"nothing vouches for this machine's clock, and {_TIMELESS}")
    names = [each.door for each in rights.doors]
    shadowy = [door.name for door in found.doors if door.name in names and found.in_shadow(door)]
    doubts += [f"{each} is in shadow: everybody comes in there, also without a knock" for each in shadowy]
    return replace(rights, against=tuple(against), doubts=tuple(doubts))


def _without_card(found: Configuration, now: float) -> tuple[list[str], list[str]]:
    """Why nobody has a card to knock with, if that is so; and why that is not known."""
    path = Path(found.gate.state_directory) / GATE_KEYS
    try:
        path.lstat()
        keys = gatekeys.load(path)
    except (FileNotFoundError, NotADirectoryError):
        return [f"{path} is not there, so there is no card to knock with (knockgate init)"], []
    except PermissionError as error:
        return [], [f"whether a card is good was not looked at: {path}: {error.strerror}"]
    except ConfigError as error:
        if os.access(path, os.R_OK):
            return [f"{error}; so no gate starts"], []
        return [], [f"whether a card is good was not looked at: {error}"]
    return ([] if keys.names(now) else ["no card is good any more (knockgate card new NAME)"]), []


# --- how it is told -----------------------------------------------------------------------------------


def _lines(rights: Rights) -> Iterator[str]:
    yield f"{rights.title}:"
    yield from _listed("who", rights.who)
    yield from _listed("packet", rights.packet)
    yield from _listed("opens", [door_in_words(each) for each in rights.doors])
    yield from _listed("when", rights.when or ("always",))
    yield from _listed("lets in", rights.lets_in)
    yield from _listed("leases", [rights.leases])
    yield from _listed(
        "now", [f"OPENS NOTHING: {each}" for each in rights.against] or ["nothing is against it"]
    )
    yield from _listed("but", rights.doubts)


def _listed(label: str, items: Sequence[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f"  {'' if number else label:<8}{item}"


def _facts(rights: Rights) -> dict[str, object]:
    """For programs; times in seconds."""
    return {
        "name": rights.name,
        "line": rights.place,
        "fingerprint": rights.fingerprint,
        "opens_now": rights.opens,
        "who": list(rights.who),
        "packet": list(rights.packet),
        "doors": [
            {
                "door": each.door,
                "ports": list(each.ports),
                "lease": each.lease,
                "longest": each.most,
                "demands": list(each.demands),
                "against": each.against or None,
            }
            for each in rights.doors
        ],
        "when": list(rights.when),
        "lets_in": list(rights.lets_in),
        "leases": rights.leases,
        "against": list(rights.against),
        "doubts": list(rights.doubts),
        "in_words": "\n".join(_lines(rights)),
    }
