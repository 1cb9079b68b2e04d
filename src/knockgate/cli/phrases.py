"""A configuration in words: what each door is and what opens it, one line a door."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Any

from knockgate.config.doors import Demands, Door, Observed, RunsIn, Sequence
from knockgate.config.readers import Devices
from knockgate.config.toml import spell
from knockgate.config.unshut import network_text, networks_in_words

__all__ = ["clock_in_words", "columns", "door_facts", "door_in_words", "opened_by", "time_in_words"]


def door_in_words(door: Door, *, sealed: bool = False) -> str:
    """``ssh: tcp/22 for 15s, after tcp/7000, udp/8000, each within 5s of the one before (kernel)``.

    ``sealed``: some ssh key opens it.
    """
    return f"{door.name}: {', '.join(_parts(door, sealed=sealed))}"


def _parts(door: Door, *, sealed: bool) -> Iterator[str]:
    if door.ports:
        yield f"{', '.join(map(str, door.ports))} for {spell(door.lease)}"
    if door.sequence:
        yield f"after {_knocks(door.sequence)} ({door.sequence.runs_in.value})"
    if door.keyed:
        yield f"{'or ' if door.sequence else ''}by a key's packet" + (
            f", for {spell(door.most)} at most" if door.most > door.lease else ""
        )
    if sealed:
        demands = "; ".join(_demands(door.sealed))
        yield "takes sealed knocks" + (f" ({demands})" if demands else "")
    if not door.sequence and not door.keyed:
        yield "opened by hand alone"
    if door.allow:
        yield f"always open for {networks_in_words(door.allow)}"
    if door.shadow:
        yield "IN SHADOW: not shut"
    if door.commands:
        runs = [word for word in (door.commands.open, door.commands.close) if word]
        yield f"runs {' and '.join(words[0] for words in runs)}" if runs else "runs commands for IPv6"


def _demands(demands: Demands) -> Iterator[str]:
    """What differs from what a door demands by itself."""
    if demands.touch:
        yield "a token must be touched"
    if demands.devices is Devices.KNOWN:
        yield "known devices only"
    if demands.observed is Observed.NEVER:
        yield "each names the address to let in"
    if demands.observed is Observed.ALWAYS:
        yield "also without a clock they need not name an address"


def _knocks(sequence: Sequence) -> str:
    if sequence.one_time:
        knocks = f"the next line of {sequence.one_time}"
    else:
        knocks = ", ".join(map(str, sequence.steps))
    if len(sequence.steps) == 1:
        return knocks
    if sequence.runs_in is RunsIn.DAEMON:
        return f"{knocks}, all within {spell(sequence.within)}"
    return f"{knocks}, each within {spell(sequence.within)} of the one before"


def opened_by(door: Door) -> str:
    """The word that its leases are marked with, besides ``hand``."""
    ways = [f"{door.sequence.runs_in.value} sequence"] if door.sequence else []
    return ", ".join([*ways, "packet"] if door.keyed else ways) or "hand"


def door_facts(door: Door, *, sealed: bool = False) -> dict[str, object]:
    """The same for programs; times in seconds."""
    sequence = door.sequence
    return {
        "name": door.name,
        "ports": [str(port) for port in door.ports],
        "lease": door.lease,
        "longest": door.most,
        "opened_by": opened_by(door),
        "steps": [str(step) for step in sequence.steps] if sequence else [],
        "within": sequence.within if sequence else None,
        "allow": [network_text(network) for network in door.allow],
        "shadow": door.shadow,
        "sealed": _demand_facts(door.sealed) if sealed else None,
        "in_words": door_in_words(door, sealed=sealed),
    }


def _demand_facts(demands: Demands) -> dict[str, object]:
    """Under the names that gate.toml has for them."""
    return {
        "observed": demands.observed.value,
        "touch": demands.touch,
        "devices": demands.devices.value,
    }


def time_in_words(seconds: float) -> str:
    """The two largest units of a time: 3671.5 -> ``1h 1m``; below a minute whole seconds, rounded up."""
    if math.isinf(seconds):
        return "ever"
    whole = math.ceil(seconds)
    for name, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{name}" + (f" {rest}{below}" if rest else "")
    return f"{whole}s"


def clock_in_words(clock: Mapping[str, Any]) -> str:
    """What the gate knows of the time, and what follows for sealed knocks; ``clock`` is ``control``'s."""
    match clock["state"]:
        case "sure" if clock["vouched"]:
            return "the gate is sure of the time"
        case "sure":
            return (
                "CLOCK: the kernel does not vouch for it any more, and the gate goes by it all the same: "
                "see whether time servers are reached (timedatectl)"
            )
        case "floored":
            least = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(clock["not_before"]))
            known = (
                f"nothing vouches for it; the gate knows only that it is {least} or later (where that is "
                "wrong: `knockgate replay forget-time`)"
            )
        case _:
            known = "nothing vouches for it, and the gate does not know how late it is"
    return (
        f"CLOCK: {known}. No knock opens twice, but one that was held back on its way may open late; keys "
        "that expire or have hours do not open, nor knocks that name no address (see observed)"
    )


def columns(rows: Items[Items[str]]) -> str:
    """Rows of texts, each column as wide as its widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
