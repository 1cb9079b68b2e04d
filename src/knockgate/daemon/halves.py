"""A half of the gate as a process of its own, started so that nothing but its command line leads it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import knockgate
from knockgate.errors import Unavailable

__all__ = ["Half"]

_FOLDER = str(Path(knockgate.__file__).resolve().parents[1])
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG = 1
#: Halves that need nothing but Python's own library.
_BARE = ("runner", "warden")
#: Seconds until a half that was asked to end is killed.
_PATIENCE = 5.0


class Half:
    """A process that runs ``knockgate.daemon.NAME``, once it is let go.

    Until then it imports what it needs, which takes longer than all that comes after: so halves can be made
    at the same time of which one must be ready before the other begins. ``ready`` is readable once it has
    said that it is ready, or why not. It ends with the thread that made it, which must therefore be the main
    one.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        run_directory: str,
        *,
        needs: Sequence[str] = (),
        inherits: Sequence[int] = (),
        dies_by: signal.Signals = signal.SIGKILL,
        patience: float = _PATIENCE,
    ) -> None:
        """``needs``: modules that it will import with this configuration. ``inherits``: open descriptors.

        ``dies_by``: what it gets when we are gone. ``patience``: seconds until it is killed, after it was
        asked to end.
        """
        self.name = name
        self._patience = patience
        self.was_ready = False
        self._ready_at = 0.0
        self._go: int | None = None
        self.ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = Path(run_directory, f"{name}.notify")
        try:
            self._address.unlink(missing_ok=True)
            self.ready.bind(str(self._address))
        except OSError as error:
            self.ready.close()
            message = f"cannot make the socket {self._address}: {error.strerror or error}"
            raise Unavailable(message, hint="gate.run_directory names the folder") from None
        try:
            waiting, self._go = os.pipe()
            try:
                command = [*_command(name, needs, waiting), *arguments]
                self._process = _start(command, self._address, [*inherits, waiting], dies_by)
            except OSError:
                os.close(self._go)
                raise
            finally:
                os.close(waiting)
        except OSError as error:
            self.ready.close()
            raise Unavailable(f"cannot start the {name}: {error.strerror or error}") from None

    def let_go(self) -> None:
        """It may begin; nothing happens where it has begun, or ended."""
        if self._go is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._go, b"\n")
            os.close(self._go)
            self._go = None

    def says_ready(self) -> bool:
        """Take what it has said; once that is that it is ready, nothing more is heard."""
        if not self.ready.recv(4096).startswith(b"READY=1"):
            return False  # it says why it cannot start
        self.was_ready, self._ready_at = True, time.monotonic()
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        self.ready.close()
        with contextlib.suppress(OSError):
            self._address.unlink()

    def ended(self) -> str | None:
        """How it ended, for people; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def has_lasted(self, seconds: float) -> bool:
        """It became ready that long ago."""
        return self.was_ready and time.monotonic() >= self._ready_at + seconds

    def status(self) -> int | None:
        """Its exit status; None while it runs, negative where a signal killed it."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """SIGTERM; ``end`` waits for it."""
        self._process.terminate()

    def end(self) -> None:
        """Have it end, whatever it takes."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._patience)
        self._process.kill()
        self._process.wait()
        self.let_go()
        self._hang_up()


def _command(name: str, needs: Sequence[str], waiting: int) -> list[str]:
    """A half that imports what it needs, waits for a byte of that descriptor, and begins."""
    # -I: neither the working directory nor the environment has a say in what is imported, and -S: nor other
    # people's packages, for those that need none.
    flags = ["-I", "-S"] if name in _BARE else ["-I"]
    lines = [
        "import os, sys",
        # The half with rights has no OpenSSL in its memory: hashlib does without.
        "sys.modules['_hashlib'] = None" if name == "warden" else "",
        f"sys.path.insert(0, {_FOLDER!r})",
        f"from knockgate.daemon.{name} import main",
        *(f"import {module}" for module in needs),
        f"os.read({waiting}, 1) or sys.exit()",
        f"os.close({waiting})",
        "main()",
    ]
    return [sys.executable, *flags, "-c", "; ".join(filter(None, lines))]


def _start(
    command: Sequence[str], address: Path, inherits: Sequence[int], dies_by: signal.Signals
) -> subprocess.Popen[bytes]:
    us = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(dies_by))
        if os.getppid() != us:  # we died before the line above
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,  # what it has to say it says on stderr
        cwd="/",
        env={"PATH": _PATH, "NOTIFY_SOCKET": str(address)},
        pass_fds=inherits,
        start_new_session=True,  # a Ctrl-C is for us, who end it in order
        preexec_fn=die_with_us,  # noqa: PLW1509 - there are no threads
    )
