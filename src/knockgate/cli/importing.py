"""``knockgate import``: configurations of other programs, turned into ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knockgate.cli.new_files import for_the_halves, write_new
from knockgate.cli.page import Page, PageGroup
from knockgate.cli.terminal import advise, complain, say, tell
from knockgate.cli.words import FILE, Word
from knockgate.client import home, spellings
from knockgate.config.doors import DEFAULT_PATH
from knockgate.config.notes import Note
from knockgate.errors import ConfigError
from knockgate.model import Port

if TYPE_CHECKING:
    from knockgate.config.fwknop import Translation

__all__ = ["import_"]


@click.group("import", cls=PageGroup, no_args_is_help=False)
def import_() -> None:
    """Turn the configuration of another program into ours.

    Changes nothing of the original. What is found is printed, or written where you say.
    """


@import_.command("knockd", cls=Page)
@click.argument("file", type=FILE)
@click.option("-i", "--interface", metavar="IF", default="", help="Instead of the one that the file names.")
def import_knockd(file: str, interface: str) -> int:
    """Print the gate.toml that means the same as a knockd.conf.

    With a comment wherever knockd itself would do something else than its file says, and with advice on
    what the kernel could do by itself. A door that cannot be used stands there as a comment. Changes nothing.

    Exit status: 0; 2 the file, or a door of it, cannot be used, or read.

    For example:

        knockgate import knockd /etc/knockd.conf > gate.toml && knockgate check gate.toml
    """
    from knockgate.config import knockd  # noqa: PLC0415 - see cli

    click.echo(knockd.translate(file, interface), nl=False)
    knockd.load(file, interface)  # says which door it is
    return 0


_FOLDER = "Where the secrets go, a file for each key (default: keys, beside the output)."
_JSON = "Print one JSON object: the text, the files, notes and refusals."


@import_.command("fwknop", cls=Page)
@click.argument("file", metavar="FILE", type=FILE)
@click.argument("conf", metavar="[FWKNOPD.CONF]", required=False, type=FILE)
@click.option("-i", "--interface", metavar="IF", help="Instead of the one that fwknopd.conf names.")
@click.option(
    "--open",
    "opened",
    metavar="PORTS",
    type=Word("PORTS", spellings.ports),
    default=(),
    help="What a stanza without OPEN_PORTS may open, such as tcp/22,tcp/443.",
)
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write gate.toml there, and the secrets.")
@click.option("--keys", metavar="DIR", type=FILE, help=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help=_JSON)
def import_fwknop(
    *,
    file: str,
    conf: str | None,
    interface: str | None,
    opened: tuple[Port, ...],
    output: str | None,
    keys: str | None,
    as_json: bool,
) -> int:
    """Make a gate.toml that means the same as fwknop's access.conf.

    FILE is access.conf, or a folder of such files. Each stanza becomes a key, each port a door. Standard
    error says what is done differently; what cannot be done is refused, and then nothing is written.

    Without -o the gate.toml is printed and says which files with secrets it needs; with --keys these are
    written. No file is ever written over, and gate.toml holds no secret.

    Exit status: 0; 2 something of the files cannot be used, or read, or written.

    For example:

        knockgate import fwknop /etc/fwknop/access.conf /etc/fwknop/fwknopd.conf
        knockgate import fwknop /etc/fwknop/access.conf -o /etc/knockgate/gate.toml
    """
    from knockgate.config.fwknop import Translation, translate  # noqa: PLC0415 - see cli

    folder = _folder(output, keys, DEFAULT_PATH.parent / "keys")
    found = translate(
        _path(file), _path(conf) if conf is not None else None, folder, interface=interface, opened=opened
    )
    if found.refusals:
        _report(Translation("", {}, found.notes, found.refusals), (), as_json=as_json)
        return 2
    return _finish(found, output, writes=output is not None or keys is not None, as_json=as_json)


@import_.command("fwknoprc", cls=Page)
@click.argument("file", metavar="[FILE]", required=False, type=FILE)
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write it there, and the secrets.")
@click.option("--keys", metavar="DIR", type=FILE, help=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help=_JSON)
def import_fwknoprc(*, file: str | None, output: str | None, keys: str | None, as_json: bool) -> int:
    """Make profiles of fwknop's .fwknoprc, for `knockgate knock`.

    FILE is ~/.fwknoprc if it is not given. Each stanza becomes a profile. One that cannot be used is a
    comment in the text, with the reason on standard error; the others are written nevertheless.

    Without -o the profiles are printed and say which files with secrets they need; with --keys these are
    written. No file is ever written over, and the profiles hold no secret.

    Exit status: 0; 1 there are stanzas that cannot be used; 2 none can, or something cannot be read or
    written.

    For example:

        knockgate import fwknoprc
        knockgate import fwknoprc -o ~/.config/knockgate/profiles.toml
        knockgate import fwknoprc --keys ~/.config/knockgate/keys >> ~/.config/knockgate/profiles.toml
    """
    from knockgate.client.profiles import default_path  # noqa: PLC0415 - see cli
    from knockgate.config.fwknop import profiles  # noqa: PLC0415 - see cli

    path = _path(file) if file is not None else home.folder() / ".fwknoprc"
    found = profiles(path, _folder(output, keys, default_path().parent / "keys"))
    if not found.text:
        _report(found, (), as_json=as_json)
        return 2
    return _finish(found, output, writes=output is not None or keys is not None, as_json=as_json)


# --- what is written and said -------------------------------------------------------------------------


def _path(word: str) -> Path:
    if not word or "\0" in word:
        raise click.UsageError("the name of a file is empty", click.get_current_context())
    return Path(word)


def _folder(output: str | None, keys: str | None, default: Path) -> Path:
    """The absolute folder that the text names the secrets in."""
    if keys is not None:
        return _path(keys).absolute()
    return _path(output).absolute().parent / "keys" if output is not None else default


def _finish(found: Translation, output: str | None, *, writes: bool, as_json: bool) -> int:
    """Write what is to be written, and say what there is to say; returns the exit status."""
    files = dict(found.secrets) if writes else {}
    if output is not None:
        files[_path(output).absolute()] = found.text
    if files:
        write_new(files, private=frozenset(found.secrets), dress=for_the_halves)
    _report(found, files, as_json=as_json)
    if not as_json:
        if not writes:
            for path in found.secrets:
                say(f"{path} is needed, with the secrets; -o FILE or --keys DIR writes it")
        if output is None:
            click.echo(found.text, nl=False)
        else:
            tell("\n".join(f"{path} is written" for path in files))
    return 1 if found.refusals else 0


def _report(found: Translation, written: Iterable[Path], *, as_json: bool) -> None:
    if as_json:
        facts = {
            "text": found.text or None,
            "secrets": [str(path) for path in found.secrets],
            "written": [str(path) for path in written],
            "notes": [_fact(note, warning=note.is_warning) for note in found.notes],
            "refused": [_fact(refusal) for refusal in found.refusals],
        }
        click.echo(json.dumps(facts))
        return
    for note in found.notes:
        say(f"{'warning' if note.is_warning else 'note'}: {note}")
        advise(note.hint)
    for refusal in found.refusals:
        complain(refusal)


def _fact(said: Note | ConfigError, **more: object) -> dict[str, object]:
    place = {"file": said.file, "line": said.line or None, "key": said.key or None}
    return {**place, "message": said.message, "hint": said.hint, **more}
