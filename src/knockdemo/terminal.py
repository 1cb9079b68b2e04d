"""How knockdemo speaks to people: the one place where user-facing text has rules.

Results go to standard output. Everything else goes to standard error, prefixed with the program's
name, without capitals and full stops, an error on one line with one line of hint below it.
Exit status: 0 it worked, 1 it worked and the answer is no, 2 it could not be done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from knockgate.errors import ConfigError, KnockgateError, Unavailable

__all__ = ["complain", "open_output", "run", "say", "write_output"]


def say(program: str, text: str) -> None:
    """Print one line to standard error under the program's name.

    A line that nobody takes (the reader left, the disk is full) is lost, and no reason to stop guarding.
    """
    with contextlib.suppress(OSError, ValueError):
        print(f"{program}: {text}", file=sys.stderr, flush=True)


def complain(program: str, error: KnockgateError) -> int:
    """Print the error and its hint; returns the exit status 2."""
    say(program, str(error))
    if error.hint:
        with contextlib.suppress(OSError, ValueError):
            print(f"  hint: {error.hint}", file=sys.stderr, flush=True)
    return 2


def run(program: str, main: Callable[[], int]) -> int:
    """Call ``main`` and turn a user's mistake into a line and a status instead of a traceback."""
    try:
        status = main()
        if sys.stdout:  # None where it was closed before we began
            sys.stdout.flush()  # here, where what goes wrong is still our business
    except KnockgateError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # The reader of our output left (`| head`), or there is no room. Python would try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise  # not about our output, so a bug
        say(program, f"the output cannot be written: {error.strerror}")
        return 2
    return status


def open_output(name: str | None) -> IO[str] | None:
    """Open the file that a report goes to before the work begins; ``-`` is standard output. ConfigError.

    What the file holds is kept until ``write_output``.
    """
    if name is None:
        return None
    if name == "-":
        return sys.stdout
    try:
        return Path(name).open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write there: {error.strerror}", file=name, key="--json") from None


def write_output(output: IO[str], text: str) -> None:
    """Put ``text`` in place of what the file held; Unavailable when it cannot be written."""
    if output is sys.stdout:
        print(text, end="")
        return
    try:
        with output:
            if stat.S_ISREG(os.fstat(output.fileno()).st_mode):
                output.truncate(0)
            output.write(text)
    except OSError as error:
        raise Unavailable(f"{output.name} cannot be written: {error.strerror}") from None
