"""``knockgate log``: what the halves have said, out of the journal or a file."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import click

from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, plain, say
from knockgate.cli.words import FILE, Word, complete_door
from knockgate.config.toml import Reader, Wrong, duration, shown
from knockgate.daemon.log import Event

if TYPE_CHECKING:
    from knockgate.cli.loglines import Address, Entry, Wanted
    from knockgate.cli.logsources import File, Journal

__all__ = ["log"]

#: Lines of the journal, where nobody says how many or from when on.
_LINES, _BEFORE_FOLLOWING = 100, 10
#: So many lines are looked at before the first is shown, so that columns are aligned.
_LOOKED_AT = 1000
_HEADINGS = ("TIME (UTC)", "EVENT", "DOOR", "SOURCE", "KEY", "MESSAGE")
#: What is longest in a column, mostly.
_USUAL = (19, 10, 8, 15, 0)


def _moment(value: str, *, end_of_day: bool) -> float:
    """Seconds since 1970."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    if value[:1].isdigit() and value[4:5] != "-":
        with_unit = value if not value.isdigit() else f"{value}s"
        return now - cast("float", _AGO.read(with_unit))
    try:
        found = dt.datetime.fromisoformat(value)
        if end_of_day and len(value) <= len("2027-05-03"):
            found = dt.datetime.combine(found.date(), dt.time.max)
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        hint = "such as 10m, which is ten minutes ago, 2027-05-03 or 2027-05-03T18:00:00Z; UTC is meant"
        raise Wrong(f"{shown(value)} is no time", hint) from None


_AGO = duration(0, 100 * 365 * 86400)
_SINCE = Word("TIME", Reader("time", lambda value: _moment(value, end_of_day=False)))
_UNTIL = Word("TIME", Reader("time", lambda value: _moment(value, end_of_day=True)))


def _network(value: str) -> Address:
    try:
        found = ipaddress.ip_network(value.strip("[]"), strict=False)
    except ValueError:
        raise Wrong(
            f"{shown(value)} is no address", "such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::7"
        ) from None
    mapped = found.network_address.ipv4_mapped if found.version == 6 and found.prefixlen == 128 else None
    return ipaddress.ip_network(mapped) if mapped else found


@click.command(cls=Page)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--since", metavar="TIME", type=_SINCE, help="Not what was before.")
@click.option("--until", metavar="TIME", type=_UNTIL, help="Not what was after.")
@click.option(
    "--event",
    "events",
    metavar="EVENT",
    multiple=True,
    type=click.Choice([each.value for each in Event]),
    help="Only such; can be given again, for one more.",
)
@click.option("--door", metavar="DOOR", shell_complete=complete_door, help="Only what is about that door.")
@click.option("--key", metavar="TEXT", default="", help="Only what is about a key with this in its name.")
@click.option(
    "--source",
    metavar="ADDRESS",
    type=Word("ADDRESS", Reader("address or network", _network)),
    help="Only what is about that address, or network.",
)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    help=f"So many lines (default: {_LINES} of the journal, {_BEFORE_FOLLOWING} before those that follow).",
)
@click.option("--file", "path", metavar="FILE", type=FILE, help="Read this instead; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def log(
    *,
    follow: bool,
    since: float | None,
    until: float | None,
    events: Sequence[str],
    door: str | None,
    key: str,
    source: Address | None,
    last: int | None,
    path: str | None,
    as_json: bool,
) -> int:
    """Show what the gate has said: what opened, who was refused, and why.

    Changes nothing. Reads the journal of the units that `knockgate install` lays down, the oldest line
    first. That needs root or the group systemd-journal. Where there is no journal, `knockgate run` speaks on
    standard error, and --file reads what that was sent to; a file may also be syslog's, or what this command
    or `journalctl -o json` has printed.

    EVENT is one of: opened, not-opened, refused, strangers, bound, table, reload, clock, command, half,
    lost, note. docs/operating.md says what each is, and which fields it has. TIME is such as 10m, which is
    ten minutes ago, 2027-05-03 or 2027-05-03T18:00:00Z, in UTC. ADDRESS is compared with who was let in, or
    was to be, and with who sent the packet.

    Only with log = "json" in [gate] does a line say what it is about. Of a line of text nobody can tell which
    event, door, key or source it is about, nor of a line in a file when it was written, unless something
    has put the time before it. Where there is such a choice, lines that it cannot be made of are shown, and
    it is said how many they were.

    With --json each line's own fields, and `time` before them: seconds since 1970, or null. A line of text
    has `message` alone.

    Exit status: 0; 2 there is no log that can be read.

    For example:

        sudo knockgate log
        sudo knockgate log --since 1h --event refused --event not-opened
        sudo knockgate log --follow --event opened
        sudo knockgate log --json --since 2027-05-03 | jq -r 'select(.event == "opened") | .source'
        knockgate run 2>&1 | knockgate log --follow --file -
    """
    from knockgate.cli.live import until_ended  # noqa: PLC0415 - see cli
    from knockgate.cli.loglines import Wanted  # noqa: PLC0415 - see cli

    if follow and until is not None:
        raise click.UsageError("--until has an end, and --follow has none", click.get_current_context())
    wanted = Wanted(frozenset(events), door, key, source, since, until)
    telling = _Telling(wanted, as_json=as_json)
    with until_ended():
        _tell(telling, path, last, follow=follow)
        telling.sum_up()
    return 0


def _tell(telling: _Telling, path: str | None, last: int | None, *, follow: bool) -> None:
    from knockgate.cli.logsources import File, Journal  # noqa: PLC0415 - see cli

    wanted = telling.wanted
    if path is not None:
        file = File(path)
        if follow and last is not None and not file.has_an_end:
            message = "--last counts from the end, which a pipe that is followed has not"
            raise click.UsageError(message, click.get_current_context())
        source: File | Journal = file
        known = telling.chosen(file.forwards())
        if last is not None:
            known = iter(deque(known, last))
        at_once = follow and not file.has_an_end
    else:
        source = Journal(wanted)
        known, at_once = _of_journal(source, telling, last, follow=follow), False
    telling.show(known, at_once=at_once)
    if follow:
        telling.show(telling.chosen(source.later()), at_once=True)


def _of_journal(source: Journal, telling: _Telling, last: int | None, *, follow: bool) -> Iterator[Entry]:
    """What there is already, the oldest first."""
    wanted = telling.wanted
    if last is None and wanted.since is None and wanted.until is None:
        number = _BEFORE_FOLLOWING if follow else _LINES
    elif last is not None:
        number = last
    else:
        return telling.chosen(source.forwards())
    found = list(itertools.islice(telling.chosen(source.backwards()), number + 1))
    if last is None and not follow and len(found) > number:
        telling.left_out = number
    return reversed(found[:number])


class _Telling:
    """Shows lines, and says at the end what is to be known of them besides."""

    def __init__(self, wanted: Wanted, *, as_json: bool) -> None:
        self.wanted = wanted
        self.left_out = 0  #: that many were shown, and there were more
        self._as_json = as_json
        self._columns = _Columns()
        self._number = self._unjudged = 0
        self._headed = False

    def chosen(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those that are wanted, and those of which nobody can tell."""
        return (each for each in entries if self.wanted.takes(each) is not False)

    def show(self, entries: Iterable[Entry], *, at_once: bool) -> None:
        """Print them, each when it comes where it says so."""
        entries = iter(entries)
        if not self._as_json:
            first = [] if at_once else list(itertools.islice(entries, _LOOKED_AT))
            self._columns.make_room(map(_row, first), usual=at_once)
            entries = itertools.chain(first, entries)
        for entry in entries:
            self._count(entry, at_once=at_once)
            if self._as_json:
                click.echo(json.dumps(entry.facts()))
            else:
                self._print(_row(entry))

    def _print(self, row: Sequence[str]) -> None:
        if not self._headed:
            self._headed = True
            click.echo(self._columns.line(_HEADINGS))
        click.echo(self._columns.line(row))

    def _count(self, entry: Entry, *, at_once: bool) -> None:
        self._number += 1
        if self.wanted.takes(entry) is None:
            self._unjudged += 1
            if at_once and self._unjudged == 1:
                self._tell_of_the_unjudged("lines like the next")

    def sum_up(self) -> None:
        """What is said when all is shown."""
        if self.left_out:
            say(f"these are the last {self.left_out} lines, and there are more")
            advise("--last N shows so many, --since TIME all from then on")
        if self._unjudged:
            self._tell_of_the_unjudged("1 line" if self._unjudged == 1 else f"{self._unjudged} lines")
        if not self._number:
            say("the log has no such line" if self.wanted != type(self.wanted)() else "the log is empty")

    def _tell_of_the_unjudged(self, which: str) -> None:
        what = "what they are about" if self.wanted.by_field else "when they were written"
        say(f"{which}: nobody can tell {what}, so they are shown whatever was asked for")
        if self.wanted.by_field:
            advise('with log = "json" in [gate] each line says it')


def _row(entry: Entry) -> tuple[str, ...]:
    at = entry.stamp
    if entry.time is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.time))
    texts = (at, entry.text("event"), entry.text("door"), entry.whom, entry.text("key"), entry.message)
    return tuple(map(plain, texts))


class _Columns:
    """As wide as the widest text so far; what never had any is left out, and the last one is as it is."""

    def __init__(self) -> None:
        self._widths = [0] * (len(_HEADINGS) - 1)

    def make_room(self, rows: Iterable[Sequence[str]], *, usual: bool) -> None:
        """``usual``: also for what mostly comes."""
        for row in [*rows, *([tuple("x" * width for width in _USUAL)] if usual else [])]:
            self._widths = [max(width, len(text)) for width, text in zip(self._widths, row, strict=False)]

    def line(self, row: Sequence[str]) -> str:
        """One row."""
        if row is not _HEADINGS:
            self.make_room([row], usual=False)
        *texts, last = row
        shown = [
            text.ljust(max(width, len(heading)))
            for text, width, heading in zip(texts, self._widths, _HEADINGS, strict=False)
            if width
        ]
        return "  ".join([*shown, last]).rstrip()
