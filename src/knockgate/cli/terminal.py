"""How knockgate speaks to people: the one place where user-facing text has rules.

Results go to standard output. Everything else goes to standard error, prefixed with the program's name,
without capitals and full stops, an error on one line with one line of hint below it. Exit status: 0 it
worked, 1 it worked and the answer is no, 2 it could not be done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

import click

from knockgate.errors import KnockgateError

__all__ = ["PROGRAM", "ReaderLeft", "advise", "complain", "plain", "run", "say", "tell"]

PROGRAM = "knockgate"


class ReaderLeft(Exception):
    """Whoever read our output is gone (`| head`). Raised for BrokenPipeError, which click takes for a 1."""


def say(text: str) -> None:
    """Print one line to standard error under the program's name; a line that nobody takes is lost."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {plain(text)}", file=sys.stderr, flush=True)


def advise(hint: str | None) -> None:
    """Print the line of hint that belongs below what was just said."""
    if hint:
        with contextlib.suppress(OSError, ValueError):
            print(f"  hint: {plain(hint)}", file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """With all that could move a terminal spelled out: texts may be out of files, or of strangers."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def tell(text: str) -> None:
    """Print a line about what was done, which the exit status tells also where nobody takes the line."""
    try:
        click.echo(text)
    except OSError as error:
        _hush()
        if not isinstance(error, BrokenPipeError):
            say(f"it is done, but the output cannot be written: {error.strerror}")


def complain(error: KnockgateError) -> int:
    """Print the error and its hint; returns the exit status 2."""
    say(str(error))
    advise(error.hint)
    return 2


def run(command: Callable[[], int]) -> int:
    """Call ``command`` and turn a user's mistake into a line and a status instead of a traceback."""
    # Of our output, unless that was never there: then also that it is not open.
    failures = {errno.ENOSPC, errno.EIO, *([] if sys.stdout else [errno.EBADF])}
    _fill_what_is_closed()
    try:
        status = command()
        sys.stdout.flush()  # here, where what goes wrong is still our business
    except KnockgateError as error:
        return complain(error)
    except click.UsageError as error:
        return _complain_of_usage(error)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except ReaderLeft:
        _hush()
        return 141
    except OSError as error:
        _hush()
        if isinstance(error, BrokenPipeError):
            return 141
        if error.filename is not None or error.errno not in failures:
            raise  # not about our output, so a bug
        say(f"the output cannot be written: {error.strerror}")
        return 2
    return status


def _fill_what_is_closed() -> None:
    """Let nothing that is opened from here on become standard input, output or error by accident.

    Output that was closed stays impossible to write: a command must not end as if somebody had read it.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - the lowest that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)  # print() would take None for standard output


def _hush() -> None:
    """Let nobody try again to write what could not be written, as Python would at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain_of_usage(error: click.UsageError) -> int:
    """Print click's words for a wrong command line in our form; returns the exit status 2."""
    near = getattr(error, "possibilities", None)
    message = " ".join((error.message if near else error.format_message()).split()).rstrip(".")
    where = error.ctx.command_path if error.ctx else PROGRAM
    say(message[:1].lower() + message[1:])
    advise(f"did you mean {near[0]}?" if near else f"{where} --help shows what there is")
    return 2
