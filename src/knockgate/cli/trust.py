"""``knockgate trust``: a gate's card becomes a profile."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.knock import complete_profile
from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import FILE, Word
from knockgate.client import profiles, spellings
from knockgate.client.home import folder
from knockgate.client.profiles import SEALED_PORT, SealedProfile
from knockgate.config.doors import DOOR_NAME
from knockgate.config.toml import Wrong, shown
from knockgate.config.writing import listed, quoted
from knockgate.errors import ConfigError
from knockgate.model import Port

if TYPE_CHECKING:
    from knockgate.spa.sealed import Card

__all__ = ["trust"]

_NAME = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"


def _complete_replaced(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The profiles that there are, behind --replace; without it the name is to be a new one."""
    return complete_profile(ctx, param, incomplete) if ctx.params.get("replace") else []


@click.command(cls=Page)
@click.argument("name", metavar="NAME", shell_complete=_complete_replaced)
@click.argument("host", metavar="HOST", type=Word("HOST", spellings.host))
@click.argument("card", metavar="CARD", type=FILE)
@click.option(
    "--door",
    "doors",
    metavar="DOOR",
    type=Word("DOOR", spellings.sealed_door),
    multiple=True,
    help="What to open (default: ssh); can be given again.",
)
@click.option(
    "--wait", metavar="PORT", type=Word("PORT", spellings.door), help="Wait until this TCP port answers."
)
@click.option(
    "-p",
    "--port",
    metavar="PORT",
    type=Word("PORT", spellings.spa_port),
    help=f"Where the gate listens (default: {SEALED_PORT.number}).",
)
@click.option(
    "-i", "--identity", metavar="FILE", type=FILE, help="Always sign with this SSH key, and try no other one."
)
@click.option("--small", is_flag=True, help="Always send 245 bytes instead of 1,333.")
@click.option("--replace", is_flag=True, help="There is a profile NAME: change it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def trust(
    name: str,
    host: str,
    card: str,
    *,
    doors: tuple[str, ...],
    wait: Port | None,
    port: Port | None,
    identity: str | None,
    small: bool,
    replace: bool,
    as_json: bool,
) -> int:
    """Keep a gate's card, and make a profile to knock there.

    CARD is the file that the gate's admin gives you, one line of text, or - for standard input. It is kept
    as ~/.config/knockgate/cards/NAME, for you alone, and the profile NAME goes to the end of profiles.toml
    beside that folder; all else in that file stays as it is. Then `knockgate knock NAME` knocks at HOST.
    Nothing is sent.

    Trust comes from how the card came to you: over ssh, or from a screen. Whoever puts a card of their own
    in its place gets to see who knocks, and when; they cannot come in anywhere with that. To be sure,
    compare the gate's name, which is printed, with the one that `knockgate card list` prints there.

    With --replace the card, and what is given here, is changed in the profile, and the rest of it stays.
    Where that cannot be done line by line, nothing is changed.

    Exit status: 0; 2 nothing was changed, and a line on standard error says why.

    For example:

        ssh home.example sudo knockgate card show | knockgate trust home home.example - --wait tcp/22
        knockgate trust cabin 192.0.2.7 cabin.card --door ssh --door web
    """
    from knockgate.client import trusting  # noqa: PLC0415 - see cli

    if not DOOR_NAME.fullmatch(name):
        raise ConfigError(f"{shown(name)} is no name for a profile", hint=_NAME)
    taken = _card(card)
    path = profiles.default_path()
    kept = trusting.cards_folder() / name
    with trusting.alone():
        content = _content(path)
        known = profiles.parse(content, str(path))
        before = _before(known[name], name, replace=replace) if name in known else None
        told = _Values(host, kept, port, wait, identity, small=small)
        text = trusting.changed(content, str(path), name, told.spelled(doors, is_new=name not in known))
        # The card first: a profile whose card is missing could not knock.
        trusting.write_private(kept, taken.text() + "\n")
        trusting.write_private(path, text)
    _tell(name, taken, kept, path, before=before, as_json=as_json)
    return 0


def _card(word: str) -> Card:
    """The card in a file, or on standard input. Raises ConfigError."""
    from knockgate.client import trusting  # noqa: PLC0415 - see cli

    if not word:
        raise click.UsageError("the name of the card is empty", click.get_current_context())
    if word != "-":
        return trusting.read_card(Path(word))
    if sys.stdin is None:
        raise ConfigError("standard input is closed", hint="name the card's file instead of -")
    if sys.stdin.isatty():
        say("paste the card, and end with Ctrl-D")
    return trusting.card_of(sys.stdin.buffer.read(trusting.LONGEST + 1), "standard input")


def _content(path: Path) -> str:
    """The text of profiles.toml, empty where there is none. Raises ConfigError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError:
        raise ConfigError("is no text in UTF-8", file=str(path), hint="save the file as UTF-8") from None
    except OSError as error:
        hint = "it is for its owner, and for root" if isinstance(error, PermissionError) else None
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), hint=hint) from None


def _before(profile: profiles.Profile, name: str, *, replace: bool) -> str | None:
    """The name of the gate that the profile was for; None where its card cannot be read. ConfigError."""
    from knockgate.client import trusting  # noqa: PLC0415 - see cli

    path = str(profiles.default_path())
    if not replace:
        hint = "--replace gives it this card; or take another name"
        raise ConfigError(f"there is a profile {name!r} already", file=path, hint=hint)
    if not isinstance(profile, SealedProfile):
        hint = "take another name, or take that profile out by hand"
        raise ConfigError(f"the profile {name!r} knocks in another way", file=path, hint=hint)
    try:
        return trusting.read_card(profile.card).fingerprint
    except ConfigError:
        return None


@dataclass(frozen=True, slots=True)
class _Values:
    """What the profile is to say."""

    host: str
    card: Path
    port: Port | None
    wait: Port | None
    identity: str | None
    small: bool

    def spelled(self, doors: tuple[str, ...], *, is_new: bool) -> dict[str, tuple[object, str]]:
        """Each with its spelling in TOML. What is not given is left out, as it is the same without."""
        texts = {"host": self.host, "card": _at_home(self.card)}
        if self.wait:
            texts["wait"] = str(self.wait)
        if self.port:
            texts["port"] = str(self.port)
        if self.identity is not None:
            texts["identity"] = _at_home(Path(self.identity).absolute())
        values: dict[str, tuple[object, str]] = {key: (text, quoted(text)) for key, text in texts.items()}
        if doors or is_new:
            names = list(_doors(doors or ("ssh",)))
            values["doors"] = (names, listed(names))
        if self.small:
            values["small"] = (True, "true")
        return values


def _at_home(path: Path) -> str:
    """As one would write it: a home may be somewhere else on the next machine."""
    try:
        home = folder()
    except ConfigError:  # nothing of it lies there
        return str(path)
    return f"~/{path.relative_to(home)}" if home != Path("/") and path.is_relative_to(home) else str(path)


def _doors(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        found: tuple[str, ...] = spellings.sealed_doors.read(list(names))
    except Wrong as wrong:
        raise ConfigError(wrong.message, key="--door", hint=wrong.hint) from None
    return found


def _tell(name: str, card: Card, kept: Path, path: Path, *, before: str | None, as_json: bool) -> None:
    if as_json:
        facts = {
            "profile": name,
            "gate": card.fingerprint,
            "before": before,
            "card": str(kept),
            "file": str(path),
        }
        tell(json.dumps(facts))
        return
    if before not in (None, card.fingerprint):
        say(f"{name} was the gate {before} until now: has its admin made new keys?")
    tell(f"{name} is the gate {card.fingerprint}\nkept its card in {kept}, and a profile in {path}")
    advise(f"compare that with `knockgate card list` at the gate; then: knockgate knock {name}")
