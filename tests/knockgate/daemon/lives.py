"""A half in a process of its own that is killed at a line of what it does for one request.

It is forked and not started, so that a life takes a fraction of a second; its sockets, its store and the
kernel's table are real.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import knockgate
from knockgate.daemon import notify

__all__ = ["Life"]

#: Seconds in which a life that is traced comes to the end of its request.
_AT_ONCE = 2.0
_OURS = str(Path(knockgate.__file__).parent)


class Life:
    """``half`` runs until it is killed, by itself or by ``end``; it has begun once it says that it is ready.

    It kills itself at the ``at``-th of the lines of ``parts`` (folders and files of the package) that it
    comes by from the ``times``-th call of ``entry`` until that returns. With ``at`` 0 it does not, and writes
    them into ``lines``.
    """

    def __init__(
        self,
        folder: Path,
        half: Callable[[], None],
        entry: Callable[..., Any],
        parts: tuple[str, ...],
        *,
        times: int = 1,
        at: int = 0,
        armed: bool = True,
    ) -> None:
        """``armed``: else calls count from ``arm`` on."""
        self.lines = folder / "lines"
        if not at:
            self.lines.unlink(missing_ok=True)
        self._parts = tuple(f"{_OURS}/{part}" for part in parts)
        self._entry: CodeType = inspect.unwrap(entry).__code__
        self._times, self._at = times, at
        self._armed = folder / "armed"
        self._armed.unlink(missing_ok=True)
        if armed:
            self.arm()
        reader, writer = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(reader)
            self._live(half, writer, folder / "log")
        os.close(writer)
        with os.fdopen(reader) as stream:
            assert stream.read() == "ready", (folder / "log").read_text()

    def arm(self) -> None:
        """What it is asked next counts."""
        self._armed.touch()

    def came_by(self) -> list[str]:
        """The lines, of one that is not killed."""
        return [line.removeprefix(_OURS) for line in self.lines.read_text().splitlines()]

    def ended(self) -> bool:
        """Whether it has killed itself by now."""
        return self._ended(os.WNOHANG)

    def dies(self) -> bool:
        """Whether it has killed itself, or does at once; in any case it is dead then."""
        until = time.monotonic() + (_AT_ONCE if self._at else 0)
        while not (has_died := self.ended()) and time.monotonic() < until:
            time.sleep(0.005)
        self.end()
        return has_died

    def end(self) -> None:
        """Kill it, if it lives."""
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            self._ended(0)

    def _ended(self, options: int) -> bool:
        if self.process:
            number, status = os.waitpid(self.process, options)
            if number:
                self.process = 0
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        return not self.process

    def _live(self, half: Callable[[], None], writer: int, log: Path) -> None:
        def ready(status: str) -> None:  # noqa: ARG001 - of notify.ready
            os.write(writer, b"ready")
            os.close(writer)
            sys.settrace(self._traced())

        try:
            notify.ready = ready  # the child's own
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
            half()
        except BaseException:  # noqa: BLE001 - whoever waits for us reads it
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(1)

    def _traced(self) -> Callable[..., Any]:
        calls, is_over = 0, False
        seen: set[tuple[str, int]] = set()

        def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:  # noqa: ANN401
            nonlocal calls, is_over
            code = frame.f_code
            if event == "call":
                calls += code is self._entry and self._armed.exists()
                hot = calls == self._times and not is_over and code.co_filename.startswith(self._parts)
                return trace if hot else None
            if event == "return" and code is self._entry:
                is_over = True
            elif event == "line" and not is_over and (code.co_filename, frame.f_lineno) not in seen:
                seen.add((code.co_filename, frame.f_lineno))
                if not self._at:
                    with self.lines.open("a") as stream:
                        stream.write(f"{code.co_filename}:{frame.f_lineno}\n")
                elif len(seen) == self._at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        return trace
