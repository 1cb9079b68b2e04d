"""A terminal with somebody at it, and what stands on its screen: enough of one for what we draw."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence

from tests.knockgate.cli.process import environment
from tests.netns import DEADLINE, until

#: A control sequence, or what is no end of a line, or an end of one.
_PART = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|([^\x1b\r\n]+)|([\r\n])")
MODES = {"1049": "other screen", "25": "cursor", "7": "wraps", "2026": "frame"}


class Terminal:
    """``command`` runs at it. Every change that it makes to the screen is taken note of, in order."""

    def __init__(self, command: Sequence[str], *, rows: int = 40, columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        self._slave = slave
        self.rows, self.columns = rows, columns
        self.resize(rows, columns)
        self.settings = termios.tcgetattr(slave)
        self.modes = {"cursor", "wraps"}
        self.raw = ""
        self._cells: list[str] = [""] * rows
        self._at = (0, 0)
        #: The screen as it was at the end of each frame.
        self.frames: list[list[str]] = []

        def take_it() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_it,  # noqa: PLW1509 - there are no threads
            env=environment(TERM="xterm"),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.rows, self.columns = rows, columns

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read(self) -> None:
        """Take in what was written so far."""
        new = b""
        while select.select([self._master], [], [], 0)[0]:
            new += os.read(self._master, 65536)
        text = new.decode()
        self.raw += text
        self._cells = (self._cells + [""] * self.rows)[: self.rows]
        for private, numbers, kind, written, end in _PART.findall(text):
            self._take(private, numbers, kind, written, end)

    def _take(self, private: str, numbers: str, kind: str, written: str, end: str) -> None:
        row, column = self._at
        if private:
            name = MODES[numbers]
            if kind == "h":
                self.modes.add(name)
            else:
                self.modes.discard(name)
                if name == "frame":
                    self.frames.append([line.rstrip() for line in self._cells])
        elif kind == "H":
            self._at = (0, 0)
        elif kind == "K":
            self._cells[row] = self._cells[row][:column]
        elif kind == "J":
            self._cells[row:] = [self._cells[row][:column], *[""] * (len(self._cells) - row - 1)]
        elif written:
            line = self._cells[row].ljust(column)
            self._cells[row] = (line[:column] + written + line[column + len(written) :])[: self.columns]
            self._at = (row, min(column + len(written), self.columns))
        elif end:
            self._at = (min(row + (end == "\n"), len(self._cells) - 1), 0 if end == "\r" else column)

    def screen(self) -> str:
        """What the last whole frame was."""
        self.read()
        return "\n".join(self.frames[-1]) if self.frames else ""

    def until_shown(self, *texts: str) -> str:
        def shown() -> str | None:
            screen = self.screen()
            return screen if all(each in screen for each in texts) else None

        try:
            return until(shown, f"{texts} on the screen") or ""
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}\n{self.raw[-500:]!r}") from None

    def until_ended(self) -> int:
        """Its exit status; what it has written last is read."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        until(ended, "it ends")
        self.read()
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether the terminal is as it was found."""
        self.read()
        return self.modes == {"cursor", "wraps"} and termios.tcgetattr(self._slave) == self.settings

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(DEADLINE)
        for each in (self._master, self._slave):
            os.close(each)


@contextlib.contextmanager
def at_terminal(*command: str, rows: int = 40, columns: int = 100) -> Iterator[Terminal]:
    terminal = Terminal(command, rows=rows, columns=columns)
    try:
        yield terminal
    finally:
        terminal.close()
