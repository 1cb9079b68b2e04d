"""The rules that were in force last, in a file: what guards at boot while gate.toml is wrong.

A gate that opens all doors because of a slip of the pen would be the wrong way round. Sequences of the kernel
go on to work by these rules; all else waits until the configuration is put right.
"""

from __future__ import annotations

import errno
from pathlib import Path

from knockgate.config import private
from knockgate.daemon.guard import Guard
from knockgate.daemon.log import say, say_why
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.firewall.nftables import Nftables

__all__ = ["guard_or_last_time", "keep"]

#: Bytes; 10,000 doors are a tenth of it.
_LARGEST = 1 << 26


def guard_or_last_time(program: str, origin: Origin, firewall: Nftables, last: Path | None) -> Guard:
    """What the configuration says, put in force; where it is wrong the rules of ``last``, and ConfigError."""
    try:
        guard = Guard(origin, firewall)
    except ConfigError:
        if last:
            _put_in_force(program, last, firewall)
        raise
    guard.load()
    return guard


def keep(program: str, guard: Guard, last: Path) -> None:
    """Put the rules on the disk; a gate guards as well without them."""
    try:
        private.replace(last, guard.ruleset)
    except Unavailable as error:
        say_why(program, error)


def _put_in_force(program: str, last: Path, firewall: Nftables) -> None:
    """Load the rules of last time, if nothing is in force."""
    try:
        if firewall.in_force() is None:
            hints = {errno.ENOENT: "no configuration was ever in force here"}
            text = private.read(last, _LARGEST, kind="the rules of last time", hints=hints)
            firewall.load(text.decode())
        say(program, "the doors are guarded as they were last")
    except (KnockgateError, UnicodeDecodeError) as error:
        say(program, f"NOTHING IS GUARDED: {error}")
