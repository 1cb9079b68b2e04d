"""What a packet asks for, in fwknop's fields. Time and randomness are arguments, and nothing is sent here."""

from __future__ import annotations

import getpass
import ipaddress
import re

from knockgate.client.profiles import PacketProfile
from knockgate.errors import ConfigError
from knockgate.model import Source
from knockgate.spa.fwknop import Message, MessageType, Secret, seal

__all__ = ["OBSERVED", "compose", "is_behind_nat", "login_name", "pack"]

OBSERVED: Source = bytes(4)
"""0.0.0.0 instead of an address: whoever sent the packet."""

_UNSENDABLE = re.compile(r"[^ !#$%&'()\-.0-9@A-Z^_`a-z{}~]")
#: What no host on the Internet sees as a source: RFC 1918, RFC 6598, RFC 4193.
_INNER = [
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]


def login_name() -> str:
    """Who is logged in, as far as fwknop's packet can carry it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user that the system has no name for; KeyError before Python 3.13
        name = ""
    return _UNSENDABLE.sub("", name)[:48] or "unknown"


def compose(profile: PacketProfile, source: Source, now: float, nonce: str) -> Message:
    """The fields; ``source`` is who is to be let in, ``now`` seconds since 1970, ``nonce`` 16 decimal digits.

    Raises ConfigError where they do not fit into a packet.
    """
    timed = profile.lease is not None
    try:
        return Message(
            nonce=nonce,
            username=profile.username,
            issued=int(now + profile.offset),
            type=MessageType.CLIENT_TIMEOUT_ACCESS if timed else MessageType.ACCESS,
            address=source,
            ports=profile.access,
            timeout=None if profile.lease is None else int(profile.lease),
        )
    except ValueError as error:
        raise ConfigError(str(error), hint="ask for less at once") from None


def pack(
    profile: PacketProfile, secret: Secret, source: Source, *, now: float, nonce: str, salt: bytes
) -> bytes:
    """The payload of the datagram; raises ConfigError. ``nonce`` and ``salt`` are for this one alone."""
    message = compose(profile, source, now, nonce)
    try:
        return seal(message, secret, salt=salt, digest=profile.digest)
    except ValueError as error:
        raise ConfigError(str(error), hint="ask for less at once") from None


def is_behind_nat(source: Source, address: str) -> bool:
    """Whether a host at ``address``, numeric text, will hardly see ``source``, since NAT is between them."""
    inner = ipaddress.ip_address(source)
    return any(inner in network for network in _INNER) and ipaddress.ip_address(address).is_global
