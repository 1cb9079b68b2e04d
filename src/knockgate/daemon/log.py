"""What the halves say: lines on stderr for people, or JSON objects, one a line (``log`` in [gate]).

It never waits for a reader: to guard is more than to tell of it. A record says what happened in fields of a
closed list; its ``message`` is the line that people would have read. The time of a line is the journal's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import select
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from knockgate.config.readers import LogFormat
from knockgate.errors import KnockgateError

__all__ = ["NOTE", "Event", "Record", "Seldom", "as_json", "begin", "say", "say_why"]

#: Bytes of a line, with its end (PIPE_BUF); the rest is cut off. A pipe that is ready takes so many at once.
_LONGEST_LINE = 4096


class Event(enum.Enum):
    """What a line is about; docs/operating.md has the same list."""

    OPENED = "opened"  #: a door, for a source
    NOT_OPENED = "not-opened"  #: the knock was right, and the firewall refused
    REFUSED = "refused"  #: a knock of who has a key
    STRANGERS = "strangers"  #: what others sent, in numbers, once a minute at most
    BOUND = "bound"  #: a limit of [gate] was met
    TABLE = "table"  #: somebody removed it
    RELOAD = "reload"  #: the configuration was read again, or could not be
    CLOCK = "clock"  #: it was set
    COMMAND = "command"  #: of a door
    HALF = "half"  #: one ended, and is started again
    LOST = "lost"  #: lines that nobody read
    NOTE = "note"  #: all else


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of a line, but for ``program`` and ``message``; what is None is left out."""

    event: Event = Event.NOTE
    door: str | None = None
    source: str | None = None  #: who is let in, or is not
    sender: str | None = None  #: where the packet said that it comes from
    by: str | None = None  #: the kind of knock
    key: str | None = None  #: the name of who knocked
    reason: str | None = None  #: ``errors.Reason``, or the bound
    seconds: float | None = None  #: how long the lease lasts
    skew: float | None = None  #: seconds that the sender's clock is behind ours
    card: str | None = None
    device: str | None = None  #: what the store calls it
    counts: Mapping[str, int] | None = None  #: how often, by reason
    more: int | None = None  #: of this kind that were not told since the last one


def as_json(program: str, text: str, record: Record) -> str:
    """One object, whole, however long its texts were."""
    fields: dict[str, object] = {"event": record.event.value, "program": program}
    for field in dataclasses.fields(record)[1:]:
        value = getattr(record, field.name)
        if value is not None:
            fields[field.name] = _readable(value) if isinstance(value, str) else value
    fields["message"] = _readable(text)
    while len(line := json.dumps(fields)) >= _LONGEST_LINE:
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        longest = max(texts, key=lambda name: len(texts[name]))
        fields[longest] = texts[longest][: len(texts[longest]) * 7 // 8]
    return line


def _readable(text: str) -> str:
    """With what is no character spelled out: not every reader of JSON takes half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


class _Log:
    """Lines on stderr, as long as somebody takes them."""

    def __init__(self) -> None:
        self.format = LogFormat.TEXT
        self._lost = 0
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)

    def write(self, program: str, text: str, record: Record) -> None:
        if self._lost:
            told = f"{self._lost} lines were lost, nobody read the log"
            if self._put(program, told, Record(event=Event.LOST, more=self._lost)):
                self._lost = 0
        if self._lost or not self._put(program, text, record):
            self._lost += 1

    def _put(self, program: str, text: str, record: Record) -> bool:
        """False where it would have to wait."""
        if any(what & select.POLLOUT == 0 for _, what in self._poll.poll(0) or [(2, 0)]):
            return False
        line = f"{program}: {text}" if self.format is LogFormat.TEXT else as_json(program, text, record)
        with contextlib.suppress(OSError):  # whoever read it is gone; that is no reason to stop guarding
            whole = line.encode(errors="backslashreplace")[: _LONGEST_LINE - 1]
            sys.stderr.write(whole.decode(errors="ignore") + "\n")
            sys.stderr.flush()
        return True


_log = _Log()
#: Of a line that is about nothing in particular.
NOTE = Record()


def begin(form: LogFormat) -> None:
    """From now on lines are of this form; before, and where no configuration can be read, they are text."""
    _log.format = form


def say(program: str, text: str, record: Record = NOTE) -> None:
    """One line on stderr; systemd and syslog stamp it with the time.

    It never waits for a reader: lines that find no room are dropped, and counted in a later one.
    """
    _log.write(program, text, record)


def say_why(program: str, error: KnockgateError, record: Record = NOTE) -> None:
    """An error in one line, and its hint in another."""
    say(program, str(error), record)
    if error.hint:
        say(program, f"hint: {error.hint}", record)


#: Kinds that ``Seldom`` remembers; for one more the first of them is forgotten.
_KINDS = 4096


class Seldom:
    """Says things that may happen often: at once, and then not for a minute, but how often in between."""

    def __init__(self, program: str, *, every: float = 60.0) -> None:
        """``every``: seconds between two lines of one kind."""
        self._program, self._every = program, every
        self._said: dict[str, tuple[float, int]] = {}  # kind -> when, and how often it was not said since

    def say(self, kind: str, text: str, record: Record = NOTE) -> None:
        """``text`` may differ. Of kinds that have people's own words in them not all are remembered."""
        now = time.monotonic()
        when, unsaid = self._said.get(kind, (-math.inf, 0))
        if kind not in self._said and len(self._said) >= _KINDS:
            del self._said[next(iter(self._said))]
        if now < when + self._every:
            self._said[kind] = when, unsaid + 1
            return
        self._said[kind] = now, 0
        if unsaid:
            text = f"{text} ({unsaid} more of the kind since the last line)"
            record = dataclasses.replace(record, more=unsaid)
        say(self._program, text, record)
