"""The listener's end of the link to the runner: asks, does not wait, and hears what was taken.

A runner that cannot start leaves a socket behind that takes errands all the same. So a door that only runs
commands counts as open when the runner has said that it took them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from knockgate.config.doors import Door
from knockgate.daemon.errands import LONGEST, Answer, Errand
from knockgate.daemon.log import Event, Record, Seldom
from knockgate.daemon.records import at
from knockgate.daemon.ward import Gone
from knockgate.model import Source, address_text

__all__ = ["Asked"]

#: Seconds that an answer may be under way.
_UNDER_WAY = 0.5
#: What is said of a door without ports; the others are open, but for their commands.
_NOT_OPENED = Record(event=Event.NOT_OPENED)
_NOT_RUN = Record(event=Event.COMMAND)


class _Waiting(NamedTuple):
    door: Door
    source: Source
    until: float  # by the monotonic clock
    then: Callable[[], None] | None


class Asked:
    """What the runner was asked for, until it answers or it is too late for that."""

    def __init__(self, link: socket.socket, seldom: Seldom) -> None:
        """``link`` does not block; ``seldom`` says what was not run."""
        self._link, self._seldom = link, seldom
        self._waiting: dict[float, _Waiting] = {}

    def fileno(self) -> int:
        """Of the link, for whoever waits for it."""
        return self._link.fileno()

    def ask(self, door: Door, source: Source, seconds: float | None, then: Callable[[], None] | None) -> None:
        """Have it run what the door runs; ``then`` is called once it has taken that. Raises Gone."""
        errand = Errand(door.name, source, seconds)
        until = time.monotonic() + errand.good_for(door) + _UNDER_WAY
        waiting = _Waiting(door, source, until, then)
        try:
            self._link.send(errand.encode())
        except BlockingIOError:
            self._not_taken(waiting, "the runner has too much to do")
        except OSError as error:
            raise Gone(f"the runner is gone: {error.strerror}") from None
        else:
            self._waiting[errand.date] = waiting

    def hear(self) -> None:
        """Take an answer. Raises Gone where nobody is left to give any, and Surprise for what is none."""
        try:
            message = self._link.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            raise Gone("the runner is gone")
        answer = Answer.decode(message)
        waiting = self._waiting.pop(answer.date, None)
        if waiting and not answer.taken:
            self._not_taken(waiting, "the runner refused, see its log")
        elif waiting and waiting.then:
            waiting.then()

    def next_wakeup(self) -> float | None:
        """When to call ``tick``, by the monotonic clock; None for never."""
        return min((each.until for each in self._waiting.values()), default=None)

    def tick(self) -> None:
        """Give up what it is too late for: the runner would refuse it now."""
        now = time.monotonic()
        for date, waiting in list(self._waiting.items()):
            if waiting.until <= now:
                del self._waiting[date]
                self._not_taken(waiting, "the runner does not answer, so it will not run them either")

    def _not_taken(self, waiting: _Waiting, why: str) -> None:
        door, source = waiting.door, waiting.source
        if door.ports:
            line, record = f"commands of {door.name} are not run for {address_text(source)}", _NOT_RUN
        else:
            line, record = f"{door.name} is not opened for {address_text(source)}", _NOT_OPENED
        self._seldom.say(f"commands {door.name}", f"{line}: {why}", at(record, door, source))
