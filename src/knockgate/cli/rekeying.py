"""``knockgate rekey`` and ``replay reset``: new keys for the gate, new marks for its keys.

Marks belong to keys by their incarnation, and a gate starts only with both of one. The new marks lie in
their place before the new keys do: who is killed in between leaves a gate that does not start, and never one
that has forgotten what it has taken.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.cardfiles import card_text, fingerprint_of, handed_out, how_to_trust
from knockgate.cli.forget_time import forget_time
from knockgate.cli.gatefiles import (
    GateFiles,
    as_json_option,
    config_option,
    confirmed,
    doubt_the_clock,
    now,
)
from knockgate.cli.page import Page, PageGroup
from knockgate.cli.terminal import advise, complain, say, tell
from knockgate.cli.words import FILE, seconds
from knockgate.config.toml import duration
from knockgate.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from knockgate.config.gatekeys import GateKeys

__all__ = ["FIRST_CARD", "rekey", "replay"]

#: What the card of a new gate is called.
FIRST_CARD = "everybody"
_DAY = 86400
_OVERLAP = 30.0 * _DAY


@click.command(cls=Page)
@click.option(
    "--overlap",
    metavar="TIME",
    type=seconds(duration(60, 3650 * _DAY)),
    help="How long the old key is good as well (default: 30d).",
)
@click.option("--now", "at_once", is_flag=True, help="End the old keys at once; also where they are lost.")
@click.option("-o", "--output", metavar="DIR", type=FILE, default=".", help="Where the new cards go.")
@click.option("--yes", is_flag=True, help="With --now: it is meant, do not ask.")
@as_json_option
@config_option
def rekey(
    *, overlap: float | None, at_once: bool, output: str, yes: bool, as_json: bool, config: str | None
) -> int:
    """Give the gate a new key, and each card a successor.

    Who steals a gate's key can read the knocks that somebody has recorded, and forge none; a new key from
    time to time limits what can be read. The old key is good until the end of the overlap, beside the new
    one, and all clients need their new cards by then. The cards go into files NAME.KEY.card in DIR, of mode
    0600; `knockgate card show NAME` prints them as well. Devices have to be enrolled again: to the new key
    they are others.

    With --now there is no overlap: new keys and new marks, and nobody can knock who has not a new card. That
    is for a key that was stolen, and for keys or marks that were lost, damaged, or brought back from a
    backup. The gate must not run, and it is asked whether it is meant.

    A gate that runs is asked to read its files again, gate.toml among them. Needs root.

    Exit status: 0 it is done; 1 somebody did not say yes; 2 it could not be done, or a gate that runs has
    not taken it up; then the message says which.

    For example:

        knockgate rekey -o /root/cards
        knockgate rekey --now -o /root/cards
    """
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    files, folder = GateFiles.of(config), Path(output).absolute()
    if at_once and overlap is not None:
        raise click.UsageError("with --now there is no --overlap", click.get_current_context())
    if at_once:
        return _anew(files, folder, yes=yes, as_json=as_json)
    with files.changing():
        doubt_the_clock()
        keys = _followed(files.load(), dt.timedelta(seconds=overlap or _OVERLAP))
        cards = _cards(keys, folder)
        with handed_out(cards), gatekeys.replacing(files.keys, keys):
            pass
    end = keys.keys[1].ends if len(keys.keys) > 1 else None
    until = f"until {end:%Y-%m-%d %H:%M} UTC" if end else "no longer"
    good = f"the old cards are good {until}; each client needs its new one by then"
    _tell_of(files, keys, cards, good, end=end, as_json=as_json)
    _tell_of_devices(files)
    files.take_up("there is a new key")
    return 0


def _followed(keys: GateKeys, overlap: dt.timedelta) -> GateKeys:
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    at = now()
    secrets = {name: os.urandom(32) for name in keys.names(at.timestamp())}
    seeds = {"xwing": os.urandom(32), "x25519": os.urandom(32)}
    return gatekeys.rekeyed(keys, **seeds, secrets=secrets, now=at, overlap=overlap)


def _anew(files: GateFiles, folder: Path, *, yes: bool, as_json: bool) -> int:
    """New keys and new marks, whatever there was."""
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import alone  # noqa: PLC0415 - see cli

    with files.changing(), alone(files.found.gate.run_directory):
        names = _names(files)
        many = f"{len(names)} cards are" if len(names) > 1 else "1 card is"
        if not confirmed(f"all keys end at once, and {many} replaced: {', '.join(names)}", yes=yes):
            return 1
        secrets = {name: os.urandom(32) for name in names}
        seeds = {"xwing": os.urandom(32), "x25519": os.urandom(32)}
        keys = gatekeys.fresh(os.urandom(16), **seeds, secrets=secrets, now=now())
        cards = _cards(keys, folder)
        with handed_out(cards):
            # Nothing that was recorded is for these keys, so nothing has to be shut out.
            _exchange(files, keys, low=0)
    good = "no old card is good any more; each client needs its new one before it can knock"
    _tell_of(files, keys, cards, good, end=None, as_json=as_json)
    _tell_of_devices(files)
    return 0


def _names(files: GateFiles) -> list[str]:
    """What the cards are called that there are; one where that cannot be read."""
    try:
        return files.load().names(now().timestamp()) or [FIRST_CARD]
    except ConfigError as error:
        if os.geteuid():
            raise
        say(f"{error}; so there will be one card, {FIRST_CARD}")
        return [FIRST_CARD]


def _cards(keys: GateKeys, folder: Path) -> dict[Path, str]:
    """Those of the newest key, by the files they go into."""
    new = keys.keys[0]
    return {folder / f"{card.name}.{new.name}.card": card_text(new, card) for card in new.cards}


def _tell_of(
    files: GateFiles,
    keys: GateKeys,
    cards: dict[Path, str],
    good: str,
    *,
    end: dt.datetime | None,
    as_json: bool,
) -> None:
    """``good`` is until when the old cards are, in words; ``end`` the same, None: they are not any more."""
    if as_json:
        made = [
            {"name": card.name, "file": str(file)}
            for card, file in zip(keys.keys[0].cards, cards, strict=True)
        ]
        facts = {"key": keys.keys[0].name, "gate": fingerprint_of(keys.keys[0]), "cards": made}
        tell(json.dumps(facts | {"old_cards_end": end.isoformat() if end else None}))
        return
    tell(f"the gate has a new key: {fingerprint_of(keys.keys[0])}")
    for file in cards:
        tell(f"made {file}")
    if keys.keys[0].cards:
        tell(how_to_trust(keys.keys[0].cards[0].name, files.found, again=True))
    tell(good)


def _tell_of_devices(files: GateFiles) -> None:
    from knockgate.config import devices  # noqa: PLC0415 - see cli

    try:
        said = devices.load(files.devices)
    except ConfigError as error:
        complain(error)
        return
    if said.known or said.barred:
        say("to the new key all devices are others: what was said of them says nothing of it")
        advise("knockgate device list, once they have knocked; then enrol them, and bar them, again")


# --- marks --------------------------------------------------------------------------------------------


@click.group("replay", cls=PageGroup, no_args_is_help=False)
def replay() -> None:
    """What the gate remembers of sealed knocks, so that none opens twice."""


replay.add_command(forget_time)


@replay.command("reset", cls=Page)
@click.option(
    "--clock-right", "clock", flag_value="right", help="This host's clock is right; do not doubt it."
)
@click.option("--clock-unknown", "clock", flag_value="unknown", help="Nobody knows what time it is.")
@click.option("--yes", is_flag=True, help="It is meant, do not ask.")
@as_json_option
@config_option
def reset(*, clock: str | None, yes: bool, as_json: bool, config: str | None) -> int:
    """Begin with new marks for the keys that there are, where the old ones are lost.

    A gate remembers of each device the newest knock that it has taken. It does not start without these
    marks, and not with those of other keys, because then every knock that somebody has recorded could open
    once more. This makes new ones. Keys and cards stay as they are, and no client has to do anything.

    What it costs: knocks that are dated until now are refused from now on, recorded or not. One that was
    dated ahead of its time, by a client whose clock was wrong, could be taken once more. A client whose
    clock is behind waits until it says what ours says now. All this goes by this host's clock, so that must
    be right; where nothing vouches for it, say so with --clock-right, or with --clock-unknown. With that
    nothing is shut out: whoever has recorded knocks can open with each of them once, unless the gate
    is sure of the time and they are older than a minute.

    Where that is too much, `knockgate rekey --now` makes new keys too: no old knock is any good then, and
    everybody needs a new card.

    Devices that were enrolled or barred stay so, if the old file can be read; else they are others from now
    on, and it is said. The gate must not run. Needs root.

    Exit status: 0 it is done; 1 somebody did not say yes; 2 it could not be done. Where it was broken off,
    the gate may not start; then do it once more.

    For example:

        knockgate replay reset
        knockgate replay reset --clock-unknown --yes
    """
    from knockgate.daemon.run import alone  # noqa: PLC0415 - see cli

    files = GateFiles.of(config)
    with files.changing(), alone(files.found.gate.run_directory):
        keys = dataclasses.replace(files.load(), incarnation=os.urandom(16))
        if not confirmed(_what_it_costs(clock, asks=not yes), yes=yes):
            return 1
        low = 0 if clock == "unknown" else time.clock_gettime_ns(time.CLOCK_REALTIME)
        same = _exchange(files, keys, low=low)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(low / 10**9))
    if as_json:
        until = f"{when.replace(' ', 'T')}+00:00" if low else None
        tell(json.dumps({"marks": str(files.marks), "refused_until": until, "devices_kept": same}))
    elif low:
        tell(f"{files.marks} is new; knocks dated until {when} UTC are refused")
    else:
        tell(f"{files.marks} is new; nothing is shut out")
    if not same:
        say("the old marks cannot be read: to the new ones all devices are others")
        advise("knockgate device list, once they have knocked; then enrol them, and bar them, again")
    return 0


def _exchange(files: GateFiles, keys: GateKeys, *, low: int) -> bool:
    """New marks, then these keys, in the place of the old; whether devices go on being called as they were.

    Raises Unavailable. That leaves all as it was, or a gate that does not start, and then it says so.
    """
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    before = _which(files.marks)
    try:
        with gatekeys.replacing(files.keys, keys):
            return SqliteMarks.reset(files.marks, keys.incarnation, low=low)
    except Unavailable as error:
        if _which(files.marks) == before:
            raise
        raise Unavailable(f"{error}; the gate does not start as it is now", hint="do it once more") from None


def _which(path: Path) -> int | None:
    """What tells one file from another one of its name."""
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _what_it_costs(clock: str | None, *, asks: bool) -> str:
    """Raises Unavailable where it would go by a clock that nobody vouches for, and nobody is asked."""
    from knockgate.clock import is_synchronised  # noqa: PLC0415 - see cli

    if clock == "unknown":
        return "every knock that somebody has recorded could open once more"
    says = f"by this host's clock it is {now():%Y-%m-%d %H:%M:%S} UTC"
    if clock is None and not is_synchronised():
        if not asks:
            hint = "--clock-right if it is, --clock-unknown if nobody knows"
            raise Unavailable(f"{says}, and nothing vouches for that", hint=hint)
        says += ", AND NOTHING VOUCHES FOR THAT"
    return f"{says}; all that is dated until then is refused from now on"
