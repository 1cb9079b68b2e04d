"""``systemctl reload knockgate-warden``: as ``knockgate up``, by the unit's own control process.

The configuration is checked with all that it names, and then put in force; where it is wrong nothing changes,
and it is said why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from knockgate.daemon import log
from knockgate.daemon.arguments import Parser
from knockgate.daemon.control import WardenClient
from knockgate.daemon.link import COULD_NOT_START
from knockgate.daemon.log import say, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.run import checked
from knockgate.errors import KnockgateError

__all__ = ["PROGRAM", "main"]

PROGRAM = "knockgate-reload"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 once it is in force, 2 with a line and a hint where it is not."""
    parser = Parser(prog=PROGRAM, description="Have the warden read its configuration again.")
    Origin.add_arguments(parser)
    origin = Origin.of(parser.parse_args(argv))
    try:
        configuration = checked(origin)
        log.begin(configuration.gate.log)
        with WardenClient(configuration.gate.run_directory) as warden:
            warden.reload(configuration.checksum)
    except KnockgateError as error:
        say_why(PROGRAM, error)
        say(PROGRAM, "not reloaded, all stays as it is")
        sys.exit(COULD_NOT_START)
    sys.exit(0)
