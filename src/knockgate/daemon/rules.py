"""``knockgate-rules.service``: put the table in force and end, as ``knockgate up`` does without a trial.

Nothing stays to own it, so whoever flushes all tables takes it away; the unit is started again with
nftables.service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from knockgate.config.toml import several
from knockgate.daemon.arguments import Parser
from knockgate.daemon.lasttime import guard_or_last_time, keep
from knockgate.daemon.link import COULD_NOT_START
from knockgate.daemon.log import say, say_why
from knockgate.daemon.origin import Origin
from knockgate.errors import KnockgateError
from knockgate.firewall.nftables import Nftables

__all__ = ["PROGRAM", "main"]

PROGRAM = "knockgate-rules"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 once it is in force, 2 with a line and a hint where it is not."""
    parser = Parser(prog=PROGRAM, description="Put the table in force, and end.")
    Origin.add_arguments(parser)
    parser.add_argument("--last", metavar="FILE", type=Path, help="rules for when the configuration is wrong")
    arguments = parser.parse_args(argv)
    try:
        with Nftables(own=True) as firewall:
            guard = guard_or_last_time(PROGRAM, Origin.of(arguments), firewall, arguments.last)
            if arguments.last:
                keep(PROGRAM, guard, arguments.last)
    except KnockgateError as error:
        say_why(PROGRAM, error)
        sys.exit(COULD_NOT_START)
    if waiting := [door.name for door in guard.configuration.doors if door.needs_daemon]:
        say(PROGRAM, f"without the daemon no knock opens {several(waiting)}")
    sys.exit(0)
