"""``knockgate status``: what is shut, what is open for whom and until when, and who guards it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from knockgate.cli.page import Page
from knockgate.cli.phrases import clock_in_words, columns, opened_by, time_in_words
from knockgate.cli.unshut import Unshut
from knockgate.cli.words import configuration, seconds
from knockgate.config.doors import Configuration, Door
from knockgate.config.toml import Reader, Wrong, duration
from knockgate.daemon.control import Facts
from knockgate.daemon.origin import Origin
from knockgate.errors import Unavailable
from knockgate.model import Lease, Port, Source, address_text

__all__ = ["State", "look", "status"]


def _every(value: str | float) -> float:
    """Not ``status --watch FILE``, which reads well and is something else."""
    try:
        found: float = _INTERVAL.read(value)
    except Wrong as wrong:
        if isinstance(value, str) and not value[:1].isdigit():
            raise Wrong(wrong.message, "a FILE goes before --watch, or after --config") from None
        raise
    return found


_INTERVAL = duration(0.1, 86400)
_SECONDS = seconds(Reader(_INTERVAL.says, _every))


@click.command(cls=Page)
@configuration(file=True)
@click.option(
    "--watch",
    "every",
    metavar="[SECONDS]",
    is_flag=False,
    flag_value="1",
    type=_SECONDS,
    help="Go on, and look again every second, or every so many.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
def status(origin: Origin, *, every: float | None, as_json: bool) -> int:
    """Say what is shut, what is open, for whom and for how long.

    Changes nothing. Needs root, since it asks the kernel. It works without the daemon; where one runs,
    it also says what was opened of late, and how often a bound of the rules was exhausted. Of doors in
    shadow it says who would have been kept out, and who let in.

    With --watch it goes on until Ctrl-C, or q on a terminal, which it then has to itself: leases count
    down, NEW marks what was opened, refused or otherwise changed within the last ten seconds. A daemon
    that ends is told of, and so is one that answers again. Where the output is no terminal there is all
    of it once, and from then on a block for each look at which something had changed: the time, and a
    line for each thing. With --json there is an object a line for each look, changed or not, which has
    `time` (seconds since 1970), `changes` and `error` besides. A changed file is read again. Where a look
    takes long, since there are thousands of leases, there are fewer of them.

    Exit status: 0 the doors are guarded; 1 they are not, because the table is not loaded or was made
    from another configuration, or because a door is in shadow or paused; 2 it could not be found out.
    With --watch 0 once it was begun, whatever it has seen.

    For example:

        knockgate status
        knockgate status --json | jq '.leases[] | select(.door == "ssh")'
        knockgate status --watch
        knockgate status --watch 10 --json | jq --unbuffered -r '.changes[]'
    """
    if every is not None:
        from knockgate.cli.watch import watch  # noqa: PLC0415 - see cli

        return watch(origin, every, as_json=as_json)
    state = look(origin.load())
    click.echo(json.dumps(state.facts()) if as_json else "\n".join(state.lines()))
    return 0 if state.guarded else 1


@dataclass(frozen=True)
class State:
    """What was found."""

    configuration: Configuration
    loaded: bool
    in_force: bool  #: the table is loaded, and was made from this configuration
    leases: list[Lease]
    unshut: Unshut
    warden: Facts | None  #: of a daemon that runs
    daemon: dict[str, Any] | None  #: what its listener tells (``daemon.control.ask``)
    trial: float | None  #: seconds until `up --confirm` rolls back
    new: Collection[object] = ()  #: leases to be marked: port, source and what gave it

    @property
    def guarded(self) -> bool:
        """Whether all doors are shut for who has no lease."""
        return self.in_force and not self.unshut.any_door

    # --- for programs ---

    def facts(self) -> dict[str, object]:
        """Times in seconds; ``left`` is null for a lease without an end."""
        return {
            "loaded": self.loaded,
            "in_force": self.in_force,
            "guarded": self.guarded,
            "guard": self._guard(),
            "trial": self.trial,
            "doors": [
                {
                    "name": door.name,
                    "ports": [str(port) for port in door.ports],
                    "opened_by": opened_by(door),
                    "state": self._door_state(door),
                    "sources": len(self._sources(door)),
                    "needs_daemon": self._needs_daemon(door),
                }
                for door in self.configuration.doors
            ],
            "leases": [
                {
                    "door": self.door_of(lease.port),
                    "source": address_text(lease.source),
                    "port": str(lease.port),
                    "left": None if math.isinf(lease.left) else lease.left,
                    "lasts": None if math.isinf(lease.lasts) else lease.lasts,
                    "by": lease.by,
                }
                for lease in self.leases
            ],
            **self.unshut.facts(),
            "daemon": self.daemon,
        }

    def _guard(self) -> str:
        if not self.loaded:
            return "none"
        if self.warden is None:
            return "kernel"
        return "owned" if self.warden.owned else "watched"

    def _door_state(self, door: Door) -> str:
        if not self.loaded and door.ports:
            return "unguarded"
        if not door.ports:
            return "commands"
        if not self.in_force:
            return "unknown"
        if state := self.unshut.state(door):
            return state
        return "open" if self._sources(door) else "shut"

    def _needs_daemon(self, door: Door) -> bool:
        """Whether some knocks for it open nothing, because nobody hears them."""
        return self.daemon is None and door.needs_daemon

    def _sources(self, door: Door) -> set[Source]:
        return {source for port in door.ports for source in self._by_port.get(port, ())}

    @cached_property
    def _by_port(self) -> dict[Port, set[Source]]:
        found: dict[Port, set[Source]] = {}
        for lease in self.leases:
            found.setdefault(lease.port, set()).add(lease.source)
        return found

    def door_states(self) -> dict[str, str]:
        """By the names of the doors; open and shut are two."""
        return {door.name: self._door_state(door) for door in self.configuration.doors}

    def door_of(self, port: Port) -> str | None:
        """Its name; None for a port that no door has any more."""
        return self._doors.get(port)

    @cached_property
    def _doors(self) -> dict[Port, str]:
        return {port: door.name for door in self.configuration.doors for port in door.ports}

    # --- for people ---

    def lines(self) -> Iterator[str]:
        """The same as text."""
        from knockgate.doctor.surroundings import on_interface  # noqa: PLC0415 - see cli

        yield from self.unshut.first_lines(in_force=self.in_force)
        words = self._guard_in_words()
        yield words.replace("guarded", "watched", 1) if self.unshut.no_door_is_shut else words
        if self.loaded and not self.in_force:
            yield "ANOTHER CONFIGURATION is in force, not this one. `knockgate up` puts this one in force"
        if self.trial is not None:
            yield f"on trial: rolled back in {time_in_words(self.trial)} unless you say `knockgate confirm`"
        for advice in on_interface(self.configuration):
            yield f"NOT GUARDED: {advice.message}; {advice.hint}"
        yield ""
        yield columns(
            [("DOOR", "PORTS", "STATE", "OPENED BY"), *map(self._door_row, self.configuration.doors)]
        )
        if self.leases:
            yield ""
            yield columns([("OPEN FOR", "DOOR", "PORT", "ENDS IN", "OF", "GIVEN BY"), *self._lease_rows()])
        yield from self.unshut.lines()
        yield from self._daemon_lines()

    def _guard_in_words(self) -> str:
        if self.warden and self.daemon is None:
            return "guarded by the daemon, but its listener does not answer: it begins, or has died"
        match self._guard():
            case "none":
                return "NOT LOADED: nothing is guarded. `knockgate up` loads the table"
            case "kernel":
                return "guarded by the kernel alone; no daemon runs"
            case "owned":
                return "guarded, and the table is the daemon's own: nobody else can change it"
        times = self.warden.restored if self.warden else 0
        often = "not so far" if not times else "once so far" if times == 1 else f"{times} times so far"
        return f"guarded, and the daemon puts the table back where somebody removes it ({often})"

    def _door_row(self, door: Door) -> tuple[str, ...]:
        state = self._door_state(door)
        if state == "open":
            number = len(self._sources(door))
            state = "open for 1 source" if number == 1 else f"open for {number} sources"
        elif state == "commands":
            state = "runs commands"
        elif state != "shut":
            state = (self.unshut.state_in_words(door) if self.in_force else None) or state.upper()
        by = opened_by(door) + (" (nobody listens)" if self._needs_daemon(door) else "")
        return door.name, ", ".join(map(str, door.ports)) or "none", state, by

    def _lease_rows(self) -> Iterator[tuple[str, ...]]:
        for lease in self.leases:
            yield (
                address_text(lease.source),
                self.door_of(lease.port) or "no door any more",
                str(lease.port),
                time_in_words(lease.left),
                time_in_words(lease.lasts),
                lease.by + (", NEW" if (lease.port, lease.source, lease.by) in self.new else ""),
            )

    def _daemon_lines(self) -> Iterator[str]:
        if not self.daemon:
            return
        recent = self.daemon["recent"]
        if recent:
            rows = [
                (
                    f"{time_in_words(each['seconds_ago'])} ago",
                    each["door"] or "?",
                    each["source"] or "?",  # the kernel does not always tell
                    each["by"],
                )
                for each in recent
            ]
            yield ""
            yield columns([("OPENED", "DOOR", "FOR", "BY"), *rows])
        exhausted = {name: number for name, number in self.daemon["bounds"].items() if number}
        for name, number in exhausted.items():
            yield ""
            yield f"{_BOUNDS.get(name, name)} (reported {number} times, at most once a second)"
        if packets := self.daemon.get("packets"):
            yield ""
            yield from _packet_lines(packets)
        if sealed := self.daemon.get("sealed"):
            yield ""
            yield from _sealed_lines(sealed)


def _packet_lines(packets: dict[str, Any]) -> Iterator[str]:
    """What became of single packets."""
    refused = ", ".join(f"{number} {reason}" for reason, number in sorted(packets["refused"].items()))
    yield f"packets: opened {packets['opened']} doors; refused: {refused or 'none'}"
    for each in packets["recent_refused"][:_REFUSALS]:
        yield f"  {time_in_words(each['seconds_ago'])} ago {each['key']}: {each['why']}"
    if not packets["synchronised"]:
        yield "  the clock is not synchronised: how old a packet is does not count, and none is forgotten"
    if packets["remembered"] >= packets["room"]:
        yield f"  STORE FULL: {packets['remembered']} packets are remembered, and no more can be opened for"


def _sealed_lines(sealed: dict[str, Any]) -> Iterator[str]:
    """What became of sealed knocks; `knockgate explain` tells of each."""
    refused = ", ".join(f"{number} {reason}" for reason, number in sorted(sealed["refused"].items()))
    keys = "1 ssh key" if sealed["keys"] == 1 else f"{sealed['keys']} ssh keys"
    yield f"sealed knocks of {keys}: {sealed['opened']} opened; refused: {refused or 'none'}"
    clock = sealed["clock"]
    if clock["state"] != "sure" or not clock["vouched"]:
        yield f"  {clock_in_words(clock)}"
    if sealed["refused"]:
        yield "  `knockgate explain` says why"


#: Refused knocks of keys that are told; --json tells all that the daemon remembers.
_REFUSALS = 10
_BOUNDS = {
    "crowded": "knocks were lost: too many sources at once, more than sources and hurried of [gate]",
    "paced": "knocks were lost: a source knocked more than ten times a second",
    "leases_full": "knocks opened nothing: there were more leases than leases of [gate]",
}


def look(found: Configuration) -> State:
    """Ask the kernel, and the daemon where one answers; raises Unavailable where the kernel does not."""
    from knockgate.cli.gate import warden  # noqa: PLC0415 - see cli
    from knockgate.cli.trial import seconds_left  # noqa: PLC0415 - see cli
    from knockgate.daemon.control import ask  # noqa: PLC0415 - see cli
    from knockgate.firewall.names import mark_of  # noqa: PLC0415 - see cli
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    with Nftables(own=False) as firewall:
        loaded, leases, mark = firewall.is_loaded(), firewall.leases(), firewall.in_force()
        unshut = Unshut.of(found, firewall)
    facts = told = None
    with warden(found) as client, contextlib.suppress(Unavailable):  # either half may end while we ask
        if client:
            facts = client.ping()
            told = ask(found.gate.run_directory)
    leases.sort(key=lambda lease: (lease.source, lease.port, lease.left))
    return State(
        configuration=found,
        loaded=loaded,
        in_force=loaded and mark == mark_of(found),
        leases=leases,
        unshut=unshut,
        warden=facts,
        daemon=told,
        trial=seconds_left(found.gate.run_directory),
    )
