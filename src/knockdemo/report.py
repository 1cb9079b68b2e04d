"""What was measured, as values, as JSON and as a table for people.

Nothing here has a default: a cell that was not measured is an error, and ``null`` stands only beside
its reason under ``why``. ``ok`` looks at the tour's own promises (scans, control, bystander, banner) and
compares nothing else with what anybody expected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from knockgate.errors import Unavailable

__all__ = ["FORMAT", "LaneReport", "Report", "rows", "sweep_line", "to_json", "trade_offs"]

FORMAT = 1
BANNER = "You knocked. Welcome to the secret service on port %d."

Answer = bool | None


@dataclass(frozen=True)
class LaneReport:
    """One lane's answers to the tour's questions."""

    lane: str
    mechanism: str
    firewall: str
    port: int
    scans: Mapping[str, str]  #: "before", "knocked", "expired" -> nmap's state
    control: str  #: nmap's state of a port without listener and without rule
    bystander: str  #: nmap's state of the door for somebody else while it is open
    banner: str | None
    version_learns: Mapping[str, bool]  #: "before", "knocked" -> did nmap -sV get anything out of the port
    knock_to_open_ms: float | None  #: last packet of the knock -> first accepted connection, on the wire
    open_for_s: float | None
    replay_opens: Mapping[str, bool]  #: for the "observer" who replays, for the "client" who knocked
    fresh_opens: bool  #: the control beside it: the client knocks once more
    wire_names: (
        Sequence[str] | None
    )  #: those of "address", "door", "key" that stand in what the packets carry
    wire_again: Mapping[str, Any]  #: two knocks: "same", packet for packet; longest run of "bytes_in_common"
    sweep_opens: Mapping[str, bool]  #: "ascending", "random"
    stale_opens: Answer  #: a fresh knock that says it is an hour old
    on_time_opens: Answer  #: the control beside it
    future_opens: Answer  #: one that says it is an hour ahead
    ipv6: Mapping[str, Any]  #: "before": nmap's state; "knock_opens"
    #: A session by ``ProxyCommand knockgate connect``: sshd's "port", its state "before", whether ssh
    #: "enters", after how many "seconds", the address it is "seen_from", whether it "stays" when the lease is
    #: over. New connections "meanwhile" and "after": the state for "client" and "bystander", and whether
    #: "ssh_without_a_knock" gets in.
    ssh: Mapping[str, Any] | None
    closes_without_daemon: Answer
    wire: Sequence[str]  #: what the observer read
    why: Mapping[str, str]  #: cell -> reason, for every null and every surprise

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> LaneReport:
        """Build it from what the questions noted; Unavailable names what is missing."""
        names = {field.name for field in fields(cls)}
        lane = measured.get("lane", "?")
        if missing := sorted(names - measured.keys()):
            raise Unavailable(f"lane {lane}: not measured: {', '.join(missing)}")
        report = cls(**{name: measured[name] for name in names})
        for name in names:
            if measured[name] is None and name not in report.why:
                raise Unavailable(f"lane {lane}: {name} is empty and nobody said why")
        return report

    @property
    def ok(self) -> bool:
        """Invisible, visible after the knock to the one who knocked alone, invisible again."""
        return (
            dict(self.scans) == {"before": "filtered", "knocked": "open", "expired": "filtered"}
            and self.control == "closed"
            and self.bystander == "filtered"
            and self.banner == BANNER % self.port
        )


@dataclass(frozen=True)
class Report:
    """The whole tour."""

    window_s: int
    sweep: Mapping[str, Any]  #: "ports", "ascending_per_s", "random_per_s": packets a second on the wire
    lanes: Sequence[LaneReport]

    @property
    def ok(self) -> bool:
        """Whether every lane keeps its promise."""
        return bool(self.lanes) and all(lane.ok for lane in self.lanes)


def to_json(report: Report) -> str:
    """The report as text; fields as in ``LaneReport``."""
    lanes = [{f.name: getattr(lane, f.name) for f in fields(LaneReport)} for lane in report.lanes]
    whole = {
        "format": FORMAT,
        "window_s": report.window_s,
        "ok": report.ok,
        "sweep": report.sweep,
        "lanes": lanes,
    }
    return json.dumps(whole, indent=2) + "\n"


def _yes(answer: Answer) -> str:
    return {True: "opens", False: "stays shut", None: "-"}[answer]


def _replay(lane: LaneReport) -> str:
    opened = [who for who in ("observer", "client") if lane.replay_opens[who]]
    return "opens for " + " and ".join(opened) if opened else "stays shut"


def _again(lane: LaneReport) -> str:
    if lane.wire_again["same"]:
        return "all: it is the same"
    return f"{lane.wire_again['bytes_in_common']} bytes in a row"


def _names(lane: LaneReport) -> str:
    return "-" if lane.wire_names is None else ", ".join(lane.wire_names) or "none"


def _ssh(lane: LaneReport, what: str, yes: str, no: str) -> str:
    answer = lane.ssh[what] if lane.ssh else None
    return {True: yes, False: no, None: "-"}[answer]


#: Question, how a lane's cell reads, and the ``why`` entries that belong below it.
_QUESTIONS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("scan before", lambda r: r.scans["before"], ("before",)),
    ("  unguarded port (control)", lambda r: r.control, ()),
    ("  -sV learns", lambda r: "something" if r.version_learns["before"] else "nothing", ()),
    ("scan after the knock", lambda r: r.scans["knocked"], ("knocked",)),
    ("  -sV learns", lambda r: "the banner" if r.version_learns["knocked"] else "nothing", ()),
    ("  the bystander meanwhile", lambda r: r.bystander, ()),
    ("  last knock to open", lambda r: _number(r.knock_to_open_ms, "ms"), ("knock_to_open_ms",)),
    ("stays open for", lambda r: _number(r.open_for_s, "s"), ("open_for_s",)),
    ("scan after the window", lambda r: r.scans["expired"], ()),
    ("observer replays it", _replay, ("replay_opens",)),
    ("  a fresh knock (control)", lambda r: _yes(r.fresh_opens), ()),
    ("names that stand in a knock", _names, ()),
    ("  two knocks have in common", _again, ()),
    ("sweep in ascending order", lambda r: _yes(r.sweep_opens["ascending"]), ("sweep_ascending",)),
    ("sweep in random order", lambda r: _yes(r.sweep_opens["random"]), ("sweep_random",)),
    ("knock dated an hour ago", lambda r: _yes(r.stale_opens), ("stale_opens",)),
    ("knock dated now (control)", lambda r: _yes(r.on_time_opens), ()),
    ("knock dated an hour ahead", lambda r: _yes(r.future_opens), ("future_opens",)),
    ("IPv6: scan before", lambda r: r.ipv6["before"], ()),
    ("IPv6: the knock", lambda r: _yes(r.ipv6["knock_opens"]), ("ipv6",)),
    ("ssh, knocking at a second door", lambda r: _ssh(r, "enters", "gets in", "stays outside"), ()),
    ("  its session, after the lease", lambda r: _ssh(r, "stays", "goes on", "is cut off"), ()),
    ("  a new connection then", lambda r: r.ssh["after"].get("client", "-") if r.ssh else "-", ()),
    (
        "daemon killed while open",
        lambda r: {True: "closes", False: "STAYS OPEN", None: "-"}[r.closes_without_daemon],
        ("closes_without_daemon",),
    ),
)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}"


def sweep_line(report: Report) -> str:
    """How fast the sweeper went, in one line."""
    speeds = ", ".join(
        f"{report.sweep[f'{order}_per_s']} a second {order}" for order in ("ascending", "random")
    )
    return f"The sweeps went over ports 7000 to 9000, {speeds}."


def rows(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """(question, for each lane its cell and the line below it), in the order of the tour."""
    return [
        (question, [(cell(lane), _below(lane, reasons)) for lane in report.lanes])
        for question, cell, reasons in _QUESTIONS
    ]


def _below(lane: LaneReport, reasons: Sequence[str]) -> str:
    told = [lane.why[reason] for reason in reasons if reason in lane.why]
    if reasons == ("future_opens",) and lane.future_opens is None and lane.why.get("stale_opens") in told:
        return ""  # said two rows above
    return "; ".join(told)


def trade_offs(report: Report) -> list[str]:
    """The tutorial's trade-offs, each lane's in one line, made of measured cells alone."""
    lines = []
    for lane in report.lanes:
        good: list[str] = []
        bad: list[str] = []
        (bad if lane.replay_opens["observer"] else good).append(
            "a replay opens it" if lane.replay_opens["observer"] else "a replay does not open it"
        )
        (bad if lane.sweep_opens["ascending"] else good).append(
            "a port sweep opens it" if lane.sweep_opens["ascending"] else "a port sweep does not open it"
        )
        if lane.stale_opens is not None:
            strict = bool(lane.on_time_opens) and not lane.stale_opens and not lane.future_opens
            (good if strict else bad).append(
                "old packets are refused" if strict else "dates are not looked at"
            )
            if strict:
                bad.append("so are yours when a clock is wrong")
        works6 = bool(lane.ipv6["knock_opens"])
        (good if works6 else bad).append("works over IPv6" if works6 else "IPv4 only")
        if lane.closes_without_daemon is not None:
            closes = lane.closes_without_daemon
            (good if closes else bad).append(
                "closes with no daemon alive" if closes else "stays open when its daemon dies"
            )
        if lane.knock_to_open_ms is not None:
            good.append(f"opens in {lane.knock_to_open_ms:g} ms")
        sentence = "; but ".join(", ".join(part) for part in (good, bad) if part)
        lines.append(f"{lane.lane} ({lane.mechanism}, {lane.firewall}): {sentence}")
    return lines
