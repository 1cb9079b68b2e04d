r"""The options in front of a key: what they say of a knock, and whether sshd takes them at all.

As in OpenSSH's ``sshauthopt_parse``: options with commas between them, names in any case, values in
quotation marks, in which ``\"`` stands for one. An empty option is let pass. What concerns sessions
(``command``, ``pty`` and their like) says nothing here, but what sshd refuses of it is refused here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from knockgate.spa.sshkeys.flaws import BadKey, Flaw
from knockgate.spa.sshkeys.sources import Sources

__all__ = ["Local", "Options", "parse"]

#: Year, month, day, hour, minute, second, then 0, 1, 0 (no summer time, as sshd has it), in the machine's
#: time zone -> seconds since 1970: ``time.mktime``.
Local = Callable[[tuple[int, int, int, int, int, int, int, int, int]], float]

_MOST = 1024
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
_VALUE = re.compile(rb'"(.*?)(?<!\\)"', re.DOTALL)  # a mark behind a backslash never ends it
_NEGATABLE = {
    b"port-forwarding",
    b"agent-forwarding",
    b"x11-forwarding",
    b"touch-required",
    b"verify-required",
    b"pty",
    b"user-rc",
}
_PLAIN = {b"restrict", b"cert-authority", b""}
_ONCE = {b"command", b"principals", b"from", b"doors", b"max-lease"}
_OURS = {b"doors", b"max-lease"}

_TIME = re.compile(rb"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z|UTC)?", re.IGNORECASE)
_NUMBER = re.compile(rb"[ \t\n\v\f\r]*\+?0*([0-9]{1,10})")  # strtonum(3)
_LAST_TUNNEL = 0x7FFFFFFD
_PERMIT = re.compile(rb"(\[[^]]*\]|[^\[:/][^:/]*|)[:/](.*)", re.DOTALL)
_ENVIRONMENT = re.compile(rb"[A-Za-z0-9_]+=.*", re.DOTALL)
_DOORS = re.compile(rb"[a-z][a-z0-9-]*(?:,[a-z][a-z0-9-]*)*")
_LEASE = re.compile(rb"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?|(\d{1,7})")


@dataclass(frozen=True, slots=True)
class Options:
    """What a line says beside its key."""

    cert_authority: bool = False
    touch: bool = True  #: a token must have been touched
    verification: bool = False  #: a token must have been given a PIN, or a finger
    sources: Sources | None = None  #: None: from everywhere
    expires: int | None = None  #: the last second, since 1970, in which the key is taken; None: it never ends
    doors: tuple[str, ...] | None = None  #: of ours: only these, ascending; None: it does not say
    longest: int | None = None  #: of ours: seconds that a lease may last; None: it does not say


def parse(text: bytes, *, ours: bool, local: Local) -> Options:
    """The options of a line, up to the blank behind them; raises BadKey.

    ``ours``: the file is the gate's own, so ``doors`` and ``max-lease`` are understood.
    """
    options, seen, at = Options(), set(), 0
    for _ in range(_MOST):
        word, at = _name(text, at)
        if text[at : at + 1] == b"=":
            if word in _OURS and not ours:
                raise BadKey(Flaw.OURS, shown(word))
            if word in _ONCE and word in seen:
                raise BadKey(Flaw.TWICE, shown(word))
            value = _VALUE.match(text, at + 1)
            if not value:
                raise BadKey(Flaw.BAD_OPTION, shown(word))
            options = _with_value(options, word, value[1].replace(b'\\"', b'"'), local)
            seen.add(word)
            at = value.end()
        else:
            options = _with_flag(options, word)
        if at == len(text):
            if b"principals" in seen and not options.cert_authority:
                raise BadKey(Flaw.PRINCIPALS)
            return options
        if text[at : at + 1] != b",":
            raise BadKey(Flaw.UNKNOWN_OPTION, shown(text[at:]))
        at += 1
    raise BadKey(Flaw.TOO_MANY)


def _name(text: bytes, at: int) -> tuple[bytes, int]:
    """The name that begins there, perhaps an empty one, in small letters; and where it ends."""
    end = at
    while end < len(text) and text[end] in _LETTERS:
        end += 1
    return text[at:end].lower(), end


def _with_flag(options: Options, name: bytes) -> Options:
    positive = name.removeprefix(b"no-")
    if positive not in _NEGATABLE and name not in _PLAIN:
        raise BadKey(Flaw.UNKNOWN_OPTION, shown(name))
    match positive:
        case b"cert-authority":
            return replace(options, cert_authority=True)
        case b"touch-required":
            return replace(options, touch=positive == name)
        case b"verify-required":
            return replace(options, verification=positive == name)
        case _:
            return options


def _with_value(options: Options, name: bytes, value: bytes, local: Local) -> Options:
    """Raises BadKey."""
    try:
        match name:
            case b"from":
                return replace(options, sources=Sources(value))
            case b"expiry-time":
                seconds = _seconds(value, local)
                return replace(options, expires=min(seconds, options.expires or seconds))
            case b"doors":
                _require(_DOORS.fullmatch(value))
                return replace(options, doors=tuple(sorted(set(value.decode().split(",")))))
            case b"max-lease":
                return replace(options, longest=_lease(value))
            case _:
                _check(name, value)
                return options
    except ValueError:
        raise BadKey(Flaw.BAD_OPTION, shown(name)) from None


def _check(name: bytes, value: bytes) -> None:
    """What says nothing of a knock: whether sshd would take it. ValueError, or BadKey."""
    match name:
        case b"command" | b"principals":
            pass
        case b"environment":
            _require(_ENVIRONMENT.fullmatch(value))
        case b"permitopen":
            _check_permit(value)
        case b"permitlisten":
            _check_permit(value if b":" in value else b"*:" + value)
        case b"tunnel":
            number = _NUMBER.fullmatch(value)
            _require(value.lower() == b"any" or (number and int(number[1]) <= _LAST_TUNNEL))
        case _:
            raise BadKey(Flaw.UNKNOWN_OPTION, shown(name))


def shown(text: bytes) -> str:
    """The beginning of something in a file, for people: in ASCII, and not much of it."""
    return text[:40].decode("ascii", "backslashreplace").encode("unicode_escape").decode()


def _require(truth: object) -> None:
    if not truth:
        raise ValueError("not as it must be")


def _check_permit(value: bytes) -> None:
    """``host:port``; a port may be ``*``. No name of one: that is in a file of the machine's."""
    match = _PERMIT.fullmatch(value)
    if not match or len(match[1]) >= 1025:
        raise ValueError("no host and port")
    number = _NUMBER.fullmatch(match[2])
    _require(match[2] == b"*" or (number and 1 <= int(number[1]) <= 65535))


def _days(year: int, month: int, day: int) -> int:
    """Since 1970, by the Gregorian calendar (Hinnant, chrono-Compatible Low-Level Date Algorithms).

    ``calendar`` knows that too, and takes the names of all languages into memory with it.
    """
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)  # so that leap days come last
    return year * 365 + year // 4 - year // 100 + year // 400 + (month * 153 + 2) // 5 + day - 719469


def _seconds(value: bytes, local: Local) -> int:
    """``YYYYMMDD[HHMM[SS]]``, with Z or UTC behind it where it is not local time -> seconds since 1970.

    A day that the month does not have is one of the next month, as in strptime(3) and mktime(3).
    """
    match = _TIME.fullmatch(value)
    if not match:
        raise ValueError("no time")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    _require(1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 61)
    try:
        if match[7]:
            seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
        else:
            seconds = int(local((year, month, day, hour, minute, second, 0, 1, 0)))
    except OverflowError:
        raise ValueError("no time of this machine's") from None
    _require(seconds > 0)
    return seconds


def _lease(value: bytes) -> int:
    """``90s``, ``1h30m`` or a number of seconds -> seconds, at least one."""
    match = _LEASE.fullmatch(value)
    if not match:
        raise ValueError("no time")
    hours, minutes, seconds, bare = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + bare
    _require(total)
    return total
