"""``knockgate key new``: the secrets of somebody who is to knock with a packet, and what goes where."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.new_files import write_new
from knockgate.cli.page import Page, PageGroup
from knockgate.cli.qr import drawing
from knockgate.cli.terminal import say, tell
from knockgate.cli.words import FILE, Word, door_named
from knockgate.client import spellings
from knockgate.config import doors as configurations
from knockgate.config.doors import DEFAULT_PATH, DOOR_NAME
from knockgate.config.toml import shown
from knockgate.config.writing import listed, quoted, table
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash

if TYPE_CHECKING:
    from knockgate.client.pair import Pair

__all__ = ["key"]


_NAME = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"


@click.group("key", cls=PageGroup, no_args_is_help=False)
def key() -> None:
    """Make the secrets of those who knock with a packet."""


@key.command("new", cls=Page)
@click.option("--fwknop", "name", metavar="NAME", required=True, help="Whose key it is.")
@click.option(
    "--door",
    "doors",
    metavar="DOOR",
    multiple=True,
    default=("ssh",),
    help="What it opens (default: ssh); can be given again.",
)
@click.option("--config", metavar="FILE", type=FILE, help=f"Look doors up here (default: {DEFAULT_PATH}).")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Where to (default: NAME.secrets).")
@click.option(
    "--hmac",
    metavar="HASH",
    type=Word("HASH", spellings.hash_name),
    default=Hash.SHA256,
    help="What packets are authenticated with (default: sha256).",
)
@click.option("--fwknoprc", is_flag=True, help="Print a stanza for fwknop's own client, secrets included.")
@click.option("--qr", is_flag=True, help="Show the secrets as a code for fwknop's Android client.")
@click.option("--json", "as_json", is_flag=True, help="Print it all as one JSON object.")
def new(
    name: str,
    *,
    doors: tuple[str, ...],
    config: str | None,
    output: str | None,
    hmac: Hash,
    fwknoprc: bool,
    qr: bool,
    as_json: bool,
) -> int:
    """Make a pair of secrets, and print what goes where.

    Writes one file, of mode 0600, with two fresh random secrets: one encrypts packets, the other one
    authenticates them. Whoever has this file can knock; gate and client each need a copy of it. No file is
    ever overwritten. Nothing else is changed: the stanza for gate.toml, and the profile of the one who
    knocks, are printed. DOORs, and the ports that are asked for, come from the gate.toml where there is one.

    The secrets themselves are printed where --fwknoprc or --qr asks for it. A code on a screen is as good
    as the file, also to whoever looks over the shoulder. It needs segno: pip install 'knockgate[qr]'.

    Exit status: 0; 2 the file is there already, or cannot be written.

    For example:

        knockgate key new --fwknop alice --door ssh -o /etc/knockgate/alice.secrets
        knockgate key new --fwknop phone --door ssh --qr
    """
    from knockgate.client import pair  # noqa: PLC0415 - see cli

    if not DOOR_NAME.fullmatch(name):
        raise ConfigError(f"{shown(name)} is no name for a key", hint=_NAME)
    if output == "":
        raise click.UsageError("the name of the file is empty", click.get_current_context())
    access = _access(doors, config)
    draw = drawing() if qr else None
    made = pair.new(hmac)
    file = Path(output or f"{name}.secrets").absolute()
    text = "\n".join([f"# fwknop's secrets of {name}", *made.lines(": "), ""])
    write_new({file: text}, private=frozenset([file]))
    stanzas = _Stanzas(name, file, hmac, doors, access)
    printed = {
        "gate_toml": stanzas.gate(),
        "profile": stanzas.profile(),
        "fwknoprc": stanzas.fwknoprc(made) if fwknoprc else None,
    }
    payload = " ".join(made.lines(":")) if qr else None
    if as_json:
        tell(json.dumps({"name": name, "file": str(file), "hmac": hmac.value, **printed, "qr": payload}))
        return 0
    tell("\n\n".join([f"made {file}", *(text for text in printed.values() if text)]))
    if draw and payload:
        say("whoever sees this code has the secrets; clear the screen afterwards")
        tell(draw(payload))
    return 0


def _access(names: Sequence[str], config: str | None) -> list[str]:
    """The ports behind the doors; a guess where there is no configuration to look them up in."""
    for name in names:
        if not DOOR_NAME.fullmatch(name):
            raise ConfigError(f"{shown(name)} is no name for a door", key="--door", hint=_NAME)
    if config is None and not os.access(DEFAULT_PATH, os.R_OK):
        return ["tcp/22"]
    found = configurations.load(config or DEFAULT_PATH)
    ports = [str(port) for name in names for port in door_named(found, name).ports]
    return list(dict.fromkeys(ports))


@dataclass(frozen=True, slots=True)
class _Stanzas:
    """What goes where."""

    name: str
    file: Path
    hmac: Hash
    doors: Sequence[str]
    access: Sequence[str]

    def gate(self) -> str:
        """For the gate."""
        lines = ["# gate.toml of the host", table("keys", self.name), f"fwknop = {quoted(str(self.file))}"]
        return "\n".join([*lines, f"doors = {listed(self.doors)}", *self._hmac("hmac = {}")])

    def profile(self) -> str:
        """For our client."""
        copy = f"~/.config/knockgate/{self.name}.secrets"
        return "\n".join(
            [
                f"# ~/.config/knockgate/profiles.toml of who knocks, with a copy of the file at {copy}",
                table("profiles", self.name),
                'host = "HOST"',
                f"fwknop = {quoted(copy)}",
                f"access = {listed(self.access)}",
                *self._hmac("hmac = {}"),
            ]
        )

    def fwknoprc(self, pair: Pair) -> str:
        """For fwknop's client; with the secrets."""
        words = ["SPA_SERVER HOST", f"ACCESS {','.join(self.access)}", *pair.lines(" "), "USE_HMAC Y"]
        words.append(f"HMAC_DIGEST_TYPE {self.hmac.value.upper()}")
        heading = f"# ~/.fwknoprc of who knocks with: fwknop -n {self.name} -a ADDRESS --no-save-args"
        return "\n".join([heading, f"[{self.name}]", *(word.replace(" ", "    ", 1) for word in words)])

    def _hmac(self, line: str) -> list[str]:
        return [] if self.hmac is Hash.SHA256 else [line.format(quoted(self.hmac.value))]
