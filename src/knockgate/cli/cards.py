"""``knockgate card``: the cards of this gate, which a client needs in order to knock with a sealed packet."""

from __future__ import annotations

import datetime as dt
import json
import os
from typing import TYPE_CHECKING

import click

from knockgate.cli.cardfiles import (
    card_text,
    drawing_cards,
    file_for,
    fingerprint_of,
    handed_out,
    how_to_trust,
)
from knockgate.cli.gatefiles import (
    DATE,
    GateFiles,
    as_json_option,
    card_argument,
    config_option,
    doubt_the_clock,
    newest,
    now,
)
from knockgate.cli.page import Page, PageGroup
from knockgate.cli.phrases import columns
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import FILE

if TYPE_CHECKING:
    from knockgate.config.gatekeys import CardEntry, KeyEntry

__all__ = ["card"]


@click.group("card", cls=PageGroup, no_args_is_help=False)
def card() -> None:
    """Make, show and revoke the cards that clients need in order to knock.

    A card is one line of text: the gate's public keys, and a secret that makes a packet one of this card's.
    Whoever has a card can make the gate look at packets, and cannot come in: who may, the SSH keys decide.
    So one card can be for many people; make several where you may want to take it back from some of them.
    """


@card.command("new", cls=Page)
@click.argument("name", metavar="NAME")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Where to (default: NAME.card; - prints it).")
@click.option("--ends", metavar="DATE", type=DATE, help="From then on knocks with it are refused.")
@click.option("--qr", is_flag=True, help="Show it as a code as well.")
@as_json_option
@config_option
def new(
    name: str, *, output: str | None, ends: dt.datetime | None, qr: bool, as_json: bool, config: str | None
) -> int:
    """Make one more card.

    Writes a file of mode 0600 for the client: what `knockgate trust` takes. No file is ever overwritten. A
    gate that runs is asked to read its files again, gate.toml among them. DATE is such as 2027-05-03, which
    is the day's last second, or 2027-05-03T18:00:00Z; in UTC, by the gate's clock.

    Needs root. A code on a screen is as good as the file, also to whoever looks over the shoulder.

    Exit status: 0; 2 there is one of that name already, or it cannot be written.

    For example:

        knockgate card new phones --ends 2027-06-30
        knockgate card new guests -o - --config /etc/knockgate/gate.toml | ssh jo@laptop tee guests.card
    """
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    files = GateFiles.of(config)
    draw = drawing_cards() if qr else None
    file = file_for(output, f"{name}.card")
    if ends:
        doubt_the_clock()
    with files.changing():
        keys = gatekeys.with_card(files.load(), name, os.urandom(32), now(), ends)
        one, made = newest(keys, name)
        text = card_text(one, made)
        with handed_out({file: text} if file else {}), gatekeys.replacing(files.keys, keys):
            pass
    if as_json:
        facts = {"name": name, "file": file and str(file), "card": None if file else text.strip()}
        end = ends.isoformat() if ends else None
        tell(json.dumps({**facts, "gate": fingerprint_of(one), "ends": end}))
    elif file:
        tell(f"made {file}, a card of the gate {fingerprint_of(one)}")
        tell(how_to_trust(name, files.found))
    else:
        tell(text.strip())
    if draw:
        tell(draw(text.strip()))
    files.take_up(f"the card {name} is made")
    return 0


@card.command("list", cls=Page)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
def list_(*, as_json: bool, config: str | None) -> int:
    """List the cards, the newest key's first.

    Prints no secret, and changes nothing. GATE is what the gate is called for people who compare: the same
    on all cards of a key. Where two keys are live there are two, and a card of the same name for each. Needs
    root.

    Exit status: 0; 1 there is no card that is good, so nobody can knock; 2 the keys cannot be read.

    For example:

        knockgate card list
        knockgate card list --json | jq -r '.cards[].name'
    """
    files = GateFiles.of(config)
    keys = files.load()
    pairs = list(keys.live(None))
    live = {(one.name, each.name) for one, each in keys.live(now().timestamp())}
    names = {one.name: fingerprint_of(one) for one in keys.keys}
    if as_json:
        cards = [
            {
                "name": each.name,
                "key": one.name,
                "gate": names[one.name],
                "made": each.made.isoformat(),
                "ends": end.isoformat() if (end := _end(one, each)) else None,
                "live": (one.name, each.name) in live,
            }
            for one, each in pairs
        ]
        click.echo(json.dumps({"file": str(files.keys), "cards": cards}))
        return 0 if live else 1
    rows = [("CARD", "KEY", "MADE", "ENDS", "GATE")]
    for one, each in pairs:
        end = _end(one, each)
        ends = "never" if end is None else f"{end:%Y-%m-%d %H:%M}"
        if (one.name, each.name) not in live:
            ends = f"ended {ends}"
        rows.append((each.name, one.name, f"{each.made:%Y-%m-%d}", ends, names[one.name]))
    click.echo(columns(rows))
    if not live:
        say("no card is good, so nobody can knock with a sealed packet")
        advise("knockgate card new NAME")
    return 0 if live else 1


@card.command("show", cls=Page)
@card_argument(required=False)
@click.option("--qr", is_flag=True, help="Draw it as a code instead, for a camera.")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object, with its name.")
@config_option
def show(name: str | None, *, qr: bool, as_json: bool, config: str | None) -> int:
    """Print a card: the line that a client needs.

    NAME may be left out where there is one card. Where two keys are live it is that of the newer one. Changes
    nothing, and needs root. The code is about 140 columns wide, and needs segno: pip install 'knockgate[qr]'.

    Exit status: 0; 2 there is no such card, or the keys cannot be read.

    For example:

        ssh home.example sudo knockgate card show everybody | knockgate trust home home.example -
        knockgate card show phones --qr
    """
    if qr and as_json:
        raise click.UsageError("--qr is for a camera, and --json is not", click.get_current_context())
    files = GateFiles.of(config)
    draw = drawing_cards() if qr else None
    one, found = newest(files.load(), name)
    text = card_text(one, found).strip()
    if as_json:
        end = _end(one, found)
        facts = {"name": found.name, "key": one.name, "gate": fingerprint_of(one), "card": text}
        click.echo(json.dumps(facts | {"ends": end.isoformat() if end else None}))
        return 0
    click.echo(draw(text) if draw else text)
    return 0


@card.command("revoke", cls=Page)
@card_argument(required=True)
@as_json_option
@config_option
def revoke(name: str, *, as_json: bool, config: str | None) -> int:
    """Refuse knocks with a card from now on.

    Of all keys that have one of that name. It cannot be undone: another card of the same name is another
    card. Whoever has come in stays in, and leases run to their ends (`knockgate close` ends them). A gate
    that runs is asked to read its files again, gate.toml among them. Needs root.

    To shut out one person, take the line out of the authorized_keys: that counts at once.

    Exit status: 0 it is refused; 2 there is no such card, or it could not be done; then the last line says
    whether a gate that runs still takes it.

    For example:

        knockgate card revoke guests
    """
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    files = GateFiles.of(config)
    with files.changing():
        keys = gatekeys.revoked(files.load(), name)
        gatekeys.save(files.keys, keys)
    left = keys.names(now().timestamp())
    if not left:
        say("no card is left, so nobody can knock with a sealed packet")
        advise("knockgate card new NAME")
    files.take_up(f"the card {name} is revoked")
    if as_json:
        tell(json.dumps({"name": name, "left": left}))
    else:
        tell(f"knocks with the card {name} are refused from now on")
    return 0


def _end(one: KeyEntry, found: CardEntry) -> dt.datetime | None:
    return min((end for end in (one.ends, found.ends) if end), default=None)
