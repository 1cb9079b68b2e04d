"""Values of fwknop's files -> ours. Each raises ``Wrong``, and remarks on what fwknop reads but nobody meant.

fwknop reads numbers with strtol(3) and takes what it cannot read for 0; here that is refused.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

from knockgate.config.fwknop.findings import Remark
from knockgate.config.readers import Network
from knockgate.config.toml import Wrong, shown
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode

__all__ = [
    "encryption_mode",
    "hash_kind",
    "is_yes",
    "networks",
    "passphrase",
    "plain",
    "ports",
    "secret_from_base64",
    "whole",
]

_OWN_LINE = "a comment stands on a line of its own"


def plain(value: str) -> str:
    """The value if it is text in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong("is no text in UTF-8", "only a passphrase may hold other bytes") from None
    return value


def is_yes(value: str) -> bool:
    """``Y`` or ``N``, or a word that begins with it; fwknop takes all else for N."""
    first = value[:1].lower()
    if first not in ("y", "n"):
        raise Wrong(f"{shown(plain(value))} is neither Y nor N", "fwknop takes it for N; write Y or N")
    return first == "y"


def whole(value: str, low: int, high: int, remark: Remark) -> int:
    """The number that the value begins with."""
    read = re.match(r"[0-9]{1,10}(?![0-9])", value)
    if not read:
        raise Wrong(f"{shown(plain(value))} is no number", f"a whole number from {low} to {high}")
    number = int(read[0])
    if not low <= number <= high:
        raise Wrong(f"{number} is not between {low} and {high}")
    if read.end() < len(value):
        remark(f"what follows {number} is passed over, as by fwknop")
    return number


def ports(value: str, remark: Remark) -> tuple[Port, ...]:
    """``tcp/22, udp/53``; one that stands there twice counts once."""
    return tuple(dict.fromkeys(_port(item.strip(), remark) for item in plain(value).split(",")))


def _port(item: str, remark: Remark) -> Port:
    protocol, _, number = item.partition("/")
    if protocol.lower() not in ("tcp", "udp"):
        raise Wrong(f"{shown(item)} is no port", "such as tcp/22 or udp/53, with commas between them")
    return Port(Protocol[protocol.upper()], whole(number, 1, 65535, remark))


def networks(value: str) -> tuple[Network, ...]:
    """``ANY`` or ``10.0.0.0/8, 192.0.2.7``; none where it is anywhere. fwknop knows IPv4 alone."""
    found: list[Network] = []
    everywhere = False
    for item in map(str.strip, plain(value).split(",")):
        if item.upper() == "ANY":
            everywhere = True
            continue
        try:
            found.append(ipaddress.IPv4Network(item, strict=False))
        except ValueError:
            hint = _OWN_LINE if "#" in item else "such as 192.0.2.7, 10.0.0.0/8 or ANY"
            raise Wrong(f"{shown(item)} is no IPv4 address or network", hint) from None
        mask = item.partition("/")[2]
        if "." in mask and mask != str(found[-1].netmask):  # Python takes 0.0.0.255 for /24
            raise Wrong(f"{shown(mask)} is no mask of the first bits", "such as 10.0.0.0/8")
        if found[-1].prefixlen == 0:
            raise Wrong(f"{shown(item)} is everywhere, which fwknopd does not take", "write ANY")
    return () if everywhere else tuple(dict.fromkeys(found))


def passphrase(value: str) -> bytes:
    """A secret as it stands there, whatever bytes it is made of."""
    if value.upper() == "__CHANGEME__":
        raise Wrong("has no value yet", "take the line away, or give it the secret")
    return value.encode("utf-8", "surrogateescape")


def secret_from_base64(value: str) -> bytes:
    """As fwknop reads it: ``=`` at the end may be missing, and what follows one does not count."""
    passphrase(value)  # whether it is one at all
    digits = value.partition("=")[0]
    if not re.fullmatch(r"[A-Za-z0-9+/]*", digits):
        raise Wrong("is no base64", "copy it whole")
    if len(digits) % 4 == 1:  # six bits, of which no byte can be made
        digits = digits[:-1]
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise Wrong("is no base64", "copy it whole") from None


def hash_kind(value: str) -> Hash:
    """``sha256`` and its like."""
    try:
        return Hash(value.lower())
    except ValueError:
        names = ", ".join(each.value for each in Hash)
        raise Wrong(f"{shown(plain(value))} is no hash that fwknop knows", names) from None


def encryption_mode(value: str) -> Mode:
    """``CBC`` and its like."""
    if value.lower() == "asymmetric":
        raise Wrong(
            "is GnuPG, which this gate does not speak", "a pair of keys takes its place: knockgate key new"
        )
    try:
        return Mode(value.lower())
    except ValueError:
        names = ", ".join(each.value for each in Mode)
        raise Wrong(f"{shown(plain(value))} is no mode that fwknop knows", names) from None
