"""What a run of the attack suite found: figures of its tests (``tests.attacks.figures``), as one file.

The file is all that the page is made of (``tools.attacks.page``). It has the attacks in a fixed order, one a
line, so that two runs can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Attack", "Results", "Wrong", "read"]

_FORMAT = 1

#: Kinds of attacks, by the first word of a figure's name, in the order of the page.
KINDS = {
    "replay": "Replay",
    "tampering": "Tampering",
    "resets": "A running sequence is reset in somebody's name",
    "exhaustion": "Exhaustion of sets, tracker, replay store, disk, log, memory and descriptors",
    "clients": "Slow and greedy clients of the daemon's sockets",
    "halves": "A half that was taken over, and strangers on the same host",
    "agent": "A hostile SSH agent",
    "files": "Hostile profiles, cards, files of keys and captures",
    "frames": "Malformed frames, fragments and oversize",
    "clock": "Time steps",
    "crowd": "Thousands at once",
    "day": "A day, with an injected clock",
}

Value = float | int | str | Mapping[str, int]


class Wrong(Exception):
    """Nothing that a page can be made of."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One figure, as ``tests.attacks.figures.figure`` writes it."""

    figure: str
    test: str
    tries: int
    wrongly: int
    known: int
    rightly: int
    control: str
    bounds: Mapping[str, Value]

    @property
    def kind(self) -> str:
        """One of KINDS, if all is well."""
        return self.figure.partition(".")[0]

    @property
    def what(self) -> str:
        """For people."""
        return self.figure.partition(".")[2]


@dataclass(frozen=True, slots=True)
class Results:
    """Of one run. ``left_out``: tests that this machine cannot do, and why."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    day: str
    took_s: int
    passed: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    attacks: tuple[Attack, ...] = ()

    def of(self, kind: str) -> list[Attack]:
        """Those of one kind."""
        return [each for each in self.attacks if each.kind == kind]

    def save(self, path: Path) -> None:
        """In its place when it is whole."""
        new = path.with_name(f".{path.name}.new")
        new.write_text(self.text())
        new.replace(path)

    def text(self) -> str:
        """As JSON."""
        head = {"format": _FORMAT, **asdict(self)}
        attacks = ",\n  ".join(json.dumps(each) for each in head.pop("attacks"))
        return json.dumps(head, indent=1)[:-2] + f',\n "attacks": [\n  {attacks}\n ]\n}}\n'

    @classmethod
    def load(cls, path: Path) -> Results:
        """Raises Wrong where it is not what ``save`` writes."""
        try:
            told = json.loads(path.read_text())
            if told.pop("format") != _FORMAT:
                raise Wrong(f"{path}: of another format")
            attacks = tuple(Attack(**each) for each in told.pop("attacks"))
            return cls(**told, attacks=attacks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Wrong(f"{path}: cannot be read: {error}; make attacks writes it") from None


def read(path: Path) -> tuple[Attack, ...]:
    """What tests have added to a file, in the order of the page; Wrong where it would not make one.

    A test that is there twice, with few tries and with many, is told with the many.
    """
    try:
        lines = [Attack(**json.loads(line)) for line in path.read_text().splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise Wrong(f"{path}: cannot be read: {error}") from None
    found: dict[str, Attack] = {}
    for each in lines:
        if each.figure not in found or found[each.figure].tries <= each.tries:
            found[each.figure] = each
    _judge(lines)
    order = list(KINDS)
    return tuple(sorted(found.values(), key=lambda each: (order.index(each.kind), each.test, each.what)))


def _judge(attacks: Iterable[Attack]) -> None:
    there = set()
    for each in attacks:
        there.add(each.kind)
        if each.kind not in KINDS:
            raise Wrong(f"{each.figure}: of no kind that the page has")
        if each.wrongly:
            raise Wrong(f"{each.figure}: {each.wrongly} of {each.tries} came through")
        if not (each.tries and each.rightly and each.control and each.test):
            raise Wrong(f"{each.figure}: was not tried, or has no control")
    if missing := [kind for kind in KINDS if kind not in there]:
        raise Wrong(f"nothing was attacked in this way: {', '.join(missing)}")
