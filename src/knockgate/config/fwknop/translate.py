"""access.conf and fwknopd.conf -> the gate.toml that means the same, and the files with the secrets.

Nothing is written here, and the text holds no secret.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from knockgate.config import doors
from knockgate.config.doors import Commands, Door
from knockgate.config.fwknop import access, settings
from knockgate.config.fwknop.findings import Findings, Place
from knockgate.config.fwknop.plan import Plan, plan
from knockgate.config.fwknop.reading import read
from knockgate.config.fwknop.settings import Settings
from knockgate.config.fwknop.stanza import Stanza
from knockgate.config.keys import FwknopKey
from knockgate.config.notes import Note
from knockgate.config.toml import spell
from knockgate.config.writing import comment, listed, quoted, table
from knockgate.errors import ConfigError
from knockgate.model import Port
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["Translation", "secrets_text", "translate"]


@dataclass(frozen=True, slots=True)
class Translation:
    """What is to be written. Where there are ``refusals``, nothing is."""

    text: str
    secrets: dict[Path, str] = field(repr=False)  #: by the path that the text names
    notes: tuple[Note, ...] = ()
    refusals: tuple[ConfigError, ...] = ()


def translate(
    file: Path, conf: Path | None, folder: Path, *, interface: str | None = None, opened: Sequence[Port] = ()
) -> Translation:
    """Read access.conf (or a folder of such) and, if given, fwknopd.conf.

    ``folder`` is where the secrets will lie, absolute; ``interface``, if given, stands instead of the
    file's; ``opened`` are the ports of stanzas that name none.
    """
    found = Findings()
    sections = access.sections(file, found)
    if not sections and not found.refusals:
        found.refuse(Place(str(file)), "has no stanza", "a stanza begins with SOURCE ANY")
    stanzas = [read(section, found) for section in sections]
    heard = settings.read(conf, file, found) if conf else Settings(Place(str(file)))
    if interface is not None:
        heard.interface = interface
    elif not heard.interface:
        message = "no interface is named: all are listened on and guarded; fwknopd would listen on eth0"
        found.note(heard.place._replace(line=0), message, "-i IF names one")
    planned = plan(stanzas, folder, opened, found, heard.port)
    text = "\n".join(_lines(planned, heard, found, file)) + "\n"
    if not found.refusals:
        try:
            assert doors.parse(text).doors == planned.doors, "what is written is not what is meant"  # noqa: S101
        except ConfigError as error:  # more doors than can be, and the like
            found.refuse(Place(str(file)), f"comes to what cannot be used: {error.message}", error.hint)
    secrets = {Path(key.fwknop): secrets_text(key.secret) for key in planned.keys}
    notes = sorted(found.notes, key=lambda note: (not note.is_warning, note.file, note.line))
    return Translation(text, secrets, tuple(notes), tuple(found.refusals))


def secrets_text(secret: Secret) -> str:
    """The file that ``config.secrets`` reads."""
    given = {"KEY_BASE64": secret.key, "HMAC_KEY_BASE64": secret.hmac_key}
    return "".join(f"{name}: {base64.b64encode(value).decode()}\n" for name, value in given.items() if value)


# --- the text -----------------------------------------------------------------------------------------


def _lines(planned: Plan, heard: Settings, found: Findings, file: Path) -> Iterator[str]:
    yield from comment(f"The same as {file}, by `knockgate import fwknop`.")
    yield ""
    yield "[gate]"
    yield f"interface = {quoted(heard.interface)}"
    yield ""
    yield "[fwknop]"
    yield f"port = {quoted(str(heard.port))}"
    yield f"freshness = {quoted(spell(heard.freshness))}"
    for door in planned.doors:
        yield ""
        yield from _door(door)
    for key in planned.keys:
        yield ""
        yield from _key(key, planned.stanzas[key.name], found.notes)


def _door(door: Door) -> Iterator[str]:
    yield table("doors", door.name)
    yield f"ports = {listed(door.ports)}"
    yield f"lease = {quoted(spell(door.lease))}"
    if door.longest is not None:
        yield f"longest = {quoted(spell(door.longest))}"
    if door.commands:
        yield ""
        yield from _commands(door, door.commands)


def _commands(door: Door, commands: Commands) -> Iterator[str]:
    yield table("doors", door.name, "commands")
    yield f"open = {listed(commands.open)}"
    if commands.close:
        yield f"close = {listed(commands.close)}"
    yield from comment("fwknopd knows no IPv6, so these commands never saw an IPv6 address.")
    yield "open6 = []"
    yield f"time_limit = {quoted(spell(commands.time_limit))}"


def _key(key: FwknopKey, stanzas: Sequence[Stanza], notes: Sequence[Note]) -> Iterator[str]:
    for stanza in stanzas:
        yield from comment(f"stanza {stanza.number}, {stanza.place.file}:{stanza.place.line}")
        for note in notes:
            if (note.file, note.line) == stanza.place[:2]:
                said = f"{note.message}" + (f" ({note.hint})" if note.hint else "")
                yield from comment(f"WARNING: {said}" if note.is_warning else said)
    yield table("keys", key.name)
    yield f"fwknop = {quoted(key.fwknop)}"
    yield f"doors = {listed(key.doors)}"
    if key.hmac is not Hash.SHA256:
        yield f"hmac = {quoted(key.hmac.value)}"
    if key.mode is not Mode.CBC:
        yield f"mode = {quoted(key.mode.value)}"
    if key.insecure:
        yield "insecure = true"
    if key.senders:
        yield f"senders = {listed(key.senders)}"
    if key.observed:
        yield "observed = true"
    if key.username:
        yield f"username = {quoted(key.username)}"
    if key.longest is not None:
        yield f"longest = {quoted(spell(key.longest))}"
    if key.expires:
        yield f"expires = {key.expires:%Y-%m-%dT%H:%M:%SZ}"
