"""The runner: a process of its own that runs commands when doors open and close, asked over a link.

It can be asked for nothing but what its own copy of the configuration says, for something that is an
address. A link that says anything else is no longer listened to, and the runner ends; so it does when the
other end is gone. What stands open then is on the disk (``daemon.commands``), for the next one.
"""

from __future__ import annotations

import argparse
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from knockgate.daemon import log, notify
from knockgate.daemon.commands import Runner, boottime
from knockgate.daemon.errands import ENDS_WITHIN, LONGEST, Errand
from knockgate.daemon.link import Surprise
from knockgate.daemon.log import Event, Record, say, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.sockets import Signals
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.store.pending import PendingStore

__all__ = ["main", "serve"]

PROGRAM = "knockgate-runner"
STORE = "pending.sqlite"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: When it is to end, commands that run are given this long, and those that open so long again to be
#: ended. Together less than ENDS_WITHIN; systemd gives us 90 s.
_PATIENCE, _TO_BE_ENDED = 10.0, 3.0


class Service:
    """The runner behind its link."""

    def __init__(self, origin: Origin, link: socket.socket, runner: Runner) -> None:
        self._origin, self._link, self._runner = origin, link, runner
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._ends: float | None = None
        for readable, act in ((link, self._hear), (self._signals, self._obey)):
            runner.selector.register(readable, selectors.EVENT_READ, act)

    def serve(self) -> None:
        """Run what is asked for until a signal, or until nobody can ask any more."""
        while self._ends is None:
            self._runner.step()
        self._runner.stop()
        while not self._runner.is_idle and boottime() < self._ends:
            self._runner.step(self._ends - boottime())
        self._runner.end_openings()
        while self._runner.opens and boottime() < self._ends + _TO_BE_ENDED:
            self._runner.step(self._ends + _TO_BE_ENDED - boottime())

    def _hear(self) -> None:
        try:
            message = self._link.recv(LONGEST + 1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message:
            self._runner.run(Errand.decode(message))
        else:
            say(PROGRAM, "nobody is left to ask; ending")
            self._end()

    def _obey(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._end()

    def _end(self) -> None:
        if self._ends is None:
            self._ends = boottime() + _PATIENCE
            self._runner.selector.unregister(self._link)

    def _reload(self) -> None:
        try:
            configuration = self._origin.load()
            self._runner.use(configuration.doors)
            log.begin(configuration.gate.log)
            say(PROGRAM, "the configuration is read again", Record(event=Event.RELOAD))
        except ConfigError as error:
            say_why(PROGRAM, error)
            say(PROGRAM, "the commands stay as they were")


def serve(origin: Origin, link: socket.socket) -> None:
    """Take up what is still to be closed, and serve. The state directory is made if it is missing."""
    configuration = origin.load()
    log.begin(configuration.gate.log)
    folder = Path(configuration.gate.state_directory)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        boot = _BOOT.read_text().strip()
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}", hint="is it run as root?") from None
    store = PendingStore(
        folder / STORE,
        boot,
        patience=ENDS_WITHIN,
        waits=lambda: say(PROGRAM, "another runner is still there; waiting until it has ended"),
    )
    runner = Runner(
        configuration.doors, store, lambda line: say(PROGRAM, line, Record(event=Event.COMMAND)), boottime
    )
    service = Service(origin, link, runner)
    status = f"ready to run commands; {len(runner)} stand open" if len(runner) else "ready to run commands"
    notify.ready(status)
    say(PROGRAM, status)
    service.serve()


def _link(descriptor: int) -> socket.socket:
    try:
        link = socket.socket(fileno=descriptor)
        link.set_inheritable(False)  # commands have no business with it
        link.settimeout(0)
    except OSError as error:
        raise Unavailable(
            f"--link {descriptor}: {error.strerror}", hint="`knockgate run` starts it"
        ) from None
    return link


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 after SIGTERM, SIGINT or a closed link, 1 on a surprise, 2 where it cannot start."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run the commands of doors, and close what was opened by one.",
        epilog="What stands open when this program ends stays open, and is closed by the next one.",
    )
    Origin.add_arguments(parser)
    parser.add_argument(
        "--link", metavar="FD", type=int, required=True, help="descriptor of a SOCK_SEQPACKET socket"
    )
    arguments = parser.parse_args(argv)
    try:
        serve(Origin.of(arguments), _link(arguments.link))
    except KnockgateError as error:
        say_why(PROGRAM, error)
        sys.exit(2)
    except Surprise as surprise:
        say(PROGRAM, f"the other end sent {surprise}; ending, what stands open is closed by the next runner")
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
