"""Every variable of .fwknoprc: what it sets in a profile, or why it cannot be had.

Each reader takes the draft of a profile, the value and a function for remarks, and raises ``Wrong``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from knockgate.config.fwknop import words
from knockgate.config.fwknop.findings import Remark, not_done
from knockgate.config.toml import Wrong, shown
from knockgate.model import Port
from knockgate.spa.fwknop import Hash, Mode
from knockgate.spa.fwknop.fields import USERNAME

__all__ = ["VARIABLES", "Draft"]


@dataclass(slots=True)
class Draft:
    """What the lines of a stanza, after those of [default], come to."""

    host: str = ""
    allow: str = ""  #: an address or ``observed``; empty: nothing was said, or to be asked for
    asks: bool = False  #: who is to be let in is asked of ``url``
    url: str = ""
    asks_without_tls: bool = False
    access: tuple[Port, ...] = ()
    port: int = 62201
    lease: int = 0  #: seconds; 0: the host decides
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)  #: the secrets, by their variables
    key_file: str = ""
    wants_hmac: bool = False
    hmac: Hash | None = None
    digest: Hash = Hash.SHA256
    mode: Mode = Mode.CBC
    offset: int = 0  #: seconds
    username: str = ""
    is_ipv4: bool = False

    def secret(self, name: str) -> bytes:
        """What counts of ``NAME`` and ``NAME_BASE64``: the first, wherever they stand; empty for neither."""
        return self.secrets.get(name) or self.secrets.get(f"{name}_BASE64", b"")


_Reader = Callable[[Draft, str, Remark], None]


def _host(draft: Draft, value: str, _: Remark) -> None:
    draft.host = words.plain(value)


def _allow(draft: Draft, value: str, _: Remark) -> None:
    word = words.plain(value).lower()
    draft.asks, draft.allow = word == "resolve", ""
    if word == "source":
        draft.allow = "observed"
    elif word != "resolve":
        try:
            address = ipaddress.IPv4Address(word)
        except ValueError:
            raise Wrong(f"{shown(word)} is no IPv4 address", "an address, source or resolve") from None
        draft.allow = str(address) if int(address) else "observed"


def _asks(draft: Draft, value: str, _: Remark) -> None:
    draft.asks = draft.asks or words.is_yes(value)


def _url(draft: Draft, value: str, _: Remark) -> None:
    draft.url = words.plain(value)


def _without_tls(draft: Draft, value: str, _: Remark) -> None:
    draft.asks_without_tls = words.is_yes(value)


def _access(draft: Draft, value: str, remark: Remark) -> None:
    draft.access = words.ports(value, remark)


def _port(draft: Draft, value: str, remark: Remark) -> None:
    draft.port = words.whole(value, 1, 65535, remark)


def _lease(draft: Draft, value: str, remark: Remark) -> None:
    draft.lease = words.whole(value, 0, 65536, remark)


def _passphrase(name: str) -> _Reader:
    def reader(draft: Draft, value: str, _: Remark) -> None:
        draft.secrets[name] = words.passphrase(value)

    return reader


def _base64(name: str) -> _Reader:
    def reader(draft: Draft, value: str, remark: Remark) -> None:
        if name.removesuffix("_BASE64") in draft.secrets:
            remark(f"does not count beside {name.removesuffix('_BASE64')}, as in fwknop")
        draft.secrets[name] = words.secret_from_base64(value)

    return reader


def _key_file(draft: Draft, value: str, remark: Remark) -> None:
    if draft.secret("KEY"):
        remark("does not count beside KEY, as in fwknop")
    draft.key_file = words.plain(value)


def _wants_hmac(draft: Draft, value: str, _: Remark) -> None:
    draft.wants_hmac = draft.wants_hmac or words.is_yes(value)


def _hmac(draft: Draft, value: str, _: Remark) -> None:
    draft.hmac = words.hash_kind(value)


def _digest(draft: Draft, value: str, _: Remark) -> None:
    draft.digest = words.hash_kind(value)


def _mode(draft: Draft, value: str, _: Remark) -> None:
    draft.mode = words.encryption_mode(value)


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _offset(draft: Draft, value: str, _: Remark) -> None:
    found = re.fullmatch(r"(-?)([0-9]{1,5})([smhd]?)[a-z]*", words.plain(value).lower())
    if not found or int(found[2]) > 65536:
        raise Wrong(
            f"{shown(words.plain(value))} is no time", "such as 60s, -5m or 2h; at most 65536 of a unit"
        )
    draft.offset = int(found[2]) * _UNITS[found[3]] * (-1 if found[1] else 1)


def _username(draft: Draft, value: str, _: Remark) -> None:
    if not USERNAME.fullmatch(words.plain(value)):
        raise Wrong(f"{shown(value)} is no user name for a packet", "fwknop makes none with it either")
    draft.username = value


def _protocol(_: Draft, value: str, remark: Remark) -> None:
    word = words.plain(value).lower()
    if word not in ("udp", "udpraw"):
        raise Wrong(f"{shown(word)}: packets are sent over UDP alone", "the host must hear UDP")
    if word == "udpraw":
        remark("is the same on the wire as udp, which is used")


def _ipv4(draft: Draft, value: str, _: Remark) -> None:
    draft.is_ipv4 = words.is_yes(value)


def _not_done_if_yes(reason: str, hint: str) -> _Reader:
    def reader(_: Draft, value: str, __: Remark) -> None:
        if words.is_yes(value):
            raise Wrong(reason, hint)

    return reader


def _unused(_: Draft, __: str, remark: Remark) -> None:
    remark("is not needed here")


def _without_gpg(_: Draft, __: str, remark: Remark) -> None:
    remark("has no effect without USE_GPG")


_NAT, _NAT_HINT = "a packet that asks for NAT is not made here", "keep fwknop for this host"
_GPG, _GPG_HINT = (
    "GnuPG is not spoken here",
    "a pair of keys takes its place: knockgate key new --fwknop NAME",
)

#: Every variable of fwknop's (fwknop(8), FWKNOPRC FILE, and those that its program knows besides).
VARIABLES: dict[str, _Reader] = {
    "SPA_SERVER": _host,
    "SPA_SERVER_PORT": _port,
    "SPA_SERVER_PROTO": _protocol,
    "SPA_SOURCE_PORT": not_done("the kernel chooses the port that a packet is sent from", "take it away"),
    "RAND_PORT": _not_done_if_yes(
        "packets go to one port", "SPA_SERVER_PORT says which; knockgate listens on one"
    ),
    "ALLOW_IP": _allow,
    "ACCESS": _access,
    "FW_TIMEOUT": _lease,
    "KEY": _passphrase("KEY"),
    "KEY_BASE64": _base64("KEY_BASE64"),
    "KEY_FILE": _key_file,
    "USE_HMAC": _wants_hmac,
    "HMAC_KEY": _passphrase("HMAC_KEY"),
    "HMAC_KEY_BASE64": _base64("HMAC_KEY_BASE64"),
    "HMAC_KEY_FILE": not_done("is taken for KEY_FILE by fwknop", "put the key itself behind HMAC_KEY_BASE64"),
    "HMAC_DIGEST_TYPE": _hmac,
    "DIGEST_TYPE": _digest,
    "ENCRYPTION_MODE": _mode,
    "TIME_OFFSET": _offset,
    "SPOOF_USER": _username,
    "SPOOF_SOURCE_IP": not_done("packets are sent from this machine's own addresses", "take it away"),
    "RESOLVE_IP_HTTP": _asks,
    "RESOLVE_IP_HTTPS": _asks,
    "RESOLVE_HTTP_ONLY": _without_tls,
    "RESOLVE_URL": _url,
    "SERVER_RESOLVE_IPV4": _ipv4,
    "NAT_ACCESS": not_done(_NAT, _NAT_HINT),
    "NAT_PORT": not_done(_NAT, _NAT_HINT),
    "NAT_LOCAL": _not_done_if_yes(_NAT, _NAT_HINT),
    "NAT_RAND_PORT": _not_done_if_yes(_NAT, _NAT_HINT),
    "USE_GPG": _not_done_if_yes(_GPG, _GPG_HINT),
    "GPG_SIGNING_PW": not_done(_GPG, _GPG_HINT),
    "GPG_SIGNING_PW_BASE64": not_done(_GPG, _GPG_HINT),
    "USE_GPG_AGENT": _without_gpg,
    "GPG_RECIPIENT": _without_gpg,
    "GPG_SIGNER": _without_gpg,
    "GPG_HOMEDIR": _without_gpg,
    "GPG_EXE": _without_gpg,
    "GPG_NO_SIGNING_PW": _without_gpg,
    "WGET_CMD": _unused,
    "HTTP_USER_AGENT": _unused,
    "USE_WGET_USER_AGENT": _unused,
    "VERBOSE": _unused,
    "NO_SAVE_ARGS": _unused,
}
