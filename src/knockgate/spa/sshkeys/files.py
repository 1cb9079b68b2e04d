"""``authorized_keys(5)``: the keys in a file's octets, and what is wrong with the lines that have none.

A line is read as sshd reads it: blanks in front are nothing; ``#`` in front makes a comment; what begins
with a kind of key has no options. A bad line costs itself and nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from knockgate.errors import ConfigError
from knockgate.spa.sshkeys.flaws import BadKey, Flaw
from knockgate.spa.sshkeys.keys import PublicKey, is_kind
from knockgate.spa.sshkeys.options import Local, Options, parse, shown

__all__ = ["MOST_LINES", "MOST_OCTETS", "Authorized", "Listing", "read"]

MOST_OCTETS = 256 * 1024
MOST_LINES = 4096

_WORD = re.compile(rb"[^ \t]+")
# Up to a blank that is in no quotation marks. Outside of them too, a backslash makes a mark a character.
_OPTIONS = re.compile(rb"""(?:[^" \t]|(?<=\\)"|".*?(?<!\\)")+""", re.DOTALL)


class Authorized(NamedTuple):
    """A line with a key that can knock."""

    key: PublicKey
    options: Options
    comment: str
    line: int  #: counted from 1


class Listing(NamedTuple):
    """What a file says. A key may be there more than once: sshd takes the first line that lets it in."""

    keys: tuple[Authorized, ...]
    flaws: tuple[BadKey, ...]  #: each with its line
    authorities: int  #: lines that trust certificates: they are passed over


def read(octets: bytes, *, ours: bool, local: Local) -> Listing:
    """All lines. Raises ConfigError only where the file is too large.

    ``ours``: it is the gate's own, and no sshd reads it. ``local`` is ``time.mktime``.
    """
    if len(octets) > MOST_OCTETS:
        raise ConfigError(
            f"the file has more than {MOST_OCTETS // 1024} KiB", hint="divide it, or clear it up"
        )
    lines = octets.split(b"\n")
    if len(lines) - (not lines[-1]) > MOST_LINES:
        raise ConfigError(f"the file has more than {MOST_LINES} lines", hint="divide it, or clear it up")
    keys, flaws, authorities = [], [], 0
    for number, line in enumerate(lines, 1):
        text = line.lstrip(b" \t").rstrip(b" \t\r")
        if not text or text.startswith(b"#"):
            continue
        try:
            options, key, comment = _line(text, ours=ours, local=local)
        except BadKey as bad:
            flaws.append(BadKey(bad.flaw, bad.key or "", line=number))
            continue
        if key is None:
            authorities += 1
        else:
            keys.append(Authorized(key, options, comment, number))
    return Listing(tuple(keys), tuple(flaws), authorities)


def _line(text: bytes, *, ours: bool, local: Local) -> tuple[Options, PublicKey | None, str]:
    """Options, key and comment; no key where it is an authority's. Raises BadKey."""
    if b"\0" in text:
        raise BadKey(Flaw.ZERO_BYTE)
    options = Options()
    name, at = _word(text, 0)
    if not is_kind(name):
        written = _OPTIONS.match(text)
        if not written or text[written.end() : written.end() + 1] not in (b"", b" ", b"\t"):
            raise BadKey(Flaw.QUOTES)
        name, at = _word(text, written.end())
        if not is_kind(name):
            # An option that sshd does not know, or a line that never was one: the name tells.
            raise BadKey(Flaw.NO_KEY, shown(name))
        options = parse(written[0], ours=ours, local=local)
    if options.cert_authority:
        return options, None, ""
    encoded, at = _word(text, at)
    key = PublicKey.of_text(name, encoded)
    return options, key, text[at:].strip(b" \t\r\v\f").decode("utf-8", "backslashreplace")


def _word(text: bytes, at: int) -> tuple[bytes, int]:
    """The next word and where it ends; empty where there is none."""
    found = _WORD.search(text, at)
    return (found[0], found.end()) if found else (b"", len(text))
