"""``knockgate init``: all that a gate for sealed knocks needs, made at once or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from knockgate.cli.cardfiles import card_text, drawing_cards, file_for, fingerprint_of, how_to_trust
from knockgate.cli.gatefiles import GateFiles, now
from knockgate.cli.new_files import for_the_halves, written
from knockgate.cli.page import Page
from knockgate.cli.rekeying import FIRST_CARD
from knockgate.cli.terminal import advise, complain, say
from knockgate.cli.words import FILE
from knockgate.config import private
from knockgate.config.doors import DEFAULT_PATH, DOOR_NAME
from knockgate.config.toml import Wrong, shown, spell
from knockgate.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from knockgate.cli.firstgate import Plan
    from knockgate.config.gatekeys import GateKeys

__all__ = ["init"]

S = TypeVar("S")
T = TypeVar("T")

_PORT, _LEASE = "tcp/22", "15s"
_WHO = "who may knock: a user of this host, a file of SSH keys, or a public key"


@click.command(cls=Page)
@click.option("--port", metavar="PORT", help=f"What to guard (default: {_PORT}).")
@click.option("--user", "users", metavar="NAME", multiple=True, help="Whose authorized_keys may knock.")
@click.option("--keys", metavar="FILE", type=FILE, help="A file of SSH keys that may knock, instead.")
@click.option("--lease", metavar="TIME", help=f"How long it stays open (default: {_LEASE}).")
@click.option("--door", metavar="NAME", help="What the door is called (default: ssh, for port 22).")
@click.option("--card", metavar="NAME", default=FIRST_CARD, help=f"The first card (default: {FIRST_CARD}).")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Where to (default: NAME.card; - prints it).")
@click.option("--qr", is_flag=True, help="Show the card as a code as well.")
@click.option("--bare", is_flag=True, help="Leave gate.toml alone: there is one.")
@click.option("--config", metavar="FILE", type=FILE, help=f"The gate.toml (default: {DEFAULT_PATH}).")
@click.option("--state", metavar="DIR", type=FILE, help="gate.state_directory, if it is to be another one.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as one JSON object.")
def init(
    *,
    card: str,
    output: str | None,
    qr: bool,
    bare: bool,
    config: str | None,
    as_json: bool,
    **words: str | tuple[str, ...] | None,
) -> int:
    """Make what a gate needs for sealed knocks: its keys, marks, a card, and a first gate.toml.

    On a terminal three questions are asked: which port to guard, who may knock, and for how long the port
    opens. Who may knock is a user of this host (whoever may log in with the keys in ~/.ssh/authorized_keys
    may knock with them), a file of such keys, or a public key pasted there. Where one of --port, --user,
    --keys and --lease is given nothing is asked.

    Makes, all of it or nothing, and never over anything that is there:

        gate.toml      one door, which opens to those keys
        gate.keys      in the state directory: the gate's secret keys and cards, of mode 0600
        marks.sqlite   beside it: what the gate remembers, so that no knock opens twice
        NAME.card      what a client needs in order to knock, of mode 0600

    Guards nothing yet: it says what to type next. With --bare gate.toml is one that is there already, and it
    is said what to put into it. Needs root.

    Exit status: 0; 2 something is there already, or cannot be written, or no key could knock; then nothing
    was made.

    For example:

        knockgate init
        knockgate init --user jo --user ann --port tcp/22 --lease 30s
        knockgate init --keys /etc/knockgate/authorized_keys -o - > everybody.card
    """
    if not DOOR_NAME.fullmatch(card):
        from knockgate.config.gatekeys import NAME_HINT  # noqa: PLC0415 - see cli

        raise ConfigError(f"{shown(card)} is no name for a card", key="--card", hint=NAME_HINT)
    draw = drawing_cards() if qr else None
    file = file_for(output, f"{card}.card")
    if bare and any(words.values()):
        raise click.UsageError("with --bare gate.toml says all that", click.get_current_context())
    plan = None if bare else _planned(config, _Words(**words))  # type: ignore[arg-type] # as declared above
    files = GateFiles(plan.configuration()) if plan else GateFiles.of(config)
    made = _fresh(card)
    line = card_text(made.keys[0], made.keys[0].cards[0])
    _make(files, made, plan, {file: line} if file else {})
    _Told(files, made, plan, file, config).tell(line, as_json=as_json)
    if draw:
        click.echo(draw(line.strip()))
    return 0


# --- what is asked ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """What the command line says of a gate.toml."""

    port: str | None
    users: tuple[str, ...]
    keys: str | None
    lease: str | None
    door: str | None
    state: str | None


def _planned(config: str | None, words: _Words) -> Plan:
    """The gate.toml that is meant; raises ConfigError, and Unavailable where nobody can be asked."""
    from knockgate.cli import firstgate  # noqa: PLC0415 - see cli

    path, folder = _read(lambda _: firstgate.places(config, words.state), "", "--config")
    if words.users and words.keys is not None:
        raise click.UsageError("either --user or --keys", click.get_current_context())
    given = any(each is not None for each in (words.port, words.keys, words.lease)) or bool(words.users)
    if given or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        port = _read(firstgate.port, words.port or _PORT, "--port")
        lease = _read(firstgate.lease, words.lease or _LEASE, "--lease")
        if words.users:
            who = _read(firstgate.of_users, words.users, "--user")
        elif words.keys is not None:
            who = _read(firstgate.of_file, words.keys, "--keys")
        else:
            message = "it is not said who may knock" if given else "there is no terminal to ask on"
            hint = "--user NAME or --keys FILE; and if you like --port PORT, --lease TIME, --door NAME"
            raise Unavailable(message, hint=hint)
    else:
        say("three questions; an empty answer takes what is in brackets")
        port = _asked("which port is to be guarded", _PORT, firstgate.port)
        who = _asked(_WHO, firstgate.likely_user(), firstgate.who)
        lease = _asked("for how long does it open", _LEASE, firstgate.lease)
    return firstgate.Plan(path, folder, port, lease, who, words.door or firstgate.door_of(port))


def _read(reader: Callable[[S], T], word: S, option: str) -> T:
    try:
        return reader(word)
    except Wrong as wrong:
        raise ConfigError(wrong.message, key=option, hint=wrong.hint) from None


def _asked(question: str, default: str, reader: Callable[[str], T]) -> T:
    """Ask until there is an answer that can be used."""
    while True:
        word: str = click.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            return reader(word)
        except Wrong as wrong:
            say(wrong.message)
            advise(wrong.hint)
        except ConfigError as error:
            complain(error)


# --- what is made -------------------------------------------------------------------------------------


def _fresh(card: str) -> GateKeys:
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

    seeds = {"xwing": os.urandom(32), "x25519": os.urandom(32)}
    return gatekeys.fresh(os.urandom(16), **seeds, secrets={card: os.urandom(32)}, now=now())


def _make(files: GateFiles, made: GateKeys, plan: Plan | None, cards: Mapping[Path, str]) -> None:
    """All of it, or nothing; raises Unavailable."""
    from knockgate.config import gatekeys  # noqa: PLC0415 - see cli
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    if os.path.lexists(files.marks):
        hint = "it belongs to keys of before: move it away, or see `knockgate rekey --help`"
        raise Unavailable(f"{files.marks} is there already", hint=hint)
    configuration = plan.files() if plan else {}
    names = [each.resolve() for each in (files.keys, files.marks, *configuration, *cards)]
    if len(set(names)) < len(names):
        raise ConfigError("one file cannot be two of what is made", key="--output", hint="name another")
    secret = {files.keys: gatekeys.text_of(made), **cards}
    # The marks come last: who is killed before leaves keys without marks, with which no gate starts.
    with written({**configuration, **secret}, private=frozenset(secret), dress=for_the_halves):
        if plan:
            plan.check()
        _hand_over(files.keys)
        SqliteMarks.create(files.marks, made.incarnation)


def _hand_over(path: Path) -> None:
    """Where the listener is a user of its own, the folder and what is in it are that user's."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        private.hand_over(file, path.parent)
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class _Told:
    """What is said of it."""

    files: GateFiles
    made: GateKeys
    plan: Plan | None
    card: Path | None
    config: str | None

    def tell(self, line: str, *, as_json: bool) -> None:
        """``line`` is the card, which is printed where it is in no file."""
        if as_json:
            click.echo(json.dumps(self._facts(line)))
            return
        # A card that goes on through a pipe goes alone.
        for each in self._lines():
            click.echo(each, err=self.card is None)
        for flaw in self.plan.who.flaws if self.plan else ():
            say(f"warning: {flaw}")
            advise(flaw.hint)
        if self.card is None:
            click.echo(line, nl=False)

    def _facts(self, line: str) -> dict[str, object]:
        return {
            "config": self.files.found.file,
            "keys": str(self.files.keys),
            "marks": str(self.files.marks),
            "gate": fingerprint_of(self.made.keys[0]),
            "name": self.made.keys[0].cards[0].name,
            "file": None if self.card is None else str(self.card),
            "card": line.strip() if self.card is None else None,
        }

    def _lines(self) -> list[str]:
        name, door = self.made.keys[0].cards[0].name, self.plan.door if self.plan else "ssh"
        file = f" {self.config}" if self.config is not None else ""
        lines = [
            f"made {self.files.keys} and {self.files.marks.name}: gate {fingerprint_of(self.made.keys[0])}"
        ]
        if self.card:
            lines.append(f"made {self.card}, for clients")
        if self.plan:
            many = "1 SSH key" if self.plan.who.number == 1 else f"{self.plan.who.number} SSH keys"
            opens = f"{self.plan.port} opens to {many}, for {spell(self.plan.lease)}"
            lines.insert(0, f"made {self.plan.path}: {opens}")
        else:
            lines += ["", f"to {self.files.found.file} add who may knock at which doors, such as:"]
            lines += ["    [keys.people]", '    ssh = "%h/.ssh/authorized_keys"']
            lines += ['    users = ["jo"]', '    doors = ["ssh"]']
        client = how_to_trust(name, self.files.found, door)
        steps = [
            f"knockgate check{file}",
            client,
            f"knockgate up --confirm 60s{file}",
            f"knockgate run{file}",
        ]
        return [*lines, "", "next:", *(f"    {step}" for step in steps)]
