"""What is run when doors open and close, in which order, and what of it is on the disk.

What a command opens, a command must close, come what may. So the closing command is on the disk before
the opening one runs (``store.pending``), and goes from there when it has ended::

    a knock -> fork -> on the disk -> opening runs -> ended: on the disk
                                                          | the lease, begun anew by each further knock
                       off the disk <- closing runs <- on the disk <- fork

Whatever is on the disk at the start is closed: at its time; at once where the machine was booted since,
or where a command was broken off, for then nobody knows what it did. That command is ended first, so
that it cannot open behind our back.

A door that stands open for a source is not opened for it again: rules pile up otherwise, and a closing
command takes one of them away. A failed opening is closed all the same, for it may have done half its
work; a further knock then does not wait for that, but has it closed and opened anew.

A closing that fails is tried again, ever more slowly. In the end it is left on the disk for the next
start, or for the closing after a further knock: to forget it would leave the door open for good.
"""

from __future__ import annotations

import dataclasses
import heapq
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from knockgate.config.doors import Door
from knockgate.daemon.command import Command, Output, end_all, environment, is_running, resolved, start
from knockgate.daemon.errands import Errand, boottime
from knockgate.errors import Unavailable
from knockgate.model import address_text
from knockgate.store.pending import Pending, PendingStore

__all__ = ["AT_ONCE", "QUEUED", "STANDING", "Runner", "boottime", "escaped"]

#: Commands at once, knocks that wait for one of these places, doors that stand open.
AT_ONCE, QUEUED, STANDING = 16, 1024, 16384
#: Outputs that are still read, since something in the background holds them, although the command ended.
_LEFT_BEHIND = 64
#: Seconds until closing is tried again, and until a command that was broken off is looked at again.
_TRY_AGAIN, _LOOK_AGAIN = 1.0, 0.02
#: How often closing may fail; the time until the next try doubles, so this is a minute in all.
_TRIES = 7
#: A wait stands still while the machine sleeps, but the leases do not. Seconds.
_LONGEST_WAIT = 10.0
_CROWDED = "too many knocks at once, or too many doors stand open"
_LATE = "it was asked for too long ago"


@dataclass(slots=True)
class _Standing:
    """A door that stands open for a source, as far as we know."""

    row: Pending  # as it is on the disk, or should be
    lease: float = 0.0
    failed: bool = False  # the opening command did
    must_close: bool = False  # whatever happens, it is closed next
    again: Errand | None = None  # there was a knock nevertheless, and this was the last
    tries: int = 0  # closings that failed


@dataclass(frozen=True, slots=True)
class _Job:
    """A command that runs, for whom, and what stands open by it."""

    errand: Errand
    event: str  # open or close
    command: Command
    standing: _Standing | None


class Runner:
    """Driven by ``run``, ``step`` and ``stop``.

    Whoever has something else to wait for registers it with ``selector``, with a function as its data.
    """

    def __init__(
        self,
        doors: Iterable[Door],
        store: PendingStore,
        say: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """Take up what is still to be closed. ``say`` is given lines for the log; ``now`` is ``boottime``."""
        self.selector = selectors.DefaultSelector()
        self.refused = 0  #: knocks for which there was no room or no door
        self._store, self._now, self._log = store, now, say
        self._said: set[str] = set()
        self._stopping = False
        self._queue: deque[Errand] = deque()
        self._jobs: list[_Job] = []
        self._standing: dict[Errand, _Standing] = {}
        self._closings: list[tuple[float, Errand]] = []  # a heap: what stands open while no command runs
        self._left_behind: deque[Output] = deque()
        self.use(doors)
        for row in store.rows():
            self._take_up(row)

    def __len__(self) -> int:
        """Doors that stand open, each as often as there are sources for which it does."""
        return len(self._standing)

    @property
    def is_idle(self) -> bool:
        """No command runs."""
        return not self._jobs

    def use(self, doors: Iterable[Door]) -> None:
        """These doors can be asked for from now on; what stands open is closed as it was promised."""
        self._doors = {door.name: door for door in doors}

    def run(self, errand: Errand) -> bool:
        """Somebody knocked. False where nothing is done about it, and that is told."""
        door = self._doors.get(errand.door)
        if door is None or door.commands is None:
            return self._refuse(errand, "there is no such door with commands")
        if self._is_late(errand, door):
            return self._refuse(errand, _LATE)
        opening, closing = door.commands.for_source(errand.source)
        if not opening or self._stopping:
            return not self._stopping
        if standing := self._standing.get(errand):
            if standing.must_close or standing.failed:
                self._reopen(errand, standing)
            else:
                self._renew(errand, standing, errand.lease_at(door))
        elif closing and errand in self._queue:
            self._queue[self._queue.index(errand)] = errand  # with the later date
        elif len(self._queue) >= QUEUED or (closing and len(self._standing) >= STANDING):
            return self._refuse(errand, _CROWDED)
        else:
            self._said -= {_CROWDED, _LATE}
            self._queue.append(errand)
        return True

    def step(self, timeout: float | None = None) -> None:
        """Do what there is to do, and wait for something to happen, ``timeout`` seconds at most."""
        self._work()
        for key, _ in self.selector.select(self._patience(timeout)):
            key.data()
        self._work()

    def stop(self) -> None:
        """Start no more commands. What stands open stays so, and is on the disk for the next runner."""
        self._stopping = True
        if self._queue:
            self._say(f"{len(self._queue)} knocks that were waiting are not run")
            self._queue.clear()

    @property
    def opens(self) -> bool:
        """A command runs that opens a door."""
        return any(job.event == "open" for job in self._jobs)

    def end_openings(self) -> None:
        """End the commands that open: nobody will be there to end them in time, or to close after them.

        Those that close go on; should they fail, they are still on the disk.
        """
        for job in self._jobs:
            if job.event == "open":
                job.command.press(self._now())

    def _say(self, text: str) -> None:
        self._log(escaped(text))

    # --- knocks ---------------------------------------------------------------------------------------

    def _is_late(self, errand: Errand, door: Door) -> bool:
        return self._now() - errand.date > errand.good_for(door)

    def _refuse(self, errand: Errand, why: str) -> bool:
        """False. It is said once, until there is room again."""
        self.refused += 1
        if why not in self._said:
            self._say(f"{_named(errand)}: nothing is run, {why}; {self.refused} knocks refused so far")
        self._said.add(why)
        return False

    def _renew(self, errand: Errand, standing: _Standing, lease: float) -> None:
        row = dataclasses.replace(standing.row, due=max(standing.row.due, self._now() + lease))
        try:
            self._store.put(row)
        except Unavailable as error:
            self._say(f"{_named(errand)}: stays open no longer than before, {error}")
            return
        standing.row, standing.lease = row, lease
        self._say(f"{_named(errand)}: is open already, for another {lease:g} s")

    def _reopen(self, errand: Errand, standing: _Standing) -> None:
        standing.again = errand
        others = [each for each in self._closings if each[1] != errand]
        if len(others) < len(self._closings):  # else it is being closed this very moment
            standing.must_close = True
            standing.row = dataclasses.replace(standing.row, due=self._now())
            self._closings = [*others, (standing.row.due, errand)]
            heapq.heapify(self._closings)

    def _take_up(self, row: Pending) -> None:
        errand = Errand(row.door, row.source)
        broken_off = bool(row.process)
        if is_running(row.process, row.started):
            self._say(f"{_named(errand)}: a command of an earlier run is still running, and is ended")
            end_all(row.process, signal.SIGKILL)
        if broken_off:
            row = dataclasses.replace(row, due=0.0)
        self._standing[errand] = _Standing(row, must_close=row.due <= self._now())
        heapq.heappush(self._closings, (row.due, errand))

    # --- work -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        for job in self._jobs:
            if self._now() >= job.command.next_press:
                job.command.press(self._now())
        while len(self._jobs) < AT_ONCE and not self._stopping:
            if errand := self._due():
                self._close(errand)
            elif self._queue:
                self._open(self._queue.popleft())
            else:
                return

    def _patience(self, timeout: float | None) -> float | None:
        """How long nothing can be due."""
        waits = [job.command.next_press - self._now() for job in self._jobs]
        if self._closings and len(self._jobs) < AT_ONCE and not self._stopping:
            waits.append(min(_LONGEST_WAIT, self._closings[0][0] - self._now()))
        if timeout is not None:
            waits.append(timeout)
        return max(0.0, min(waits)) if waits else None

    def _due(self) -> Errand | None:
        """A door whose time is up, and that nothing holds open."""
        now = self._now()
        while self._closings and self._closings[0][0] <= now:
            _, errand = heapq.heappop(self._closings)
            row = self._standing[errand].row
            if row.due > now:  # a knock gave it more time
                heapq.heappush(self._closings, (row.due, errand))
            elif is_running(row.process, row.started):
                heapq.heappush(self._closings, (now + _LOOK_AGAIN, errand))
            else:
                return errand
        return None

    def _open(self, errand: Errand) -> None:
        door = self._doors.get(errand.door)
        if door is None or door.commands is None:  # not any more
            return
        if self._is_late(errand, door):
            self._refuse(errand, _LATE)
            return
        commands = door.commands
        opening, closing = (
            resolved(words, errand.source, shell=commands.shell)
            for words in commands.for_source(errand.source)
        )
        standing = None
        if closing:
            lease = errand.lease_at(door)
            row = Pending(errand.door, errand.source, closing, commands.time_limit, self._now() + lease)
            standing = _Standing(row, lease)
        try:
            self._start(errand, "open", opening, commands.time_limit, standing)
        except Unavailable as error:
            self._say(f"{_named(errand)}: not opened, {error}")
        else:
            if standing:
                self._standing[errand] = standing

    def _close(self, errand: Errand) -> None:
        standing = self._standing[errand]
        standing.must_close = True
        row = standing.row
        try:
            self._start(errand, "close", row.words, row.time_limit, standing)
        except Unavailable as error:
            self._say(f"{_named(errand)}: not closed yet, {error}")
            heapq.heappush(self._closings, (self._now() + _TRY_AGAIN, errand))

    def _start(
        self, errand: Errand, event: str, words: tuple[str, ...], limit: float, standing: _Standing | None
    ) -> None:
        def before(process: int, started: int) -> None:
            if standing is None:
                return
            standing.row = dataclasses.replace(standing.row, process=process, started=started)
            try:
                self._store.put(standing.row)
            except Unavailable:
                if event == "open":
                    raise
                # The row of before is still there: should we die now, it is closed once more.

        variables = environment(errand.door, errand.source, event)
        command = start(words, variables, now=self._now(), time_limit=limit, before=before)
        job = _Job(errand, event, command, standing)
        self._jobs.append(job)
        self.selector.register(command.watch, selectors.EVENT_READ, partial(self._ended, job))
        output = command.output
        self.selector.register(output.descriptor, selectors.EVENT_READ, partial(self._hear, output))

    # --- what commands do -----------------------------------------------------------------------------

    def _hear(self, output: Output) -> None:
        if output.is_open and not output.read():
            self._drop(output)

    def _drop(self, output: Output) -> None:
        self.selector.unregister(output.descriptor)
        os.close(output.descriptor)
        output.is_open = False
        if output in self._left_behind:
            self._left_behind.remove(output)

    def _ended(self, job: _Job) -> None:
        self._jobs.remove(job)
        self.selector.unregister(job.command.watch)
        lasted = self._now() - job.command.begun
        good, how = job.command.reap()
        output = job.command.output
        if output.is_open:
            self._hear(output)
        text = f"{_named(job.errand)}: command on {job.event} {how} after {lasted:.2f} s"
        self._say(text if good else f"{text}, and said: {output.kept.decode(errors='backslashreplace')}")
        if output.is_open:  # something in the background has it; a closed pipe would end that when it speaks
            self._left_behind.append(output)
            if len(self._left_behind) > _LEFT_BEHIND:
                self._drop(self._left_behind[0])
        if job.standing and job.event == "open":
            job.standing.failed = not good
            self._settle(job.errand, job.standing)
        elif job.standing and good:
            self._forget(job.errand, job.standing)
        elif job.standing:
            self._close_later(job.errand, job.standing)

    def _settle(self, errand: Errand, standing: _Standing) -> None:
        """It stands open, from now on for the whole lease."""
        due = self._now() + standing.lease
        standing.row = dataclasses.replace(standing.row, process=0, started=0, due=due)
        try:
            self._store.put(standing.row)
        except Unavailable as error:  # what is there says that a command was broken off: closed at a restart
            self._say(f"{_named(errand)}: {error}")
        heapq.heappush(self._closings, (due, errand))

    def _close_later(self, errand: Errand, standing: _Standing) -> None:
        """Closing failed. Its row stays on the disk as it is, which is that of a command broken off.

        Somebody who waits to be let in does not wait for further tries: often there was nothing to close.
        """
        standing.tries += 1
        if standing.tries < _TRIES and not standing.again:
            wait = _TRY_AGAIN * 2 ** (standing.tries - 1)
            heapq.heappush(self._closings, (self._now() + wait, errand))
            return
        del self._standing[errand]
        if standing.again:
            self.run(standing.again)
        else:
            self._say(f"{_named(errand)}: NOT closed, {_TRIES} tries failed; the next start tries again")

    def _forget(self, errand: Errand, standing: _Standing) -> None:
        """It is closed."""
        del self._standing[errand]
        try:
            self._store.remove(errand.door, errand.source)
        except Unavailable as error:
            self._say(f"{_named(errand)}: closed, and will be closed again after a restart: {error}")
        if standing.again:
            self.run(standing.again)


def escaped(text: str) -> str:
    """What commands and configurations say, on one line and without orders to a terminal."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text.strip()
    )


def _named(errand: Errand) -> str:
    return f"door {errand.door} for {address_text(errand.source)}"
