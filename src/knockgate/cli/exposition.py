"""What ``knockgate metrics`` writes, in Prometheus' text exposition format (version 0.0.4).

Counters begin at 0 again when the listener is started again, as Prometheus expects of them. Labels are doors,
and words of closed lists: strangers decide neither how many there are nor what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from knockgate import __version__
from knockgate.errors import Reason

__all__ = ["Family", "families", "text"]

_Facts = Mapping[str, Any]
_Samples = Iterable[tuple[Mapping[str, str], float]]
_KNOCKS = ("fwknop", "packets"), ("sealed", "sealed")
_BY = ("kernel-sequence", "daemon-sequence", "fwknop", "sealed")
#: Of reasons up to this one it is not known yet who sent it.
_LAST_OF_STRANGERS = Reason.BAD_SIGNATURE
_REASONS = list(Reason)
_OF_STRANGERS = _REASONS[: _REASONS.index(_LAST_OF_STRANGERS) + 1]
_OF_KEYS = _REASONS[len(_OF_STRANGERS) :]
_CLOCK = ("sure", "floored", "blind")


@dataclass(frozen=True)
class Family:
    """One metric: ``samples`` are labels and values."""

    name: str
    kind: str  #: counter or gauge
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]

    @classmethod
    def of(cls, name: str, told: str, samples: _Samples | float) -> Family:
        """What ends in _total is a counter, as the convention is."""
        rows = [({}, float(samples))] if isinstance(samples, int | float) else samples
        kind = "counter" if name.endswith("_total") else "gauge"
        return cls(f"knockgate_{name}", kind, told, tuple(rows))


def text(found: Iterable[Family]) -> str:
    """The lines; a family without samples has none."""
    lines = []
    for family in found:
        if family.samples:
            told = family.help.replace("\\", r"\\").replace("\n", r"\n")
            lines += [f"# HELP {family.name} {told}", f"# TYPE {family.name} {family.kind}"]
            lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    readable = value.encode(errors="backslashreplace").decode()
    return readable.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def families(facts: _Facts, stores: Mapping[str, int], now: float) -> Iterator[Family]:
    """``facts`` as ``knockgate status --json`` prints them; bytes of each store; seconds since 1970."""
    daemon = facts["daemon"]
    yield Family.of("build_info", "The version that wrote this.", [({"version": __version__}, 1)])
    yield Family.of("gate_up", "Whether the daemon of the gate answers.", daemon is not None)
    yield from _of_table(facts)
    yield Family.of(
        "store_bytes", "Size of a store of the gate.", [({"store": n}, s) for n, s in stores.items()]
    )
    if daemon:
        yield from _of_daemon(daemon, now)
        yield from _of_knocks(daemon)


def _of_table(facts: _Facts) -> Iterator[Family]:
    doors = [door for door in facts["doors"] if door["ports"]]
    yield Family.of("guarded", "Whether all doors are shut for who has no lease.", facts["guarded"])
    yield Family.of(
        "door_guarded",
        "Whether the door is shut for who has no lease.",
        [({"door": door["name"]}, door["state"] in ("open", "shut")) for door in doors],
    )
    leases = Counter(lease["door"] for lease in facts["leases"])
    yield Family.of(
        "leases",
        "Live leases: one for each source and port.",
        [({"door": door["name"]}, leases[door["name"]]) for door in doors],
    )


def _of_daemon(daemon: _Facts, now: float) -> Iterator[Family]:
    warden, heard = daemon["warden"], daemon["heard"]
    yield Family.of("table_owned", "Whether nobody but the daemon can change the table.", warden["owned"])
    yield Family.of("table_restored_total", "How often somebody removed the table.", warden["restored"])
    yield Family.of("listener_uptime_seconds", "Since the counters began at 0.", daemon["since"])
    openings = [
        ({"door": name, "by": by}, door["by"].get(by, 0))
        for name, door in daemon["doors"].items()
        for by in (*_BY, *sorted(set(door["by"]) - set(_BY)))
    ]
    yield Family.of("openings_total", "Doors opened, by kind of knock.", openings)
    last = [
        ({"door": name}, round(now - door["last"]["seconds_ago"], 1))
        for name, door in daemon["doors"].items()
        if door["last"]
    ]
    yield Family.of("last_opening_timestamp_seconds", "When the door was opened last.", last)
    yield Family.of("packets_heard_total", "Packets that the daemon has looked at.", heard["packets"])
    yield Family.of("packets_lost_total", "Packets lost for want of room.", heard["lost"])
    yield Family.of("reports_lost_total", "Reports of the kernel that were lost.", heard["lost_reports"])
    sequences = [({"outcome": name}, heard[name]) for name in _SEQUENCES if name in heard]
    yield Family.of("sequences_total", "Sequences that the daemon follows.", sequences)
    bounds = [({"bound": name}, count) for name, count in daemon["bounds"].items()]
    yield Family.of("bounds_met_total", "Seconds in which a limit of [gate] was met.", bounds)


_SEQUENCES = ("begun", "opened", "reset", "forgotten")


def _of_knocks(daemon: _Facts) -> Iterator[Family]:
    told = {by: daemon[name] for by, name in _KNOCKS if daemon.get(name)}
    of_keys = {by: Counter(one["refused"]) - Counter(one["strangers"]) for by, one in told.items()}
    refused = [
        ({"by": by, "reason": reason}, counts[reason])
        for by, counts in of_keys.items()
        for reason in _reasons(_OF_KEYS, counts)
    ]
    yield Family.of("refusals_total", "Knocks with a key of ours that were refused.", refused)
    strangers = [
        ({"by": by, "reason": reason}, one["strangers"].get(reason, 0))
        for by, one in told.items()
        for reason in _reasons(_OF_STRANGERS, set(one["strangers"]))
    ]
    yield Family.of("strangers_total", "Packets that no key of ours has made.", strangers)
    if sealed := told.get("sealed"):
        yield Family.of("ssh_keys", "SSH keys that may knock.", sealed["keys"])
        state, vouched = sealed["clock"]["state"], sealed["clock"]["vouched"]
        states = dict.fromkeys((*_CLOCK, state))
        yield Family.of(
            "clock_state",
            "What the gate makes of its clock: 1 for one of these.",
            [({"state": n}, n == state) for n in states],
        )
        yield Family.of("clock_vouched", "Whether the kernel vouches for the clock.", vouched)
    if packets := told.get("fwknop"):
        yield Family.of("clock_synchronised", "Whether fwknop's dates count.", packets["synchronised"])
        yield Family.of(
            "packets_remembered", "Packets of fwknop's that are remembered.", packets["remembered"]
        )
        yield Family.of("packets_remembered_limit", "For how many there is room.", packets["room"])


def _reasons(always: Iterable[Reason], seen: Iterable[str]) -> Iterable[str]:
    """Those that count from 0 on, so that the first one is seen to come, and what else came."""
    return dict.fromkeys([reason.value for reason in always] + sorted(seen))
