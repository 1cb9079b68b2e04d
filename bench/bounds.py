"""Why ours is behind where it is: for each kind of row the bound, in words and figures of the same run.

A bound is text and tables made out of samples. Where those are missing there is no explanation, and
``make bench`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.overview import amount
from bench.results import Results, Value
from bench.summary import Row, title_of
from bench.text import number, table

__all__ = ["BOUNDS", "Bound", "Missing"]

_IMPORTS, _MEMORY, _DOOR = "imports, ms: ", "memory, MB: ", "a stranger's packet to the door, us"


class Missing(Exception):
    """No sample has what a bound is told with."""


@dataclass(frozen=True, slots=True)
class Bound:
    """``says`` raises Missing. ``rows``: those that are behind, one or more."""

    title: str
    says: Callable[[Results, Sequence[Row]], str]


# --- figures out of samples ---------------------------------------------------------------------------


def _floor(found: Results, subject: str, case: str, value: str) -> float:
    middle = found.middle("floor", subject, value, case)
    if middle is None:
        raise Missing
    return middle.median


def _python(found: Results, what: str, count: int, value: str) -> float:
    return _floor(found, "python", f"{what}, {count} process{'es' if count > 1 else ''}", value)


def _profile(found: Results, prefix: str, subjects: Sequence[str], unit: str) -> str:
    """A row a process, a column a kind: what a profile has of those subjects."""
    rows: list[tuple[str, dict[str, Value]]] = []
    for subject in subjects:
        for case in found.cases("profile", subject):
            if case.startswith(prefix):
                (sample,) = found.of("profile", subject, case)
                rows.append((f"{title_of(subject)}; {case.removeprefix(prefix)}", dict(sample.values)))
    if not rows:
        raise Missing
    kinds = list(dict.fromkeys(kind for _, values in rows for kind in values))
    kinds = [*(kind for kind in kinds if kind != "others"), *(["others"] if "others" in kinds else [])]
    lines = []
    for title, values in rows:
        cells = [_number(values.get(kind)) for kind in kinds]
        lines.append(
            [title, _number(sum(each for each in values.values() if isinstance(each, int | float))), *cells]
        )
    return table([unit, "all", *kinds], lines)


def _number(value: Value) -> str:
    return number(value) if isinstance(value, int | float) else "-"


def _functions(found: Results, what: str, subjects: Sequence[str]) -> str:
    """Percent of a process's time by function, a table for each subject."""
    parts = []
    for subject in subjects:
        samples = found.of("profile", subject, f"functions, %: {what}")
        if not samples:
            raise Missing  # what one of them does explains no other
        for sample in samples:
            kernel = found.middle("profile", subject, "in_the_kernel_percent", f"time: {what}")
            heading = f"{title_of(subject)}, under {what}"
            heading += f" (in the kernel: {number(kernel.median)} % of it)" if kernel else ""
            rows = [
                [f"`{name}`" if name != "others" else name, _number(each)]
                for name, each in sample.values.items()
            ]
            parts.append(table([heading, "%"], rows))
    if not parts:
        raise Missing
    return "\n\n".join(parts)


def _subjects(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.subject for row in rows))


def _profiled(rows: Sequence[Row]) -> list[str]:
    """Who is behind, as far as a profile is made of them; the two kinds of sealed knock have one gate."""
    return list(dict.fromkeys("sealed" if name == "sealed-small" else name for name in _subjects(rows)))


# --- the bounds ---------------------------------------------------------------------------------------


def _start(found: Results, rows: Sequence[Row]) -> str:
    bare, half = (_python(found, what, 1, "start_ms") for what in ("bare", "standard library"))
    three = _python(found, "bare", 3, "start_ms")
    halves = _python(found, "standard library", 3, "start_ms")
    whole = _python(found, "standard library and cryptography", 3, "start_ms")
    theirs = min(row.theirs.median for row in rows)
    return f"""\
A peer is one program of C. Lane A is one of Python, and a gate with a daemon is three processes of it, each
with no more rights than it needs: who supervises; the warden, who alone may change the firewall; and the
listener, who alone hears what strangers send. **The bound is the interpreter's**: one that is up and does
nothing has taken {number(bare)} ms, three, one after the other, {number(three)} ms. One that has loaded the
modules of the standard library that a half needs has taken {number(half)} ms, and three
{number(halves)} ms, which is {number(halves / theirs)} times the whole start of the quickest peer here;
with the library of cryptography, which packets need and sequences do not, {number(whole)} ms. What is
above that is our own modules and a start's work: to read the configuration and the keys, load
the table, open sockets and the store. It is paid at a start alone: rules are in force before the listener is
up, and stay when a half is started again.

Imports by package, as `-X importtime` tells them, which takes some time itself:

{_profile(found, _IMPORTS, _profiled(rows), "ms")}"""


def _memory(found: Results, rows: Sequence[Row]) -> str:
    bare, half = (_python(found, what, 1, "pss_MB") for what in ("bare", "standard library"))
    resident = _python(found, "bare", 1, "rss_MB")
    halves = _python(found, "standard library", 3, "pss_MB")
    whole = _python(found, "standard library and cryptography", 3, "pss_MB")
    shared = [row for row in rows if "PSS" in row.what] or rows
    told = dict.fromkeys(f"{title_of(row.peer)}: {amount(row.theirs.median, 'MB')}" for row in shared)
    return f"""\
**The bound is the interpreter's**: one process of Python that does nothing has {number(bare)} MB of its own
({number(resident)} MB resident), where whole peers have ({"; ".join(told)}). With the modules of the
standard library that a half needs it has {number(half)} MB, and three of those have {number(halves)} MB;
with the library of cryptography, which packets need and sequences do not, {number(whole)} MB.
Above that there are our own modules, and, where packets are
heard out of a ring, the ring: room for those that wait, so that a flood crowds no knock out. It is
taken at the start and does not grow. A sequence that the kernel follows has no process and takes nothing.

Memory by what it is of (`/proc/PID/smaps`, PSS):

{_profile(found, _MEMORY, _profiled(rows), "MB")}"""


def _stray(found: Results, rows: Sequence[Row]) -> str:
    recv, ring, counted = (
        _floor(found, "packets", f"a SYN, {how}", "us_each")
        for how in ("by a system call", "out of a ring", "counted in a ring")
    )
    rates = [found.middle("unrelated", row.subject, "arrived_per_s", "SYN") for row in rows]
    rate = max(each.median for each in rates if each)
    told = "; ".join(f"{title_of(row.subject)} {number(row.ours.median * 1e4 / rate)} us" for row in rows)
    return f"""\
knockd asks the kernel for the ports of its own sequences, so it never sees these packets, and they cannot
reset a sequence that somebody has begun: a scan over all ports, in their order, opens its doors. With
ours a packet to any wrong port resets. So **each of them has to be heard**, and that is the bound:
a program in Python that hears a SYN and does nothing with it takes {number(recv)} us by a system call
for each, {number(ring)} us out of a ring that it shares with the kernel, and {number(counted)} us
where it only counts them there, of which {number(rate)} a second are {number(counted * rate / 1e4)} %
of a core. Ours took, for each SYN: {told}. A sequence in the kernel is as strict, and takes no process's
time; what a packet pays for its rules is told below.

{_functions(found, "stray SYNs", _profiled(rows))}"""


def _size(found: Results, rows: Sequence[Row]) -> str:
    row = rows[0]
    case = max(found.cases("state", row.subject), key=int)
    ours, theirs = (each * 1e6 / int(case) for each in (row.ours.median, row.theirs.median))
    stored = found.middle("state", row.subject, "stored_MB", case)
    if stored is None:
        raise Missing
    each = stored.median * 1e6 / int(case)
    return f"""\
fwknopd's file is a line of text for each packet that ever came; it is read whole at each start, and
grows with each knock. Ours is a row for each device, however often it knocks, found and changed in
place. **The bound**: a row is a key's fingerprint (32 octets), a device (16), a date, and SQLite's
word about each. The two names are random, so nothing of them can be left out. The rest is room in the
pages of a tree that is filled in no order, without which each new device would move all the others.

| octets for each that is remembered | |
|---|---|
| fwknopd's line | {number(theirs)} |
| our row | {number(each)} |
| room in our pages | {number(ours - each)} |"""


def _forward(found: Results, rows: Sequence[Row]) -> str:  # noqa: ARG001 - as its siblings
    parts = found.of("profile", "kernel", _DOOR)
    if not parts:
        raise Missing
    values = {what: each for what, each in parts[0].values.items() if isinstance(each, int | float)}
    lines = [[what, number(each)] for what, each in values.items()]
    return f"""\
What is measured is a packet's whole way, the sender's part of it too; rules are some tenths of a
microsecond of it. Ours look at more than an address: whether the packet is for this host, whether
somebody was let in by hand or by network, whether the door is paused; a stranger's SYN resets what its
source has begun, and is counted. **The bound** is one look into a set for each of these. None of them
takes longer with more who are in, or with more doors (figures below), where a chain with a rule each does.

{table(["a stranger's packet to the door, rule by rule", "us"], lines)}"""


def _refused(found: Results, rows: Sequence[Row]) -> str:
    heard = _floor(found, "packets", "a SYN, out of a ring", "us_each")
    sums = found.cases("floor", "sums")
    told = "; ".join(f"{case}: {number(_floor(found, 'sums', case, 'us_each'))} us" for case in sums)
    return f"""\
Only a sum over all of it tells such junk from a packet (bench/README.md, "What cannot be won"). **The
bound** is that sum for each key that it could be of, {told}, and the packet itself, {number(heard)} us
where it is heard and not looked at.

{_functions(found, "junk", _profiled(rows))}"""


def _knock(found: Results, rows: Sequence[Row]) -> str:
    disk, link = (
        _floor(found, "machine", case, "us_each")
        for case in ("fdatasync of a page", "netlink, there and back")
    )
    return f"""\
What was taken of a packet is on the disk before anything opens, or it could be used again after a crash.
**The bound** is one `fdatasync`, {number(disk)} us here, and a question to netlink and its answer,
{number(link)} us; the rest is the check of the knock.

{_functions(found, "knocks", _profiled(rows))}"""


#: By the topic of rows.
BOUNDS = {
    "start": Bound("Start", _start),
    "memory": Bound("Memory", _memory),
    "unrelated SYN": Bound("CPU under stray SYNs", _stray),
    "forward": Bound("A packet through the rules", _forward),
    "size": Bound("Size of what is remembered", _size),
    "refused": Bound("Junk refused", _refused),
    "knock": Bound("Knock to first connection", _knock),
}
