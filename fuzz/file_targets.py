"""What is fuzzed of files: the gate's, those of the one who knocks, and lines of a log.

As in ``targets``, a target takes any bytes, and what it raises is a mistake of ours. No file is
read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TypeVar

from fuzz.targets import Mistake
from knockgate.cli import loglines
from knockgate.client import device as devicefile
from knockgate.client import profiles as profilesfile
from knockgate.config import devices as devicesfile
from knockgate.config import doors, keys, secrets
from knockgate.config import gatekeys as gatekeysfile
from knockgate.config.toml import Document
from knockgate.daemon.log import NOTE, as_json
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode
from knockgate.spa.sealed.dates import LAST_ERA

__all__ = ["TARGETS"]

T = TypeVar("T")
FILE = "a file"
SECRETS = b"KEY: secret\nHMAC_KEY: another\n"
ROW = bytes(range(16))


def _read(read: Callable[[str], T], octets: bytes) -> Iterator[tuple[str, T]]:
    """Its text, and what is made of it, if it is right; a remark at its end makes no difference."""
    try:
        text = octets.decode()
        found = read(text)
    except (UnicodeDecodeError, ConfigError) as error:
        if isinstance(error, ConfigError) and error.file != FILE:
            raise Mistake("nobody is told in which file") from error
        return
    if read(f"{text}\n# a remark\n") != found:
        raise Mistake("a remark makes a difference")
    yield text, found


def _gate(text: str) -> object:
    configuration = doors.parse(text, FILE)
    people = keys.parse_ssh(text, configuration, FILE)
    # Not ``parse``, which would read the files that it names.
    document = Document(text, FILE)
    return configuration, people, keys._fwknop_keys(document, configuration, lambda _: SECRETS)  # noqa: SLF001


def gate(octets: bytes) -> None:
    """A gate.toml."""
    for _ in _read(_gate, octets):
        pass


def gatekeys(octets: bytes) -> None:
    """The file with the gate's own keys."""
    for _, found in _read(lambda text: gatekeysfile.parse(text, FILE), octets):
        if gatekeysfile.parse(gatekeysfile.text_of(found)) != found:
            raise Mistake("there and back are other keys")


def secrets_(octets: bytes) -> None:
    """A file with fwknop's secrets."""
    for _ in _read(lambda text: secrets.parse(text, FILE, Hash.SHA256, Mode.CBC), octets):
        pass


def profiles(octets: bytes) -> None:
    """A profiles.toml."""
    for _ in _read(lambda text: profilesfile.parse(text, FILE), octets):
        pass


def devices(octets: bytes) -> None:
    """The admin's word on devices, and edits of it."""
    for text, found in _read(lambda text: devicesfile.parse(text, FILE), octets):
        rows = found.known | found.barred
        if not devicesfile.comments(text).keys() <= rows:
            raise Mistake("a comment on nothing")
        for row in (ROW, *rows):
            known, barred = found.known - {row}, found.barred - {row}
            for edited, wanted in (
                (devicesfile.barred(text, row), devicesfile.Devices(known, barred | {row})),
                (devicesfile.enrolled(text, row, "ours"), devicesfile.Devices(known | {row}, barred)),
                (devicesfile.forgotten(text, row), devicesfile.Devices(known, barred)),
            ):
                if devicesfile.parse(edited, FILE) != wanted:
                    raise Mistake("an edit says something else")


def device(octets: bytes) -> None:
    """The client's secret and dates."""
    try:
        kept = devicefile._parsed(octets)  # noqa: SLF001 - all else reads a file
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    if len(kept.secret) != 32:
        raise Mistake("a secret of another length")
    for name, date in kept.gates.items():
        if len(bytes.fromhex(name)) != 32 or not 0 <= date.era <= LAST_ERA or not 0 < date.issued < 1 << 63:
            raise Mistake("a date that no packet can have")


WANTED = loglines.Wanted(frozenset({"opened"}), "ssh", "jo", since=0.0, until=1e9)


def line(octets: bytes) -> None:
    """A line of the log, as it comes; and as a text that we write ourselves."""
    text = octets.decode(errors="replace")
    entry = loglines.of_line(text)
    WANTED.takes(entry)
    json.dumps(entry.facts())
    if not isinstance(entry.whom, str) or not isinstance(entry.message, str):
        raise Mistake("a text that is none")
    if len(octets) < 500:
        ours = as_json("knockgate-listener", text, NOTE)
        if "\n" in ours or loglines.of_line(ours).message != text:
            raise Mistake("what we wrote is not what is read")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "gate": gate,
    "gatekeys": gatekeys,
    "secrets": secrets_,
    "profiles": profiles,
    "devices": devices,
    "device": device,
    "line": line,
}
