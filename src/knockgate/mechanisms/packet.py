"""Single packets of fwknop's: who made it, whether it is fresh and new, and what its key may have.

::

    DatagramSeen -> shape, HMAC over all keys -> decrypt, read -> not ahead of us -> ClaimToken
    TokenSettled -> not spent before -> fresh -> what the key may -> OpenDoor, RunCommands
                                                             else -> KnockRefused

Whatever is authentic is spent by being delivered, also where it is refused afterwards; one dated ahead of
a clock that we rely on is refused without being spent. It reads no clock and remembers nothing but the
claims that it waits for: what was spent is the store's to know.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knockgate.effects import (
    ClaimToken,
    DatagramSeen,
    KnockRefused,
    OpenDoor,
    PacketEffect,
    RunCommands,
    TokenSettled,
)
from knockgate.errors import Reason, Refused
from knockgate.mechanisms.hours import Hours, lasting
from knockgate.mechanisms.leases import Leases
from knockgate.model import Claim, Moment, Port, Source, Token
from knockgate.spa.fwknop import Keyring, Message, MessageType, Secret, Shape, unseal

__all__ = ["Bearer", "Packets", "Way"]

_ANSWERS = {
    Claim.REPLAYED: Reason.REPLAYED,
    Claim.FORGOTTEN: Reason.STALE,
    Claim.FULL: Reason.STORE_FULL,
    Claim.FAILED: Reason.STORE_UNAVAILABLE,
}
_TYPES = (MessageType.ACCESS, MessageType.CLIENT_TIMEOUT_ACCESS)

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Way:
    """What opens when one of a door's ports is asked for."""

    door: str
    lease: float  #: seconds, where none are asked for
    most: float  #: seconds that may be asked for
    runs_commands: bool = False


@dataclass(frozen=True, slots=True)
class Bearer:
    """A key: whoever has the secret may have this much."""

    key: str
    secret: Secret
    ways: Mapping[Port, Way]
    sources: Sequence[_Network] = ()  #: who may be let in; none: anybody
    senders: Sequence[_Network] = ()  #: where packets may come from; none: anywhere
    observed: bool = False  #: whether the sender is let in by a packet that names nobody
    username: str = ""  #: that a packet must bear; empty: any
    longest: float | None = None  #: seconds of its leases, at most
    leases: int | None = None  #: live ones at once, at most
    expires: float | None = None  #: seconds since 1970
    hours: Hours | None = None  #: when the key is good; None: always
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    bearer: Bearer
    message: Message
    sender: Source


class Packets:
    """Takes datagrams and answers of the store. ``concerns`` is for turning most of a flood away first."""

    def __init__(self, bearers: Sequence[Bearer], *, fresh: float) -> None:
        """``fresh``: seconds that a packet's time may be from ours. Raises ValueError for a secret twice."""
        self._bearers = list(bearers)
        self._fresh = fresh
        self._keyring = Keyring([bearer.secret for bearer in bearers])
        self._asked: dict[Token, _Asked] = {}
        self._leases = Leases()
        self.concerns = self._keyring.candidates

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All that a packet for one of the keys can look like."""
        return self._keyring.shapes

    def feed(self, event: DatagramSeen | TokenSettled) -> tuple[PacketEffect, ...]:
        """Take one event; returns what is to be done. A ``ClaimToken`` must be answered before the next."""
        if isinstance(event, TokenSettled):
            asked = self._asked.pop(event.token)
            refused = self._judge(event, asked)
            return (refused,) if refused else self._grant(asked, event.moment)
        return (self._recognise(event),)

    # --- whose it is ----------------------------------------------------------------------------------

    def _recognise(self, seen: DatagramSeen) -> PacketEffect:
        reason, known = Reason.NOT_OURS, None
        for number in self._keyring.candidates(seen.payload):
            bearer = self._bearers[number]
            try:
                message, digest = unseal(seen.payload, bearer.secret)
            except Refused as refused:
                if bearer.secret.hmac_key:
                    reason, known = refused.reason, bearer
                elif known is None:  # without an HMAC it may be anybody's
                    reason = refused.reason
                continue
            return self._ask(seen, bearer, message, digest)
        return KnockRefused(reason, known.key if known else None, seen.sender)

    def _ask(self, seen: DatagramSeen, bearer: Bearer, message: Message, digest: bytes) -> PacketEffect:
        asked = _Asked(bearer, message, seen.sender)
        source = _who(asked)
        skew = seen.moment.now - message.issued
        if seen.moment.synchronised and skew < -self._fresh:
            return KnockRefused(Reason.AHEAD, bearer.key, seen.sender, source, skew)
        token = Token(digest, message.issued, bearer.key, source)
        self._asked[token] = asked
        return ClaimToken(token)

    # --- what it may have -----------------------------------------------------------------------------

    def _judge(self, settled: TokenSettled, asked: _Asked) -> KnockRefused | None:
        skew = settled.moment.now - asked.message.issued
        refused = KnockRefused(Reason.STALE, asked.bearer.key, asked.sender, _who(asked))
        if settled.claim is not Claim.CLAIMED:
            return dataclasses.replace(
                refused,
                reason=_ANSWERS[settled.claim],
                skew=skew if settled.claim is Claim.FORGOTTEN else None,
            )
        if settled.moment.synchronised and skew > self._fresh:
            return dataclasses.replace(refused, skew=skew)
        found = _denied(asked, settled.moment)
        return dataclasses.replace(refused, reason=found[0], asked=found[1]) if found else None

    def _grant(self, asked: _Asked, moment: Moment) -> tuple[PacketEffect, ...]:
        bearer, source = asked.bearer, _who(asked)
        ways = dict.fromkeys(bearer.ways[port] for port in asked.message.ports)
        leases = {way: _seconds(asked, way, moment) for way in ways}
        wanted = {(way.door, source): seconds for way, seconds in leases.items()}
        most = bearer.leases
        if most is not None and not self._leases.take(bearer.key, wanted, most, moment.up):
            reason = Reason.TOO_MANY_LEASES
            return (KnockRefused(reason, bearer.key, asked.sender, source, asked=str(most)),)
        effects: list[PacketEffect] = []
        for way, seconds in leases.items():
            effects.append(OpenDoor(way.door, source, seconds, bearer.key))
            if way.runs_commands:
                effects.append(RunCommands(way.door, source, seconds))
        return tuple(effects)


def _who(asked: _Asked) -> Source:
    """The address that is to be let in."""
    return asked.message.address if any(asked.message.address) else asked.sender


def _seconds(asked: _Asked, way: Way, moment: Moment) -> float:
    """How long its lease is."""
    bearer = asked.bearer
    seconds = min(float(asked.message.timeout or way.lease), way.most)
    if bearer.longest is not None:
        seconds = min(seconds, bearer.longest)
    ends = () if bearer.expires is None else (bearer.expires,)
    return lasting(seconds, moment.now if moment.synchronised else None, bearer.hours, ends)


def _denied(asked: _Asked, moment: Moment) -> tuple[Reason, str] | None:
    """Why this key may not have what was asked for, and what that is; None where it may."""
    bearer, message = asked.bearer, asked.message
    if found := _denied_by_time(bearer, moment):
        return found
    if not _within(asked.sender, bearer.senders):
        return Reason.SENDER_DENIED, ""
    if bearer.username and message.username != bearer.username:
        return Reason.USER_DENIED, message.username
    if message.type not in _TYPES:
        return Reason.TYPE_DENIED, message.type.name.lower()
    if not any(message.address) and not bearer.observed:
        return Reason.UNSTATED_SOURCE, ""
    source = _who(asked)
    if not _is_a_host(source) or not _within(source, bearer.sources):
        return Reason.SOURCE_DENIED, ""
    denied = [str(port) for port in message.ports if port not in bearer.ways]
    return (Reason.PORT_DENIED, ", ".join(denied)) if denied else None


def _denied_by_time(bearer: Bearer, moment: Moment) -> tuple[Reason, str] | None:
    if bearer.revoked:
        return Reason.KEY_REVOKED, ""
    if (bearer.expires is not None or bearer.hours) and not moment.synchronised:
        return Reason.CLOCK_UNKNOWN, ""
    if bearer.expires is not None and moment.now >= bearer.expires:
        return Reason.KEY_EXPIRED, ""
    if bearer.hours and not bearer.hours.has(moment.now):
        return Reason.OUTSIDE_HOURS, bearer.hours.shown(moment.now)
    return None


def _within(source: Source, networks: Sequence[_Network]) -> bool:
    address = ipaddress.ip_address(source)
    return not networks or any(address in network for network in networks)


def _is_a_host(source: Source) -> bool:
    """Whether packets to us can come from there."""
    address = ipaddress.ip_address(source)
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or source == b"\xff\xff\xff\xff"
    )
