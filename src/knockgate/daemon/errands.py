"""What is said to the runner: run what this door runs for this source. Whether it was taken comes back.

A message on a SOCK_SEQPACKET socket, JSON, at most 4096 bytes, and an answer of 9 bytes::

    {"door": "ssh", "source": "192.0.2.7", "seconds": 30.0, "date": 5021.25}
    date 8 (a double in network order) | 1: taken, 0: not

``source`` may be a network, as ``2001:db8:1:2::/64``. ``seconds`` is null where the lease is the door's own.
``date`` is by CLOCK_BOOTTIME: what waits for a runner that is not there must not open a door when nobody
expects it any more. It names a door of the configuration that both sides read, never a command.
"""

from __future__ import annotations

import json
import math
import struct
import time
from dataclasses import dataclass, field

from knockgate.config.doors import Door
from knockgate.daemon.link import Surprise
from knockgate.model import Source, address_text, source_of

__all__ = ["ENDS_WITHIN", "LONGEST", "OPENS_WITHIN", "Answer", "Errand", "boottime"]

#: Seconds in which a runner ends that is asked to or that nobody can ask any more: it waits for commands.
ENDS_WITHIN = 15.0

LONGEST = 4096
#: Seconds after a knock in which its opening command may begin: `knockgate knock` waits as long (--timeout).
#: Who was not let in by then has gone, or knocks again. Never longer than the lease: then the ports are shut.
OPENS_WITHIN = 5.0
#: But as long as this, the shortest lease of ports: doors without any may have one of 0 s.
_AT_LEAST = 1.0
_ANSWER = struct.Struct("!d?")


def boottime() -> float:
    """Seconds since the boot, asleep or awake."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, order=True)
class Errand:
    """Run the commands of ``door`` for ``source``. Two errands for the same are equal."""

    door: str
    source: Source
    seconds: float | None = field(default=None, compare=False)  #: of the lease; None: the door's own
    date: float = field(default_factory=boottime, compare=False)  #: of the knock

    def lease_at(self, door: Door) -> float:
        """Seconds that its door, which is this one, stays open."""
        return door.lease if self.seconds is None else min(self.seconds, door.most)

    def good_for(self, door: Door) -> float:
        """Seconds from its date on in which the opening command may begin."""
        return min(OPENS_WITHIN, max(self.lease_at(door), _AT_LEAST))

    def encode(self) -> bytes:
        """The message."""
        source = address_text(self.source)
        message = {"door": self.door, "source": source, "seconds": self.seconds, "date": self.date}
        return json.dumps(message).encode()

    @classmethod
    def decode(cls, message: bytes) -> Errand:
        """Raises Surprise for what is no such message."""
        try:
            if len(message) > LONGEST:
                raise ValueError("it is too long")
            said = json.loads(message)
            if not isinstance(said, dict) or said.keys() != {"door", "source", "seconds", "date"}:
                raise ValueError("it has not the four keys")
            door, source, seconds, date = said["door"], said["source"], said["seconds"], said["date"]
            # ip_address() takes numbers for addresses, and any text behind a % for an IPv6 scope: what it
            # gives back as text could still hold a command. Bytes cannot.
            if not isinstance(door, str) or not isinstance(source, str) or "%" in source:
                raise ValueError("it names no door or no address")
            if seconds is not None and not (type(seconds) is float and 0 < seconds < math.inf):
                raise ValueError("its lease is no time")
            if not (type(date) is float and 0 <= date < math.inf):
                raise ValueError("its date is none")
            return cls(door, source_of(source), seconds, date)
        except (ValueError, RecursionError) as error:
            raise Surprise(f"a message that is no errand: {error}") from None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the runner says of an errand, which is known by its date."""

    date: float
    taken: bool  #: it is run, or need not be, for the door stands open

    def encode(self) -> bytes:
        """9 bytes."""
        return _ANSWER.pack(self.date, self.taken)

    @classmethod
    def decode(cls, message: bytes) -> Answer:
        """Raises Surprise for what is no such message."""
        if len(message) != _ANSWER.size:
            raise Surprise(f"an answer of {len(message)} bytes")
        return cls(*_ANSWER.unpack(message))
