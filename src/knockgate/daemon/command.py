"""One command being run, from its start to the end of the last process that it leaves behind.

``subprocess`` cannot do one thing that is needed: hold the new process back until it is on the disk that
it runs. So this forks by itself. The child waits at a pipe; if we die first, it reads the end of the pipe
and is gone without having run anything. The runner has no threads, which makes forking safe.

A command leads a session of its own, reads nothing, and what it says goes to a pipe that is always read,
so that it never stands still; the beginning is kept for the log.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from knockgate.errors import Unavailable
from knockgate.model import Source, address_text

__all__ = ["Command", "Output", "end_all", "environment", "is_running", "resolved", "start"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = 2048
#: Seconds between SIGTERM and SIGKILL.
_GRACE = 2.0
#: What a shell says of a command that it cannot run.
_CANNOT_RUN = 127


def resolved(words: Sequence[str], source: Source, *, shell: bool) -> tuple[str, ...]:
    """The argument vector for a source; empty where there is nothing to run."""
    address = address_text(source)
    found = tuple(word.replace("%IP%", address) for word in words)
    return ("/bin/sh", "-c", "--", *found) if shell and found else found


def environment(door: str, source: Source, event: str) -> dict[str, str]:
    """All that a command has in its environment."""
    return {
        "PATH": _PATH,
        "LANG": "C",
        "KNOCKGATE_DOOR": door,
        "KNOCKGATE_SOURCE": address_text(source),
        "KNOCKGATE_EVENT": event,
    }


def start(
    words: Sequence[str],
    variables: Mapping[str, str],
    *,
    now: float,
    time_limit: float,
    before: Callable[[int, int], None],
) -> Command:
    """Run a command. ``before`` is called with its process and start, and raises if it shall not run.

    Raises Unavailable where no process can be started, and what ``before`` raises. A program that is not
    there is started like any other, says so, and ends with status 127.
    """
    with contextlib.ExitStack() as kept, contextlib.ExitStack() as ours:
        try:
            (waiting, go), (output, said) = os.pipe(), os.pipe()
            for descriptor in (waiting, go, said):
                ours.callback(os.close, descriptor)
            kept.callback(os.close, output)
            child = os.fork()
        except OSError as error:
            raise _no_process(error) from error
        if child == 0:
            _become(words, variables, waiting, said)
        try:
            watch = os.pidfd_open(child)
            kept.callback(os.close, watch)
            before(child, _started(child))
            os.write(go, b"!")
        except BaseException as error:
            os.kill(child, signal.SIGKILL)  # it is still ours, and waits
            os.waitpid(child, 0)
            if isinstance(error, OSError):
                raise _no_process(error) from error
            raise
        kept.pop_all()
    return Command(child, watch, Output(output), begun=now, time_limit=time_limit)


def _become(words: Sequence[str], variables: Mapping[str, str], waiting: int, said: int) -> NoReturn:
    """In the child: wait for the word, then be the command."""
    try:
        os.setsid()
        os.chdir("/")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(descriptor, place)
        os.dup2(waiting, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))  # also what we were given without knowing
        if os.read(3, 1):
            os.execve(words[0], list(words), variables)  # noqa: S606 - no shell is the point
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        os.write(2, f"{words[0]}: {reason}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(_CANNOT_RUN)


class Output:
    """What a command says; the beginning is kept, the rest is read and forgotten."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.is_open = True
        self.kept = b""

    def read(self) -> bool:
        """Take some of what is there; False when nothing can come any more."""
        try:
            said = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return True
        self.kept = (self.kept + said)[:_KEPT]
        return bool(said)


class Command:
    """A command that runs. ``watch`` becomes readable when it has ended; then it must be reaped."""

    def __init__(self, process: int, watch: int, output: Output, *, begun: float, time_limit: float) -> None:
        self.process, self.watch, self.output, self.begun = process, watch, output, begun
        self.next_press = begun + time_limit  #: when ``press`` is to be called, if it has not ended by then
        self._pressed = 0

    def press(self, now: float) -> None:
        """Its time is up: end it and its children, the first time politely."""
        self._pressed += 1
        end_all(self.process, signal.SIGTERM if self._pressed == 1 else signal.SIGKILL)
        self.next_press = now + _GRACE

    def reap(self) -> tuple[bool, str]:
        """Whether it did what it should, and how it ended."""
        if self._pressed:
            end_all(self.process, signal.SIGKILL)  # before the number of its session may be somebody else's
        _, status = os.waitpid(self.process, 0)
        os.close(self.watch)
        code = os.waitstatus_to_exitcode(status)
        if self._pressed:
            return False, "was ended, its time was up"
        return code == 0, f"ended with status {code}" if code >= 0 else f"was ended by signal {-code}"


def end_all(process: int, number: signal.Signals) -> None:
    """Send the signal to a command and to all its children that have not taken a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, number)


def is_running(process: int, started: int) -> bool:
    """Whether the process of this number is still the one that started then, and has not ended."""
    try:
        return _stat(process)[0] not in (b"Z", b"X") and _started(process) == started
    except OSError:
        return False


def _started(process: int) -> int:
    return int(_stat(process)[19])


def _stat(process: int) -> list[bytes]:
    """The fields of /proc/PID/stat (proc(5)) from the third on; the second may hold anything. OSError."""
    _, _, fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")
    return fields.split()


def _no_process(error: OSError) -> Unavailable:
    hint = "the system is out of processes, memory or descriptors, or has no /proc"
    return Unavailable(f"no command can be run: {error.strerror}", hint=hint)
