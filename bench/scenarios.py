"""The floods that are measured, and what each is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DAEMONS", "SCENARIOS", "Scenario"]

DAEMONS = {"lane A": "knockdemo.daemon", "filter off": "bench.all_ears"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A daemon under one kind of flood, with genuine knocks in between or without."""

    name: str
    title: str
    flood: Literal["no-opening", "other-port", "first-knock"] | None
    sources: Literal["one", "clients"] | None = None  # None: a made-up one for each packet
    daemon: Literal["lane A", "filter off"] = "lane A"
    knocks: bool = True


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("quiet", "no flood", None),
        Scenario("no-opening", "UDP, ACK and data", "no-opening", knocks=False),
        Scenario("filter-off", "the same, filter off", "no-opening", daemon="filter off", knocks=False),
        Scenario("syn-one", "SYN, other ports, one source", "other-port", "one"),
        Scenario("syn-made-up", "SYN, other ports, made-up sources", "other-port"),
        Scenario("syn-first", "SYN, first knock, made-up sources", "first-knock"),
        Scenario("syn-own", "SYN, other ports, who knocks itself", "other-port", "clients"),
    )
}
