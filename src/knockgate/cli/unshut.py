"""What stands open without a knock, for ``status``: shadows, pauses, and networks that are always let in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from knockgate.cli.phrases import columns, time_in_words
from knockgate.config.doors import Configuration, Door
from knockgate.config.unshut import network_text, networks_in_words, shadow_in_words
from knockgate.model import Pause, Port, Shadow, Shadowed, address_text

if TYPE_CHECKING:
    from knockgate.firewall.nftables import Nftables

__all__ = ["Unshut"]

#: Sources that are told to people; --json tells all that are remembered.
_TOLD = 20


@dataclass(frozen=True)
class Unshut:
    """What was found of a table, and what its configuration says."""

    configuration: Configuration
    pauses: list[Pause]
    shadow: Shadow
    room: int  #: for sources, of each family and answer

    @classmethod
    def of(cls, configuration: Configuration, firewall: Nftables) -> Self:
        """Ask the kernel."""
        from knockgate.firewall.doorway import SHADOW_SOURCES  # noqa: PLC0415 - see cli

        shadow = firewall.shadow()
        dark = {port for door in configuration.doors if configuration.in_shadow(door) for port in door.ports}
        shadow = Shadow(
            {port: count for port, count in shadow.dropped.items() if port in dark},
            {port: count for port, count in shadow.passed.items() if port in dark},
            [each for each in shadow.sources if each.port in dark],
        )
        return cls(configuration, sorted(firewall.pauses()), shadow, SHADOW_SOURCES)

    @property
    def any_door(self) -> bool:
        """Whether some door lets everybody in."""
        return bool(self.pauses) or any(map(self.configuration.in_shadow, self.configuration.doors))

    @property
    def no_door_is_shut(self) -> bool:
        """Whether all are in shadow."""
        return all(self.configuration.in_shadow(door) for door in self.configuration.doors if door.ports)

    def state(self, door: Door) -> str | None:
        """``paused`` or ``shadow``; None for a door that is neither."""
        if self._left(door):
            return "paused"
        return "shadow" if self.configuration.in_shadow(door) else None

    def state_in_words(self, door: Door) -> str | None:
        """The same for people."""
        match self.state(door):
            case "paused":
                return f"PAUSED for {time_in_words(self._left(door))}"
            case "shadow":
                return "IN SHADOW, not shut"
        return None

    # --- for programs ---

    def facts(self) -> dict[str, object]:
        """Times in seconds; ``shadow`` is null where no door is in shadow."""
        dark = [door for door in self.configuration.doors if self.configuration.in_shadow(door)]
        return {
            "allow": {
                "*": [network_text(network) for network in self.configuration.gate.allow],
                **{
                    door.name: [network_text(network) for network in door.allow]
                    for door in self.configuration.doors
                    if door.allow
                },
            },
            "paused": [
                {
                    "door": self._door_name(pause.port),
                    "port": str(pause.port),
                    "left": pause.left,
                    "lasts": pause.lasts,
                }
                for pause in self.pauses
            ],
            "shadow": {
                "doors": {
                    door.name: {"would_drop": self._dropped(door), "would_pass": self._passed(door)}
                    for door in dark
                },
                "sources": [
                    {
                        "source": address_text(each.source),
                        "door": self._door_name(each.port),
                        "port": str(each.port),
                        "connections": each.connections,
                        "seconds_ago": round(each.ago, 1),
                        "would_drop": each.would_drop,
                    }
                    for each in self.shadow.sources
                ],
            }
            if dark
            else None,
        }

    # --- for people ---

    def first_lines(self, *, in_force: bool) -> Iterator[str]:
        """What is to be known before all else; ``in_force``: the table was made from the configuration."""
        if in_force and (dark := shadow_in_words(self.configuration)):
            yield f"{dark}; what would be dropped is counted below"
        for left, names in self._paused().items():
            yield f"PAUSED, everybody comes in: {', '.join(names)}, for {left}; `knockgate resume` ends it"

    def lines(self) -> Iterator[str]:
        """The rest."""
        of_gate = self.configuration.gate.allow
        allowed = [f"all doors for {networks_in_words(of_gate)}"] if of_gate else []
        allowed += [
            f"{door.name} for {networks_in_words(door.allow)}"
            for door in self.configuration.doors
            if door.allow
        ]
        if allowed:
            yield ""
            yield f"always open: {'; '.join(allowed)}"
        rows = [
            (door.name, _connections(self._dropped(door)), _connections(self._passed(door)))
            for door in self.configuration.doors
            if self.configuration.in_shadow(door)
        ]
        if rows:
            yield ""
            yield columns([("IN SHADOW", "WOULD BE KEPT OUT", "WOULD BE LET IN"), *rows])
        if sources := self.shadow.sources:
            yield ""
            header = ("LAST", "SOURCE", "DOOR", "PORT", "CONNECTIONS", "WOULD BE")
            yield columns([header, *map(self._row, sources[:_TOLD])])
            if len(sources) > _TOLD:
                yield f"and {len(sources) - _TOLD} more in the last 24 hours; --json tells of them"
        full = Counter((each.would_drop, len(each.source)) for each in sources)
        if max(full.values(), default=0) >= self.room:
            yield f"there were more sources than the {self.room} that are remembered; the doors count all"

    def _row(self, each: Shadowed) -> tuple[str, ...]:
        return (
            f"{time_in_words(each.ago)} ago",
            address_text(each.source),
            self._door_name(each.port) or "?",
            str(each.port),
            str(each.connections),
            "kept out" if each.would_drop else "let in",
        )

    def _paused(self) -> dict[str, list[str]]:
        """By the time that is left: doors, and ports of no door any more."""
        found: dict[str, list[str]] = {}
        for pause in self.pauses:
            names = found.setdefault(time_in_words(pause.left), [])
            name = self._door_name(pause.port) or f"{pause.port} (no door any more)"
            if name not in names:
                names.append(name)
        return found

    def _left(self, door: Door) -> float:
        return max((self._left_at.get(port, 0.0) for port in door.ports), default=0.0)

    @cached_property
    def _left_at(self) -> dict[Port, float]:
        return {pause.port: pause.left for pause in self.pauses}

    def _dropped(self, door: Door) -> int:
        return sum(self.shadow.dropped.get(port, 0) for port in door.ports)

    def _passed(self, door: Door) -> int:
        return sum(self.shadow.passed.get(port, 0) for port in door.ports)

    def _door_name(self, port: Port) -> str | None:
        return self._names.get(port)

    @cached_property
    def _names(self) -> dict[Port, str]:
        return {port: door.name for door in self.configuration.doors for port in door.ports}


def _connections(number: int) -> str:
    return "1 connection" if number == 1 else f"{number} connections"
