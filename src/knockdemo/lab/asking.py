"""What the questions ask with: everybody's eyes, the wire, and where the answers are noted."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from knockdemo import client as knocking
from knockdemo.lab.hosts import Actor, Site
from knockdemo.lab.processes import Daemons
from knockdemo.lanes import Lane, Sender
from knockdemo.observer import Passing, read_passing
from knockdemo.scan import PortSeen, scan, scan_command
from knockgate.daemon import control
from knockgate.errors import Unavailable

__all__ = ["Asking", "Heard", "Wire", "wire_time"]

#: ``gate.run_directory``, as it is by default; /run is the lab's own.
GATE_SOCKETS = "/run/knockgate"


def wire_time() -> float:
    """The clock by which the kernel stamps packets: the time of day, in seconds."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Wire:
    """What the observer sees, as it sees it."""

    def __init__(self, observer: Actor, python: Sequence[str]) -> None:
        command = observer.command([*python, "-m", "knockdemo.observer", "watch", "--interface", "to-host"])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(observer.environment),
        )
        if self._process.stdout is None or self._process.stderr is None:
            raise AssertionError("both are pipes")
        if self._process.stderr.readline() != "watching\n":
            raise Unavailable("the observer sees nothing")
        self._seen: list[Passing] = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._seen.append(read_passing(line))

    def since(self, at: float) -> list[Passing]:
        """What has passed since a time of day. What passed just now may not be there yet."""
        return [passing for passing in list(self._seen) if passing.at >= at]

    def knock_of(self, sender: str, doors: Sequence[int], at: float) -> list[Passing]:
        """The packets of a knock: all that ``sender`` opened since ``at`` but for the doors themselves."""
        return [p for p in self.since(at) if p.source == sender and not p.answer and p.port not in doors]


class Heard(NamedTuple):
    """How much of what a daemon says was there at some time."""

    characters: int  #: of its log
    counted: Mapping[str, int]  #: sealed packets that it had refused, by reason


_NOTHING = Heard(0, {})


@dataclass
class Asking:
    """Everything the questions need, and what they found out."""

    site: Site
    daemons: Daemons
    lanes: Sequence[Lane]
    window: int
    wire: Wire
    python: Sequence[str]
    rc_file: Path
    ssh_key: str  #: the client's, as its .pub file has it
    gate: Callable[[int], Sequence[str]]  #: ``knockgate``, by a clock that is so many seconds ahead
    tell: Callable[[str, float | None], None]  #: progress: what is going on, and seconds left of a wait
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    knocks: dict[str, list[Passing]] = field(default_factory=dict)
    #: Who sends from the client's address: whatever it opens between two steps resets its sequence.
    client_sends: threading.Lock = field(default_factory=threading.Lock)

    def note(self, lane: Lane, /, **cells: object) -> None:
        """Write down answers."""
        self.notes.setdefault(lane.NAME, {"why": dict(lane.WHY)}).update(cells)

    def why(self, lane: Lane, cell: str, reason: str | None) -> None:
        """Write down the reason for an answer, if there is one."""
        if reason:
            self.notes[lane.NAME]["why"][cell] = reason

    def heard(self, lane: Lane) -> Heard:
        """What the lane's daemon has said until now: ``words`` tells what came after."""
        return Heard(len(self.daemons.log(lane.UNITS[-1])), self._counted())

    def words(self, lane: Lane, since: Heard = _NOTHING) -> str | None:
        """The reason that the lane's daemon gave for the last knock that it turned away, None for none."""
        counted = self._counted()
        counted.subtract(since.counted)
        return lane.last_words(self.daemons.log(lane.UNITS[-1])[since.characters :], +counted)

    def _counted(self) -> Counter[str]:
        """Sealed packets that were refused, by reason; empty where no gate runs."""
        try:
            told = control.ask(GATE_SOCKETS)["sealed"]
        except Unavailable:
            return Counter()
        return Counter(told["refused"] if told else {})

    @property
    def doors(self) -> list[int]:
        """The ports that the lanes guard."""
        return [lane.PORT for lane in self.lanes]

    def sender(self, *, ipv6: bool = False) -> Sender:
        """The client, ready to knock."""
        actor = self.site.client

        def wait_open(host: str, port: int, seconds: float) -> float | None:
            return self.wait_open(actor, host, port, seconds)

        address = actor.address6 if ipv6 else actor.address4
        client = [*self.python, str(knocking.__file__)]
        return Sender(address, actor.run, wait_open, client, self.rc_file, self.gate)

    def wait_open(self, actor: Actor, host: str, port: int, seconds: float) -> float | None:
        """Short probes until the port answers; the seconds it took, None if it did not."""
        source = actor.address6 if ":" in host else actor.address4
        with actor.inside():
            return knocking.wait_open(host, port, source=source, timeout_s=seconds)

    def door(self, actor: Actor, lane: Lane, host: str | None = None) -> str:
        """A door's state in one probe: open, closed or filtered."""
        return self.state(actor, lane.PORT, host)

    def state(self, actor: Actor, port: int, host: str | None = None) -> str:
        """The same of any port."""
        host = host or self.site.host.address4
        source = actor.address6 if ":" in host else actor.address4
        with actor.inside():
            return knocking.probe(host, port, source=source, timeout_s=0.2)

    def scan(
        self, actor: Actor, ports: Sequence[int], *, version: bool = False, ipv6: bool = False
    ) -> dict[int, PortSeen]:
        """What nmap sees of the host from where ``actor`` is."""
        mine = actor.address6 if ipv6 else actor.address4
        address = self.site.host.address6 if ipv6 else self.site.host.address4
        # Several live on the wire's one device: nmap must be told whose address to take.
        shared = actor.device != "eth0"
        command = scan_command(
            address,
            ports,
            version=version,
            source=mine if shared else None,
            interface=actor.device if shared else None,
        )
        seen = scan(actor.run, command)
        if missing := set(ports) - seen.keys():
            raise Unavailable(f"nmap says nothing about {', '.join(map(str, sorted(missing)))}")
        return seen

    def expect_shut(self) -> None:
        """Wait until no door is open for anybody; raises Unavailable for one that does not close."""
        deadline = time.monotonic() + self.window + 10
        hosts = (self.site.host.address4, self.site.host.address6)
        with ThreadPoolExecutor() as pool:
            while True:
                found = {
                    f"{lane.NAME} for the {actor.name} at {host}": pool.submit(self.door, actor, lane, host)
                    for lane in self.lanes
                    for actor in (self.site.client, *self.site.strangers)
                    for host in hosts
                }
                still = [door for door, state in found.items() if state.result() != "filtered"]
                self.daemons.expect_alive()
                if not still:
                    return
                left = deadline - time.monotonic()
                if left < 0:
                    raise Unavailable(f"after {self.window + 10} s still not shut: door {still[0]}")
                self.tell(f"waiting until all doors are shut ({still[0]} is not)", left)
