"""How knockdemo speaks to people: the one place where user-facing text has rules.

Results go to standard output. Everything else goes to standard error, prefixed with the program's
name, without capitals and full stops, an error on one line with one line of hint below it.
Exit status: 0 it worked, 1 it worked and the answer is no, 2 it could not be done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from knockgate.errors import KnockgateError

__all__ = ["complain", "run", "say"]


def say(program: str, text: str) -> None:
    """Print one line to standard error under the program's name."""
    print(f"{program}: {text}", file=sys.stderr, flush=True)


def complain(program: str, error: KnockgateError) -> int:
    """Print the error and its hint; returns the exit status 2."""
    say(program, str(error))
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr, flush=True)
    return 2


def run(program: str, main: Callable[[], int]) -> int:
    """Call ``main`` and turn a user's mistake into a line and a status instead of a traceback."""
    try:
        return main()
    except KnockgateError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left (`| head`): not our error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
