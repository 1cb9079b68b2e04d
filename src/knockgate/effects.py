"""Two closed unions: events are the only way into the core, effects the only way out.

A mechanism is fed an ``Event`` with the time and answers with effects; it never waits, reads,
writes or logs. So a test of it is a list of calls, and a packet capture replays exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from knockgate.errors import Reason
from knockgate.model import Claim, Moment, Observation, Port, Source, Token

__all__ = [
    "ClaimLine",
    "ClaimSettled",
    "ClaimToken",
    "DatagramSeen",
    "Effect",
    "Event",
    "KnockRefused",
    "KnockTaken",
    "OpenDoor",
    "PacketEffect",
    "PacketPassed",
    "PacketSeen",
    "Rearmed",
    "RunCommands",
    "Story",
    "Tick",
    "TokenSettled",
]


@dataclass(frozen=True, slots=True)
class PacketSeen:
    """A packet for this host came in."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class PacketPassed:
    """A packet came in that is for a machine behind this host."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; what has run out may be forgotten."""


@dataclass(frozen=True, slots=True)
class ClaimSettled:
    """The answer to a ``ClaimLine``: whether the line is spent now, durably, and by this knock alone."""

    door: str
    source: Source
    line: int
    claimed: bool


@dataclass(frozen=True, slots=True)
class Rearmed:
    """What opens a door with one-time sequences from now on; without ``steps`` nothing does any more."""

    door: str
    line: int  #: where in its file the sequence stands, counted from 1
    steps: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class DatagramSeen:
    """A datagram came in on the port of single packets."""

    payload: bytes
    sender: Source  #: claimed by whoever sent it
    moment: Moment


@dataclass(frozen=True, slots=True)
class TokenSettled:
    """The answer to a ``ClaimToken``."""

    token: Token
    claim: Claim
    moment: Moment


#: What sequences are fed on.
Event = PacketSeen | PacketPassed | Tick | ClaimSettled | Rearmed


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Let ``source`` through ``door``, for ``seconds`` or as long as the door's lease says."""

    door: str
    source: Source
    seconds: float | None = None
    key: str | None = None  #: the name of the key that asked for it


@dataclass(frozen=True, slots=True)
class ClaimLine:
    """Spend a line of the door's one-time sequences for ``source``; nothing opens before it is settled."""

    door: str
    source: Source
    line: int  #: counted from 1


@dataclass(frozen=True, slots=True)
class RunCommands:
    """Run what the door runs on opening for ``source``, and what closes it when the lease ends."""

    door: str
    source: Source
    seconds: float | None = None  #: of the lease; None: as long as the door's says


@dataclass(frozen=True, slots=True)
class ClaimToken:
    """Spend a token, durably; nothing opens before it is settled."""

    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is known of a sealed knock, for whoever has to find out why it did or did not open.

    Before the signature is known to be good there is no ``key``, and all the rest is what somebody with the
    card has written.
    """

    card: str  #: the name of the card that it was made with
    suite: str  #: ``xwing`` or ``x25519``
    sender: Source
    source: Source = b""  #: who was to be let in; 8 bytes are an IPv6 /64
    stated: bool = False  #: whether the knock names that address
    key: str | None = None  #: who has signed it
    fingerprint: bytes = b""  #: SHA-256 of the SSH public key
    device: bytes = b""
    doors: tuple[str, ...] = ()
    era: int = 0
    issued: int = 0  #: nanoseconds since 1970, by its sender's clock
    lease: int = 0  #: seconds that were asked for
    skew: float | None = None  #: seconds that the sender's clock is behind ours; None: the gate has no clock


@dataclass(frozen=True, slots=True)
class KnockTaken:
    """A sealed knock was let through; its doors are opened by effects of their own."""

    story: Story


@dataclass(frozen=True, slots=True)
class KnockRefused:
    """A knock was turned away. One without a key is a stranger's: it is counted, never logged by itself."""

    reason: Reason
    key: str | None = None  #: the name of the key that made it
    sender: Source = b""
    source: Source = b""  #: who was to be let in, where that was asked for
    skew: float | None = None  #: seconds that the sender's clock is behind ours; negative: ahead of it
    asked: str = ""  #: what it asked for that it may not have
    story: Story | None = None  #: of a sealed knock, as far as it was read


#: What sequences answer, and what packets of fwknop's do.
Effect = OpenDoor | ClaimLine | RunCommands
PacketEffect = OpenDoor | ClaimToken | RunCommands | KnockRefused
