"""A whole terminal that is drawn again and again, and left as it was found."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import termios
import textwrap
import tty
from collections.abc import Sequence
from types import FrameType
from typing import Self

from knockgate.cli.live import Waiting
from knockgate.cli.terminal import plain

__all__ = ["Screen", "is_there"]

#: The other screen, no cursor, and no line that goes on in the next row; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
#: A frame is shown whole or not at all, by a terminal that knows that; others ignore it.
_BEGIN, _SHOW = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"
_END_OF_ROW = "\x1b[K\r\n"
#: A serial console does not know its size, and has 0 for both.
_USUAL_COLUMNS, _USUAL_ROWS = 80, 24


def is_there() -> bool:
    """Whether our output is a terminal on which the cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """A context manager; within, nobody else writes to the terminal.

    It follows the size of the window, and puts the terminal back however the block ends, and while the
    process is stopped (Ctrl-Z).
    """

    def __init__(self) -> None:
        self._output = sys.stdout.fileno()
        self._keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self._settings: list[object] | None = None
        self._shown = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:  # a signal, while we begin
            self._stack.close()
            raise
        return self

    def _begin(self) -> None:
        woken, wakes = (self._stack.enter_context(each) for each in socket.socketpair())
        for each in (woken, wakes):
            each.settimeout(0)
        self._woken = woken
        before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        self._stack.callback(signal.set_wakeup_fd, before)
        self._handle(signal.SIGWINCH, lambda *_: None)  # that it came is all
        self._handle(signal.SIGTSTP, self._stop)
        self._waiting = Waiting(woken.fileno(), *([] if self._keys is None else [self._keys]))
        self._stack.callback(self._leave)
        self._enter()

    def __exit__(self, *error: object) -> None:
        with self._stack:
            # A second Ctrl-C must not come between here and a terminal that is usable again.
            self._handle(signal.SIGINT, signal.SIG_IGN)

    def _handle(self, number: signal.Signals, handler: object) -> None:
        before = signal.signal(number, handler)  # type: ignore[arg-type] # any kind of handler
        self._stack.callback(signal.signal, number, before)

    def _enter(self) -> None:
        if self._keys is not None:
            self._settings = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._shown = ""
        self._write(_ENTER)

    def _leave(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # it may have been closed
            self._write(_LEAVE)
        if self._keys is not None and self._settings is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._settings)  # type: ignore[arg-type]

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)  # somebody has had us go on
        self._enter()

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode(sys.stdout.encoding or "ascii", errors="replace"))
        while rest:
            rest = rest[os.write(self._output, rest) :]

    def draw(self, head: Sequence[str], body: Sequence[str], last: Sequence[str]) -> None:
        """Show ``head``, and from there on ``body``; below it ``last``, of which some is always to be seen.

        Of the head all that is too long for a line goes on in the next; of the others it is cut off.
        """
        columns, rows = os.get_terminal_size(self._output)
        columns, rows = columns or _USUAL_COLUMNS, rows or _USUAL_ROWS
        head = [line for each in head for line in textwrap.wrap(plain(each), columns) or [""]]
        shown = _fitting([*head, *body], last, rows)
        frame = _END_OF_ROW.join(plain(line)[:columns] for line in shown) + "\x1b[K"
        if (whole := f"{columns} {rows} {frame}") != self._shown:
            self._write(_BEGIN + frame + _SHOW)
            self._shown = whole

    def wait(self, seconds: float) -> str:
        """What came within this time: the keys that were typed, ``""`` where there were none.

        ``"q"`` also where nobody can type any more. It returns sooner where the window has another size.
        """
        ready = self._waiting.wait(seconds)
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        if self._keys not in ready or self._keys is None:
            return ""
        try:
            return os.read(self._keys, 4096).decode(errors="replace") or "q"
        except OSError:  # hung up
            return "q"


def _fitting(body: Sequence[str], last: Sequence[str], rows: int) -> list[str]:
    """``rows`` lines at most; it is said where that is not all."""
    kept = last[-max(3, rows // 4, rows - len(body) - 1) :] if rows > 4 else []
    kept = ["", *kept] if kept else []
    room = rows - len(kept)
    if len(body) <= room:
        return [*body, *kept]
    more = len(body) - room + 1
    return [*body[: room - 1], f"... and {more} more lines, for which there is no room here", *kept]
