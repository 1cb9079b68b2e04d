"""What is said to the runner: run what this door runs for this source. Nothing comes back.

A message on a SOCK_SEQPACKET socket, JSON, at most 4096 bytes::

    {"door": "ssh", "source": "192.0.2.7", "seconds": 30.0}

``source`` may be a network, as ``2001:db8:1:2::/64``. ``seconds`` is null where the lease is the door's own.
It names a door of the configuration that both sides read, never a command.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

from knockgate.daemon.link import Surprise
from knockgate.model import Source, address_text, source_of

__all__ = ["ENDS_WITHIN", "LONGEST", "Errand"]

#: Seconds in which a runner ends that is asked to or that nobody can ask any more: it waits for commands.
ENDS_WITHIN = 15.0

LONGEST = 4096


@dataclass(frozen=True, slots=True, order=True)
class Errand:
    """Run the commands of ``door`` for ``source``. Two errands for the same are equal."""

    door: str
    source: Source
    seconds: float | None = field(default=None, compare=False)  #: of the lease; None: the door's own

    def encode(self) -> bytes:
        """The message."""
        message = {"door": self.door, "source": address_text(self.source), "seconds": self.seconds}
        return json.dumps(message).encode()

    @classmethod
    def decode(cls, message: bytes) -> Errand:
        """Raises Surprise for what is no such message."""
        try:
            if len(message) > LONGEST:
                raise ValueError("it is too long")
            said = json.loads(message)
            if not isinstance(said, dict) or said.keys() != {"door", "source", "seconds"}:
                raise ValueError("it has not the three keys")
            door, source, seconds = said["door"], said["source"], said["seconds"]
            # ip_address() takes numbers for addresses, and any text behind a % for an IPv6 scope: what it
            # gives back as text could still hold a command. Bytes cannot.
            if not isinstance(door, str) or not isinstance(source, str) or "%" in source:
                raise ValueError("it names no door or no address")
            if seconds is not None and not (type(seconds) is float and 0 < seconds < math.inf):
                raise ValueError("its lease is no time")
            return cls(door, source_of(source), seconds)
        except (ValueError, RecursionError) as error:
            raise Surprise(f"a message that is no errand: {error}") from None
