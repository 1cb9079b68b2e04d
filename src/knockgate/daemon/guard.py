"""The configuration in force and its table; a copy of leases and pauses, should both have to be put back.

Where the kernel lets us own the table nobody else can remove it, and there is nothing to copy. Elsewhere
the leases are copied about once a second, because the kernel opens doors by itself and tells no one who
could be asked afterwards; with very many of them less often, so that copying never takes more than a
twentieth of a core. What we did ourselves since the last copy is done again after it.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door, RunsIn
from knockgate.daemon.link import (
    ANY_CHECKSUM,
    EVERY_DOOR,
    LONGEST_BY_HAND,
    LONGEST_PAUSE,
    Reply,
    Request,
    Status,
    Verb,
)
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError, Unavailable
from knockgate.firewall.names import mark_of
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import NETWORK_SIZE, Port, Source

__all__ = ["Guard"]

_BY_DAEMON, _BY_PACKET, _BY_HAND = "daemon sequence", "packet", "hand"

#: Seconds between two copies of the leases, at least; and how many times longer than copying takes.
_COPY_EVERY, _COPY_SHARE = 1.0, 20.0


class _Refusal(Exception):
    """A request that is understood and not granted."""

    def __init__(self, status: Status, says: str) -> None:
        super().__init__(says)
        self.status, self.says = status, says


class _Done(NamedTuple):
    """What was done with leases and pauses since they were copied."""

    ports: Sequence[Port]
    sources: Collection[Source] | None  # None: it is about a pause, for everybody
    ends: float | None  # monotonic time; None where they were closed
    by: str


class Guard:
    """Puts a configuration in force and answers for it.

    ``owned`` tells whether nobody else can change the table, ``restored`` how often it was put back.
    """

    def __init__(self, origin: Origin, firewall: Nftables) -> None:
        """Reads the configuration; raises ConfigError."""
        self.configuration = origin.load()
        self.restored = 0
        self.owned = False
        self._origin = origin
        self._firewall = firewall
        self._copy = firewall.copy()
        self._since: list[_Done] = []
        self._copy_at = math.inf
        self._ruleset = ""

    def load(self) -> None:
        """Put the configuration in force, taking over a table that is there, with its leases."""
        self._put_in_force(self.configuration)

    def reload(self, expected: bytes = ANY_CHECKSUM) -> bool:
        """Read the configuration again and put it in force; False where it is not the ``expected`` one.

        Then nothing has changed, nor where it raises ConfigError or Unavailable.
        """
        new = self._origin.load()
        if expected not in (ANY_CHECKSUM, new.checksum):
            return False
        # The sockets lie in the one, and in the other what was taken and what is still to be closed.
        for name in ("run_directory", "state_directory"):
            if getattr(new.gate, name) != getattr(self.configuration.gate, name):
                raise ConfigError(
                    "cannot change while the daemon runs",
                    file=new.file or None,
                    key=f"gate.{name}",
                    hint="stop it and start it again",
                )
        _expect_interface(new)
        self._put_in_force(new)
        self.configuration = new
        return True

    @property
    def ruleset(self) -> str:
        """The rules of the configuration, as text that loads where nothing is in force."""
        return self._ruleset

    def is_in_force(self) -> bool:
        """Whether the rules are there; somebody may have emptied a table that is not ours alone."""
        return self._firewall.in_force() == mark_of(self.configuration)

    def _put_in_force(self, configuration: Configuration) -> None:
        stale, grace = self._firewall.chains(), not self._firewall.is_loaded()
        self._firewall.load(compile_ruleset(configuration, stale_chains=stale, grace=grace))
        self.owned = self._firewall.owned
        self._ruleset = compile_ruleset(configuration)
        self._take_copy()

    # --- the copy -------------------------------------------------------------------------------------

    def next_copy(self) -> float | None:
        """When ``copy_if_due`` wants to be called; None for never."""
        return None if math.isinf(self._copy_at) else self._copy_at

    def copy_if_due(self, now: float) -> bool:
        """Read the leases where it is time for it; whether it was."""
        due = now >= self._copy_at
        if due:
            self._take_copy()
        return due

    def _take_copy(self) -> None:
        if self.owned:
            self._copy_at = math.inf
            return
        began = time.monotonic()
        if self._copy.take():
            self._since.clear()
        done = time.monotonic()
        self._copy_at = done + max(_COPY_EVERY, _COPY_SHARE * (done - began))

    def put_back(self) -> int:
        """Load the table again after it was removed, with the leases that are known; how many copies.

        Raises Unavailable where the kernel refuses.
        """
        self._firewall.load(self._ruleset)
        self.owned = self._firewall.owned
        count = self._copy.put_back()
        for done in self._since:
            left = (done.ends or 0) - time.monotonic()
            if done.sources is None:
                self._firewall.pause(done.ports, max(0.0, left))
            elif done.ends is None:
                self._firewall.close(done.ports, done.sources)
            elif left > 0:
                for source in done.sources:
                    self._firewall.open(done.ports, source, left, done.by)
        self.restored += 1
        return count

    def _did(
        self, ports: Sequence[Port], sources: Collection[Source] | None, ends: float | None, by: str
    ) -> None:
        if not self.owned:
            self._since.append(_Done(ports, sources, ends, by))

    # --- requests -------------------------------------------------------------------------------------

    def answer(self, request: Request, *, by_hand: bool) -> Reply:
        """Do what is asked, within the limits; ``by_hand`` it is root's request, else the listener's.

        ``reload`` and ``hear`` are not for here.
        """
        try:
            value = self._done(request, by_hand=by_hand)
        except _Refusal as refusal:
            return Reply(refusal.status, request.number, owned=self.owned, says=refusal.says)
        except Unavailable as error:
            return Reply(Status.KERNEL, request.number, owned=self.owned, says=str(error))
        return Reply(Status.DONE, request.number, value, owned=self.owned)

    def _done(self, request: Request, *, by_hand: bool) -> int:
        if request.verb is Verb.PING:
            return self.restored
        if request.verb is Verb.LEASES:
            return len(self._firewall.leases())
        if request.checksum != self.configuration.checksum:
            raise _Refusal(Status.OTHER_CONFIGURATION, "another configuration is in force")
        if request.verb is Verb.OPEN:
            self._open(request, by_hand=by_hand)
            return 0
        if request.verb is Verb.CLOSE and by_hand:
            return self._close(request)
        if request.verb is Verb.PAUSE and by_hand:
            return self._pause(request)
        raise _Refusal(Status.NOT_ALLOWED, f"{request.verb.name.lower()} is not for this socket")

    def _open(self, request: Request, *, by_hand: bool) -> None:
        doors = self.configuration.doors
        if request.door >= len(doors):
            raise _Refusal(Status.NO_SUCH_DOOR, f"there is no door {request.door}")
        door = doors[request.door]
        if not door.ports:
            raise _Refusal(Status.NOT_ALLOWED, f"door {door.name} guards no port")
        if not request.source:
            raise _Refusal(Status.NOT_ALLOWED, "a door is opened for one address or one network")
        if by_hand:
            seconds = request.milliseconds / 1000
            if not 1 <= seconds <= LONGEST_BY_HAND:
                raise _Refusal(Status.NOT_ALLOWED, "a lease lasts from 1 second to 30 days")
            self._begin(door, request.source, seconds, _BY_HAND)
        elif request.milliseconds:
            self._open_for_key(door, request)
        else:
            # The kernel's doors are none of the listener's business: their knocks never come to it.
            if door.runs_in is not RunsIn.DAEMON:
                raise _Refusal(Status.NOT_ALLOWED, f"door {door.name} is not the daemon's to open")
            if len(request.source) == NETWORK_SIZE:
                raise _Refusal(Status.NOT_ALLOWED, "nobody knocks a sequence for a whole network")
            self._begin(door, request.source, door.lease, _BY_DAEMON)

    def _open_for_key(self, door: Door, request: Request) -> None:
        seconds = request.milliseconds / 1000
        if not door.keyed:
            raise _Refusal(Status.NOT_ALLOWED, f"door {door.name} is for no key")
        if not 1 <= seconds <= door.most:
            raise _Refusal(Status.NOT_ALLOWED, f"door {door.name} is not opened for {seconds:g} s")
        self._begin(door, request.source, seconds, _BY_PACKET)

    def _begin(self, door: Door, source: Source, seconds: float, by: str) -> None:
        self._firewall.open(door.ports, source, seconds, by)
        self._did(door.ports, [source], time.monotonic() + seconds, by)

    def _ports_of(self, request: Request) -> list[Port]:
        doors = self.configuration.doors
        if request.door != EVERY_DOOR and request.door >= len(doors):
            raise _Refusal(Status.NO_SUCH_DOOR, f"there is no door {request.door}")
        chosen = doors if request.door == EVERY_DOOR else (doors[request.door],)
        return [port for door in chosen for port in door.ports]

    def _pause(self, request: Request) -> int:
        """It ends in the kernel, whatever becomes of us."""
        seconds = request.milliseconds / 1000
        if request.source:
            raise _Refusal(Status.NOT_ALLOWED, "a pause is for everybody")
        if seconds and not 1 <= seconds <= LONGEST_PAUSE:
            raise _Refusal(Status.NOT_ALLOWED, "a pause lasts from 1 second to 24 hours")
        if not (ports := self._ports_of(request)):
            raise _Refusal(Status.NOT_ALLOWED, "that guards no port")
        before = {pause.port for pause in self._firewall.pauses()}
        if request.door == EVERY_DOOR and not seconds:
            ports = list(before)  # also those of doors that there are no more
        self._firewall.pause(ports, seconds)
        self._did(ports, None, time.monotonic() + seconds if seconds else None, _BY_HAND)
        return len(ports) if seconds else len(before.intersection(ports))

    def _close(self, request: Request) -> int:
        ports = self._ports_of(request)
        if request.source:
            sources = {request.source}
        else:
            sources = {lease.source for lease in self._firewall.leases() if lease.port in ports}
        closed = self._firewall.close(ports, sources)
        self._did(ports, sources, None, "")
        return closed


def _expect_interface(configuration: Configuration) -> None:
    """At boot it may still be to come; one that appears in a file later is a slip of the pen."""
    name, there = configuration.gate.interface, [each for _, each in socket.if_nameindex()]
    if name and name not in there:
        raise ConfigError(
            f"no interface {name} is there, so no door would be guarded",
            file=configuration.file or None,
            key="gate.interface",
            hint=f"there are: {', '.join(there)}",
        )
