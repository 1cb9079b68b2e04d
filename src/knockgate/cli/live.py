"""For commands that go on until somebody ends them: how they are ended, and a reader that leaves."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Waiting", "until_ended"]


class _Ended(BaseException):
    """A signal asks us to be gone; no ``except Exception`` on the way is to hear of it."""

    def __init__(self, number: int) -> None:
        self.number = number


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Ended(number)


@contextlib.contextmanager
def until_ended() -> Iterator[None]:
    """Ctrl-C ends the block, which is no failure; SIGTERM and SIGHUP end it, and then the process.

    So whatever the block has to put back it can put back. A signal that is ignored stays ignored.
    """
    ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, _end) for each in ours}
    ended = 0
    try:
        yield
    except KeyboardInterrupt:
        pass
    except _Ended as error:
        ended = error.number
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if ended:
        signal.signal(ended, signal.SIG_DFL)
        os.kill(os.getpid(), ended)


class Waiting:
    """Waits for files to have something, and for the reader of our output to leave."""

    def __init__(self, *descriptors: int) -> None:
        self._poll = select.poll()
        for each in descriptors:
            self._poll.register(each, select.POLLIN)
        self._output: int | None = None
        with contextlib.suppress(io.UnsupportedOperation, ValueError):  # no file: nobody can leave
            self._output = sys.stdout.fileno()
            self._poll.register(self._output, 0)

    def wait(self, seconds: float | None = None) -> set[int]:
        """Which descriptors have something, or an end; BrokenPipeError where nobody reads us any more."""
        ready = self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        found = {descriptor for descriptor, _ in ready}
        if self._output in found:
            raise BrokenPipeError
        return found
