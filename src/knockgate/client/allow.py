"""Whom a packet asks to let in: an address, or the way in which it is to be found.

``route`` is the address from which this machine sends to the host. Behind NAT that is not what the host
sees; there a URL that answers with the address that the world sees, or ``observed``: then the packet
names no address, and whoever sends it is let in, which is whoever intercepts it too.

A sealed knock can name the /64 of an IPv6 address as well: its host may have others in it tomorrow.
"""

from __future__ import annotations

import enum
import ipaddress
import urllib.parse

from knockgate.config.toml import Reader, Wrong, shown, text

__all__ = ["Allow", "Network", "SealedAllow", "Whoever", "allowed", "is_plain", "sealed_allowed", "url"]


class Whoever(enum.Enum):
    """Where no address is given."""

    ROUTE = "route"
    OBSERVED = "observed"


#: ``bytes`` are an address of 4 or 16 bytes; a ``str`` is a URL that answers with one.
Allow = Whoever | bytes | str
#: A /64.
Network = ipaddress.IPv6Network
#: Of a sealed knock.
SealedAllow = Allow | Network

_WAYS = '"route", "observed", or a URL that answers with the address, such as "https://ip.example/"'
_HINT = f"an address, {_WAYS}"
_PREFIX = 64

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def is_plain(allow: SealedAllow) -> bool:
    """Whether it is a URL whose answer anybody on the way can change."""
    return isinstance(allow, str) and allow.lower().startswith("http:")


def _allow(value: object) -> Allow:
    word: str = text.read(value).strip()
    if word in (each.value for each in Whoever):
        return Whoever(word)
    if "://" in word:
        return _url(word)
    try:
        found = ipaddress.ip_address(word.strip("[]"))
    except ValueError:
        raise Wrong(f"{shown(word)} is nobody to be let in", _HINT) from None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id:
        raise Wrong(f"{shown(word)} names an interface", f"without %{found.scope_id}: the host has others")
    # Such a source sends IPv4 packets.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    found = mapped or found
    if found.is_multicast or found == _BROADCAST:
        raise Wrong(f"{shown(word)} is the address of no host", "nothing comes from there")
    return Whoever.OBSERVED if found.is_unspecified else found.packed


def _sealed_allow(value: object) -> SealedAllow:
    word: str = text.read(value).strip()
    if "/" not in word or "://" in word:
        return _allow(value)
    try:
        found = ipaddress.ip_network(word)
    except ValueError:
        raise Wrong(f"{shown(word)} is nobody to be let in", f"an address, a /64, {_WAYS}") from None
    if not isinstance(found, Network):
        raise Wrong(
            f"{shown(word)} is a network of IPv4, and a knock lets in none", "one address; of IPv6 a /64, too"
        )
    if found.prefixlen != _PREFIX:
        raise Wrong(f"{shown(word)} is no /64 of IPv6", "an address; or of IPv6, which has them, its /64")
    return found


def _url(value: object) -> str:
    word: str = text.read(value).strip()
    try:
        parts = urllib.parse.urlsplit(word)
        _ = parts.port  # ValueError where it is no number
    except ValueError:
        raise Wrong(f"{shown(word)} is no URL", "such as https://ip.example/") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not word.isascii():
        raise Wrong(f"{shown(word)} is no URL of the web", "such as https://ip.example/")
    if not word.isprintable() or " " in word or parts.username is not None:
        raise Wrong("the URL has a blank, or a name before an @", "such as https://ip.example/")
    return word


allowed = Reader("address, `route`, `observed` or URL", _allow)
sealed_allowed = Reader("address, /64 of IPv6, `route`, `observed` or URL", _sealed_allow)
url = Reader("URL", _url)
