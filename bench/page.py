"""``docs/benchmarks.md``: tables, a summary and plots, made out of samples and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import plots
from bench.behind import behind
from bench.overview import overview
from bench.results import Middle, Results, percentile
from bench.subjects import PEERS
from bench.summary import title_of
from bench.text import number, spread, table

__all__ = ["NAME", "tables", "write"]

NAME = "benchmarks"


# --- one function a figure ----------------------------------------------------------------------------


def _latency(found: Results) -> str:
    rows = []
    for subject in found.subjects("latency"):
        times = found.pooled("latency", subject, "first_ms")
        rows.append(
            [
                title_of(subject),
                str(len(times)),
                str(sum(each is not None for each in times)),
                number(percentile(times, 0.5)),
                number(percentile(times, 0.99)),
                _rounds(found, "latency", subject, "first_ms"),
            ]
        )
    head = ["", "knocks", "opened", "median ms", "p99 ms", "medians of the rounds"]
    return table(head, rows)


def _rounds(found: Results, figure: str, subject: str, value: str) -> str:
    medians = []
    for sample in found.of(figure, subject):
        listed = sample.values[value]
        if isinstance(listed, list):
            medians.append(percentile(listed, 0.5))
    there = [each for each in medians if each is not None]
    return f"{number(min(there))} to {number(max(there))}" if there else "-"


def _flood(found: Results) -> str:
    rows = []
    for subject in found.subjects("flood"):
        for case in found.cases("flood", subject):
            samples = found.of("flood", subject, case)
            times = found.pooled("flood", subject, "opened_ms", case)
            opened = sum(each is not None for each in times)
            rows.append(
                [
                    title_of(subject) + (f", {case}" if case else ""),
                    spread(found.middle("flood", subject, "arrived_per_s", case)),
                    f"{opened} of {len(times)}",
                    number(opened / len(times) * 100) + " %" if times else "-",
                    number(percentile([each for each in times if each is not None], 0.5)),
                    spread(found.middle("flood", subject, "cpu_percent", case)),
                    str(len(samples)),
                ]
            )
    return table(["", "junk/s that arrived", "opened", "share", "median ms", "CPU %", "rounds"], rows)


def _refused(found: Results) -> str:
    cases = found.cases("refused")
    rows = []
    for subject in found.subjects("refused"):
        for suffix, note in (("", ""), (", out of a file", ", out of a file")):
            cells = [
                spread(found.middle("refused", subject, "refused_per_core_s", case + suffix))
                for case in cases
                if "file" not in case
            ]
            if any(cell != "-" for cell in cells):
                rows.append([title_of(subject) + note, *cells])
    return table(["refused in a second of a core", *(case for case in cases if "file" not in case)], rows)


def _columns(figure: str, value: str) -> Callable[[Results], str]:
    """A row a subject, a column a case."""

    def made(found: Results) -> str:
        cases = found.cases(figure)
        rows = [
            [
                title_of(subject),
                *(spread(found.middle(figure, subject, value, case)) for case in cases),
            ]
            for subject in found.subjects(figure)
        ]
        return table(["", *cases], rows)

    return made


def _values(figure: str, columns: dict[str, str]) -> Callable[[Results], str]:
    """A row a subject and case, a column a value; ``columns``: value -> heading."""

    def made(found: Results) -> str:
        rows = [
            [
                title_of(subject) + (f", {_case(case)}" if case else ""),
                *(spread(found.middle(figure, subject, value, case)) for value in columns),
            ]
            for subject in found.subjects(figure)
            for case in found.cases(figure, subject)
        ]
        return table(["", *columns.values()], rows)

    return made


def _case(case: str) -> str:
    return f"{int(case):,}" if case.isdigit() else case


def _floor(found: Results) -> str:
    columns = {"start_ms": "start, ms", "rss_MB": "RSS, MB", "pss_MB": "PSS, MB", "us_each": "us"}
    rows = [
        [case, *(spread(found.middle("floor", subject, value, case)) for value in columns)]
        for subject in found.subjects("floor")
        for case in found.cases("floor", subject)
    ]
    return table(["", *columns.values()], rows)


#: Of each figure: a title, what there is to know for reading the table, and what makes it.
_SECTIONS: dict[str, tuple[str, str, Callable[[Results], str]]] = {
    "latency": (
        "Knock to first accepted connection",
        """\
From the last packet of a knock to the first connection that is accepted; a new SYN every 0.2 ms, later every
2 ms. For the packets of ours, what was taken is on the disk before anything opens.""",
        _latency,
    ),
    "flood": (
        "The same while junk is aimed at the knock port",
        """\
Genuine knocks, one attempt each, from addresses out of whose networks nobody has knocked before. Five seconds
are waited for each. CPU: of all processes of the subject.""",
        _flood,
    ),
    "refused": (
        "Junk refused",
        """\
Datagrams of the right length with all that a stranger can know of a packet. fwknopd takes at most 100 packets
and then sleeps 100 ms; what it could do is told by the same junk out of a file, to its advantage.""",
        _refused,
    ),
    "unrelated": (
        "CPU under unrelated packets",
        """\
Percent of one core, of all processes of the subject. `no opening`: UDP, pure ACK and data to any port. `SYN`:
to ports of no sequence.""",
        _columns("unrelated", "cpu_percent"),
    ),
    "sweep": (
        "A port scan, in ascending order",
        """\
One source sends a SYN to each port from 1 to 10,000; it knows no sequence. Of so many scans so many opened
the door. The right knock of another source opens each time (control).""",
        _values("sweep", {"sent_per_s": "SYNs/s", "swept": "scans", "opened": "opened the door"}),
    ),
    "leases": (
        "Letting in, by the number of those who are in",
        """\
Microseconds for one more, and for one packet of a stranger to the door and one to another port, from the
sender through the rules.""",
        _values(
            "leases",
            {"add_us": "let in", "stranger_us": "stranger's packet", "unrelated_us": "unrelated packet"},
        ),
    ),
    "idle": (
        "While nobody knocks",
        """\
RSS counts what processes share once for each, PSS shares it out. Start: from nothing until it guards and
listens.""",
        _values(
            "idle",
            {
                "start_ms": "start, ms",
                "rss_MB": "RSS, MB",
                "pss_MB": "PSS, MB",
                "processes": "processes",
                "wakeups_per_minute": "wake-ups a minute",
            },
        ),
    ),
    "state": (
        "With a million remembered",
        "Packets taken, for fwknopd; devices, for sealed knocks. The last column is a knock beside them.",
        _values(
            "state",
            {"start_ms": "start, ms", "size_MB": "on disk, MB", "rss_MB": "RSS, MB", "first_ms": "knock, ms"},
        ),
    ),
    "rules": (
        "The gate's own rules",
        "Nanoseconds of one packet, from the sender through the rules.",
        _values("rules", {"packet_ns": "ns", "load_ms": "`nft -f`, ms"}),
    ),
    "reloads": (
        "Reloads, and rules that somebody else flushes",
        """\
While a stranger and a lease holder send datagrams as fast as they can. A watched table is for kernels before
6.9, where nobody can own one.""",
        _values(
            "reloads",
            {
                "times": "times",
                "strangers_passed": "of a stranger's, passed",
                "holders_lost": "of a lease holder's, lost",
                "takes_ms": "ms each",
                "exposed_ms": "exposed, ms",
                "exposed_most_ms": "at most",
            },
        ),
    ),
    "floor": (
        "What nothing in Python goes below",
        """\
Processes of Python that do nothing, with more and more loaded; packets that are heard and not looked at; and
the least that the machine takes for what a knock needs.""",
        _floor,
    ),
    "work": (
        "A sealed knock's own work",
        """\
Without network and warden. `tag`: what most junk costs. Keys: all up to the decision, the claim on the disk
included.""",
        _values("work", {"us_each": "us of CPU", "clock_us_each": "us", "per_core_s": "a second of a core"}),
    ),
}


# --- the page -----------------------------------------------------------------------------------------


def tables(found: Results) -> str:
    """All of it as text."""
    parts = [each for each in (overview(found), behind(found)) if each]
    for name, (title, says, made) in _SECTIONS.items():
        if found.subjects(name):
            parts.append(f"## {title}\n\n{says}\n\n{made(found)}\n")
    return "\n".join(parts)


def _intro(found: Results) -> str:
    about, asked = found.machine, found.asked
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    rounds = f"{asked['rounds']} round{'s' if asked['rounds'] > 1 else ''}"
    cores = f"{about['cores']} {'virtual ' if about['virtual'] else ''}cores"
    small = " with the small numbers of `--quick`" if asked["quick"] else ""
    return f"""\
# Benchmarks

Written by `make bench`{small} on {asked["day"]}{_took(found)}; every figure here comes out of
[{NAME}.json]({NAME}.json), which the same command wrote.
How each is measured: [bench/README.md](../bench/README.md).

{about["cpu"]}, {cores}, {about["memory_GB"]} GB; {about["system"]}, {about["kernel"]};
Python {about["python"]}; {about["rights"]}; load before it began {asked["load_before"]}. {versions}.
{rounds}, of all subjects in turn. A cell is the median of the rounds, and in brackets the
least and the most.
"""


def _took(found: Results) -> str:
    minutes = sum(each.seconds for each in found.turns) / 60
    missing = (
        f"; **broke off: {found.missing} of {found.planned} turns are missing**" if found.missing else ""
    )
    return (f", in {minutes:.0f} minutes" if minutes else "") + missing


def _plots(found: Results, folder: Path) -> list[str]:
    made = []
    for name, title, unit, value in (
        ("latency", "Knock to first accepted connection", "ms", _latency_bar),
        ("refused", "Junk refused in a second of one core, 1 key", "packets", _refused_bar),
        ("idle", "Memory while nobody knocks (PSS)", "MB", _memory_bar),
    ):
        rows = [bar for subject in found.subjects(name) if (bar := value(found, subject)) is not None]
        if rows:
            path = folder / f"{NAME}-{name}.svg"
            plots.bars(path, title, unit, rows)
            made.append(f"![{title}]({path.name})\n")
    return made


def _bar(subject: str, found: Middle | None) -> plots.Bar | None:
    if found is None or found.least <= 0:
        return None
    return plots.Bar(title_of(subject), found.median, found.least, found.most, subject in PEERS)


def _latency_bar(found: Results, subject: str) -> plots.Bar | None:
    medians = [percentile(each.values["first_ms"], 0.5) for each in found.of("latency", subject)]  # type: ignore[arg-type]
    there = [each for each in medians if each is not None]
    whole = percentile(found.pooled("latency", subject, "first_ms"), 0.5)
    return _bar(subject, Middle(whole, min(there), max(there)) if there and whole else None)


def _refused_bar(found: Results, subject: str) -> plots.Bar | None:
    live = found.middle("refused", subject, "refused_per_core_s", "1 keys")
    return _bar(
        subject, found.middle("refused", subject, "refused_per_core_s", "1 keys, out of a file") or live
    )


def _memory_bar(found: Results, subject: str) -> plots.Bar | None:
    return _bar(subject, found.middle("idle", subject, "pss_MB"))


def write(found: Results, folder: Path) -> None:
    """``benchmarks.md``, ``.json`` and the plots; raises Unavailable without matplotlib."""
    pictures = _plots(found, folder)
    found.save(folder / f"{NAME}.json")
    text = "\n".join([_intro(found), *pictures, tables(found)])
    (folder / f"{NAME}.md").write_text(text)
