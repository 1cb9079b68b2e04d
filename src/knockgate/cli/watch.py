"""``knockgate status --watch``: looking at a gate again and again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from knockgate.cli.changes import Look, begun, changes
from knockgate.cli.live import Waiting, until_ended
from knockgate.cli.status import State, look
from knockgate.cli.terminal import plain
from knockgate.config.doors import Configuration
from knockgate.daemon.origin import Origin
from knockgate.errors import KnockgateError

__all__ = ["watch"]

#: How many times as long as a look takes there is at least between two: a table may have thousands of leases.
_REST = 5
#: Seconds for which something is marked as new on a terminal, and changes that are remembered there.
_NEW, _REMEMBERED = 10.0, 200


def watch(origin: Origin, seconds: float, *, as_json: bool) -> int:
    """Until Ctrl-C, or q on a terminal; raises KnockgateError where it cannot be begun."""
    eye = _Eye(origin)
    first = eye.first()
    with until_ended():
        if as_json:
            _for_programs(eye, first, seconds)
        elif _can_draw():
            _on_screen(eye, first, seconds)
        else:
            _in_blocks(eye, first, seconds)
    return 0


def _can_draw() -> bool:
    from knockgate.cli.screen import is_there  # noqa: PLC0415 - see cli

    return is_there()


class _Eye:
    """Looks at a gate. The file is read again where it was changed."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._file = self._signature()
        self._configuration = origin.load()
        self._wrong = ""
        self._took = 0.0

    def first(self) -> Look:
        """Raises where there is nothing to be seen, which later is only told."""
        began = time.monotonic()
        return self._found(began, look(self._configuration))

    def again(self) -> Look:
        """What there is now."""
        began = time.monotonic()
        try:
            return self._found(began, look(self._current()))
        except KnockgateError as error:
            self._took = time.monotonic() - began
            return Look(began, _now(), None, f"the gate cannot be asked: {error}")

    def _found(self, began: float, state: State) -> Look:
        self._took = time.monotonic() - began
        return Look(began, _now(), state, self._wrong)

    def pause(self, seconds: float) -> float:
        """From the beginning of a look to that of the next one."""
        return max(seconds, _REST * self._took)

    def _current(self) -> Configuration:
        file = self._signature()
        if file != self._file:
            self._file, self._wrong = file, ""
            try:
                self._configuration = self._origin.load()
            except KnockgateError as error:
                self._wrong = f"the configuration as it was is shown, now: {error}"
        return self._configuration

    def _signature(self) -> tuple[int, ...]:
        try:
            found = Path(self._origin.path).stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns


def _looks(eye: _Eye, first: Look, seconds: float, waiting: Waiting) -> Iterator[tuple[Look, Look]]:
    """Each look with the one before it, at their time."""
    before = first
    while True:
        waiting.wait(before.at + eye.pause(seconds) - time.monotonic())
        now = eye.again()
        yield before, now
        before = now


def _for_programs(eye: _Eye, first: Look, seconds: float) -> None:
    click.echo(_as_json(first, []))
    for before, now in _looks(eye, first, seconds, Waiting()):
        click.echo(_as_json(now, changes(before, now)))


def _as_json(found: Look, changed: Sequence[str]) -> str:
    facts = found.state.facts() if found.state else {}
    return json.dumps(
        {"time": round(found.time, 3), "error": found.wrong or None, "changes": list(changed), **facts}
    )


def _in_blocks(eye: _Eye, first: Look, seconds: float) -> None:
    """All at first, and then what changes."""
    _block(first, "\n".join(first.state.lines()).splitlines() if first.state else [])
    for before, now in _looks(eye, first, seconds, Waiting()):
        if changed := changes(before, now):
            _block(now, changed)


def _block(found: Look, lines: Sequence[str]) -> None:
    day = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.time))
    click.echo("\n".join([day, *(f"  {plain(line)}".rstrip() for line in lines), ""]))


# --- on a terminal ------------------------------------------------------------------------------------


def _on_screen(eye: _Eye, first: Look, seconds: float) -> None:
    from knockgate.cli.screen import Screen  # noqa: PLC0415 - see cli

    shown = _Shown(first)
    with Screen() as screen:
        while True:
            due = shown.now.at + eye.pause(seconds)
            screen.draw(*shown.lines(seconds))
            while (left := due - time.monotonic()) > 0:
                if "q" in screen.wait(left).lower():
                    return
                screen.draw(*shown.lines(seconds))  # the window may have another size
            shown.take(eye.again())


class _Shown:
    """What stands on the screen: the last state that was found, and what has changed of late."""

    def __init__(self, first: Look) -> None:
        self.now = first
        self._new: dict[object, float] = {}  # when it was seen first
        self._changed: deque[tuple[float, float, str]] = deque(maxlen=_REMEMBERED)

    def take(self, now: Look) -> None:
        self._new |= dict.fromkeys(begun(self.now, now), now.at)
        self._new = {each: at for each, at in self._new.items() if now.at < at + _NEW}
        self._changed.extend((now.at, now.time, each) for each in changes(self.now, now))
        self.now = now

    def lines(self, seconds: float) -> tuple[list[str], list[str], list[str]]:
        head = [f"knockgate status, {_clock(self.now.time)} UTC, every {seconds:g} s; q ends it"]
        if self.now.wrong:
            head.append(self.now.wrong)
        body = [""]
        if self.now.state:
            marked = dataclasses.replace(self.now.state, new=self._new.keys())
            body += "\n".join(marked.lines()).splitlines()
        last = [
            f"{'NEW' if self.now.at < at + _NEW else '   '} {_clock(when)}  {what}"
            for at, when, what in self._changed
        ]
        return head, body, last


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)
