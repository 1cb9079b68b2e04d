"""A line of the gate's log, as the journal's JSON, as our own, or as text; and a choice of lines."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Address", "Entry", "Wanted", "of_journal", "of_line"]

Address = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What syslog and `journalctl` put before a line: when, which host, which program.
_STAMPED = re.compile(
    r"(?P<stamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
    r" \S+ [\w.@/-]+(?:\[\d+\])?: (?P<rest>.*)"
)
#: The year 10000, in seconds since 1970.
_END_OF_TIME = 253402300800


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line says."""

    message: str
    time: float | None = None  #: seconds since 1970, where that is known
    #: The fields of a line in JSON; None where it is text, of which nobody knows what it is about.
    fields: Mapping[str, Any] | None = None
    stamp: str = ""  #: what stands for a time that is not known to the year, or the zone
    others: bool = False  #: systemd says it of a unit of ours
    cursor: str = field(default="", compare=False)  #: the journal's

    def text(self, name: str) -> str:
        """A field that is a text; empty where there is none."""
        value = (self.fields or {}).get(name)
        return value if isinstance(value, str) else ""

    @property
    def whom(self) -> str:
        """Whom it is about: who was let in or was to be, else who sent it."""
        return self.text("source") or self.text("sender")

    def facts(self) -> dict[str, object]:
        """The line's own fields, or its message, with the time before them: seconds since 1970 or null."""
        return {"time": self.time, **(self.fields or {"message": self.message})}


def of_line(line: str) -> Entry:
    """A line of a file: as the daemon wrote it, as syslog keeps it, or out of `journalctl -o json`."""
    stamp, rest = "", line
    if found := _STAMPED.fullmatch(line):
        stamp, rest = found["stamp"], found["rest"]
    facts = _object(rest)
    if facts is not None and "MESSAGE" in facts:
        return of_journal(facts)
    time = _time_of(stamp)
    if time is not None:
        stamp = ""
    if facts is None or not _is_record(facts):
        return Entry(rest, time, stamp=stamp)
    # What `log --json` has written has the journal's time in it.
    own = facts.pop("time", None)
    if isinstance(own, int | float) and not isinstance(own, bool) and 0 <= own < _END_OF_TIME:
        time = float(own)
    return Entry(facts["message"], time, facts, stamp)


def of_journal(facts: Mapping[str, Any]) -> Entry:
    """An entry as `journalctl -o json` prints it."""
    message = _text(facts.get("MESSAGE"))
    micros = _text(facts.get("__REALTIME_TIMESTAMP"))
    time = int(micros) / 1e6 if re.fullmatch(r"[0-9]{1,17}", micros) else None
    others = _text(facts.get("SYSLOG_IDENTIFIER")) == "systemd"
    record = None if others else _object(message)
    if record is not None and not _is_record(record):
        record = None
    text = record["message"] if record else message
    return Entry(text, time, record, others=others, cursor=_text(facts.get("__CURSOR")))


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_record(facts: Mapping[str, Any]) -> bool:
    return all(isinstance(facts.get(name), str) for name in ("event", "message"))


def _text(value: object) -> str:
    """The journal has bytes that are no text as a list of numbers, and a field twice as a list of both."""
    if isinstance(value, list):
        if value and all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return bytes(value).decode(errors="replace")
        return " ".join(map(_text, value))
    return value if isinstance(value, str) else ""


def _time_of(stamp: str) -> float | None:
    """None where the year or the zone is anybody's guess."""
    try:
        found = dt.datetime.fromisoformat(stamp.replace(",", "."))
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo else None


# --- a choice -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are; what is empty or None leaves all of them."""

    events: frozenset[str] = frozenset()
    door: str | None = None
    key: str = ""  #: part of its name, in small letters or large
    source: Address | None = None
    since: float | None = None  #: seconds since 1970
    until: float | None = None

    @property
    def by_field(self) -> bool:
        """Whether lines of text cannot be told apart by it."""
        return bool(self.events or self.door or self.key or self.source)

    def takes(self, entry: Entry) -> bool | None:
        """Whether it is wanted; None: it does not say enough of itself to know."""
        answers = [*self._on_time(entry), *self._on_fields(entry)]
        if False in answers:
            return False
        return None if None in answers else True

    def _on_time(self, entry: Entry) -> list[bool | None]:
        found: list[bool | None] = []
        if self.since is not None:
            found.append(None if entry.time is None else entry.time >= self.since)
        if self.until is not None:
            found.append(None if entry.time is None else entry.time <= self.until)
        return found

    def _on_fields(self, entry: Entry) -> list[bool | None]:
        if not self.by_field:
            return []
        if entry.fields is None:
            return [False if entry.others else None]
        return [
            not self.events or entry.text("event") in self.events,
            self.door is None or entry.text("door") == self.door,
            self.key.lower() in entry.text("key").lower(),
            self.source is None
            or any(_within(entry.text(name), self.source) for name in ("source", "sender")),
        ]


def _within(text: str, wanted: Address) -> bool:
    """Whether some address is in both."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        return False
    return found.version == wanted.version and found.overlaps(wanted)
