"""Every option of access.conf: what it sets in a stanza, or why it cannot be had.

Each reader takes the stanza, the value and a function for remarks, and raises ``Wrong``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from knockgate.config.fwknop import words
from knockgate.config.fwknop.commands import command_line
from knockgate.config.fwknop.findings import Remark, not_done
from knockgate.config.fwknop.stanza import LEASE, MOST, Stanza
from knockgate.config.toml import Wrong
from knockgate.spa.fwknop.fields import USERNAME

__all__ = ["OPTIONS"]

_LONGEST_LEASE = 30 * 86400
"""Seconds that config.doors takes; fwknopd takes three times as much."""
_LAST_SECOND = 253402300799  # of the year 9999, the last that TOML can write

_Reader = Callable[[Stanza, str, Remark], None]


def _seconds(value: str, remark: Remark) -> int:
    """fwknopd takes its default for 0."""
    return words.whole(value, 0, _LONGEST_LEASE, remark)


def _senders(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.senders = words.networks(value)


def _destination(_: Stanza, value: str, remark: Remark) -> None:
    if words.networks(value):
        raise Wrong("cannot be asked for here: packets are taken at any address of this host", _INTERFACE)
    remark("is the same without it")


_INTERFACE = "interface in [gate] says where they are heard; or take the line away"


def _open_ports(stanza: Stanza, value: str, remark: Remark) -> None:
    stanza.open_ports = words.ports(value, remark)


def _restrict_ports(stanza: Stanza, value: str, remark: Remark) -> None:
    stanza.restricted = words.ports(value, remark)


def _key(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.key = words.passphrase(value)


def _key_base64(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.key = words.secret_from_base64(value)


def _hmac_key(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.hmac_key = words.passphrase(value)


def _hmac_key_base64(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.hmac_key = words.secret_from_base64(value)


def _hmac(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.hmac = words.hash_kind(value)


def _mode(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.mode = words.encryption_mode(value)


def _lease(stanza: Stanza, value: str, remark: Remark) -> None:
    stanza.lease = _seconds(value, remark) or LEASE


def _most(stanza: Stanza, value: str, remark: Remark) -> None:
    stanza.most = _seconds(value, remark) or MOST


def _expires(stanza: Stanza, value: str, _: Remark) -> None:
    """The beginning of that day, in local time without summer time: mktime(3) with tm_isdst 0."""
    found = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})", value)
    if not found:
        raise Wrong("is no date", "MM/DD/YYYY, such as 12/31/2027")
    month, day, year = map(int, found.groups())
    year += 2000 if year < 100 else 0
    try:
        time.strptime(f"{year:04}-{month}-{day}", "%Y-%m-%d")
        stanza.expires = max(1, int(time.mktime((year, month, day, 0, 0, 0, 0, 0, 0))))
    except (ValueError, OverflowError):
        raise Wrong(
            "is no date of the calendar", "MM/DD/YYYY; fwknopd counts on into the next month"
        ) from None


def _expires_epoch(stanza: Stanza, value: str, remark: Remark) -> None:
    found = re.match(r"[0-9]{1,20}", value)
    if not found or int(found[0]) > _LAST_SECOND:
        raise Wrong("is no time", "seconds since 1970, such as `date -d 2027-12-31 +%s` prints")
    stanza.expires = int(found[0])
    if found.end() < len(value):
        remark(f"what follows {found[0]} is passed over, as by fwknopd")


def _username(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.username = words.plain(value)
    if not USERNAME.fullmatch(stanza.username):
        raise Wrong("is no user name that a packet can bear", "take it out; nobody has come in with it")


def _require_source(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.observed = not words.is_yes(value)


def _cmd_open(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.cmd_open = command_line(value)


def _cmd_close(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.cmd_close = command_line(value)


def _cmd_timer(stanza: Stanza, value: str, remark: Remark) -> None:
    stanza.cmd_timer = words.whole(value, 1, _LONGEST_LEASE, remark)


def _gpg_key(stanza: Stanza, *_: object) -> None:
    stanza.uses_gpg = True


def _gpg_no_key(stanza: Stanza, value: str, _: Remark) -> None:
    stanza.uses_gpg = stanza.uses_gpg or words.is_yes(value)


def _gpg_other(*_: object) -> None:
    """Of no effect without one of the two above."""


def _without_effect(of: str) -> _Reader:
    def reader(_: Stanza, __: str, remark: Remark) -> None:
        remark(f"has no effect without {of}, which is refused")

    return reader


def _not_done_if_yes(reason: str, hint: str) -> _Reader:
    def reader(_: Stanza, value: str, remark: Remark) -> None:
        if words.is_yes(value):
            raise Wrong(reason, hint)
        remark("is the same without it")

    return reader


_ROUTER = "leave the stanza to fwknopd, or open the port of the host itself"
_RUN = "let the client log in and run it, or give the door [doors.NAME.commands]"

#: Every option of fwknopd's (fwknopd(8), ACCESS.CONF VARIABLES), and what becomes of it.
OPTIONS: dict[str, _Reader] = {
    "SOURCE": _senders,
    "DESTINATION": _destination,
    "OPEN_PORTS": _open_ports,
    "RESTRICT_PORTS": _restrict_ports,
    "KEY": _key,
    "KEY_BASE64": _key_base64,
    "HMAC_KEY": _hmac_key,
    "HMAC_KEY_BASE64": _hmac_key_base64,
    "HMAC_DIGEST_TYPE": _hmac,
    "ENCRYPTION_MODE": _mode,
    "FW_ACCESS_TIMEOUT": _lease,
    "MAX_FW_TIMEOUT": _most,
    "ACCESS_EXPIRE": _expires,
    "ACCESS_EXPIRE_EPOCH": _expires_epoch,
    "REQUIRE_USERNAME": _username,
    "REQUIRE_SOURCE_ADDRESS": _require_source,
    "REQUIRE_SOURCE": _require_source,
    "CMD_CYCLE_OPEN": _cmd_open,
    "CMD_CYCLE_CLOSE": _cmd_close,
    "CMD_CYCLE_TIMER": _cmd_timer,
    "ENABLE_CMD_EXEC": _not_done_if_yes("cannot be had: the gate runs no command that a packet names", _RUN),
    "ENABLE_CMD_SUDO_EXEC": _without_effect("ENABLE_CMD_EXEC"),
    "CMD_EXEC_USER": _without_effect("ENABLE_CMD_EXEC"),
    "CMD_EXEC_GROUP": _without_effect("ENABLE_CMD_EXEC"),
    "CMD_SUDO_EXEC_USER": _without_effect("ENABLE_CMD_EXEC"),
    "CMD_SUDO_EXEC_GROUP": _without_effect("ENABLE_CMD_EXEC"),
    "FORCE_NAT": not_done("cannot be had: the gate translates no addresses", _ROUTER),
    "FORCE_SNAT": not_done("cannot be had: the gate translates no addresses", _ROUTER),
    "FORCE_MASQUERADE": _not_done_if_yes("cannot be had: the gate translates no addresses", _ROUTER),
    "DISABLE_DNAT": _not_done_if_yes("cannot be had: the gate translates no addresses", _ROUTER),
    "FORWARD_ALL": _not_done_if_yes("cannot be had: the gate guards this host, not those behind it", _ROUTER),
    "GPG_DECRYPT_PW": _gpg_key,
    "GPG_ALLOW_NO_PW": _gpg_no_key,
    "GPG_DECRYPT_ID": _gpg_other,
    "GPG_HOME_DIR": _gpg_other,
    "GPG_EXE": _gpg_other,
    "GPG_REQUIRE_SIG": _gpg_other,
    "GPG_DISABLE_SIG": _gpg_other,
    "GPG_IGNORE_SIG_VERIFY_ERROR": _gpg_other,
    "GPG_REMOTE_ID": _gpg_other,
    "GPG_FINGERPRINT_ID": _gpg_other,
}
