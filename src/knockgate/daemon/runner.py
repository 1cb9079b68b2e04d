"""The runner: a process of its own that runs commands when doors open and close, asked over a link.

It can be asked for nothing but what its own copy of the configuration says, for something that is an
address. A link that says anything else is no longer listened to, and the runner ends; so it does when the
other end is gone. What stands open then is on the disk (``daemon.commands``), for the next one.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from knockgate.daemon import log, notify
from knockgate.daemon.arguments import Parser
from knockgate.daemon.commands import Runner, boottime
from knockgate.daemon.errands import ENDS_WITHIN, LONGEST, Answer, Errand
from knockgate.daemon.link import Surprise, add_pause, admitted, cannot_start, number_of
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


class Doorbell(NamedTuple):
    """Where a listener connects that is not our supervisor's, one after the other."""

    socket: socket.socket
    listener: int | None  #: its user, beside root


class Service:
    """The runner behind its link, or behind a doorbell, and then whoever rings has the link."""

    def __init__(self, origin: Origin, link: socket.socket | Doorbell, runner: Runner) -> None:
        self._origin, self._runner = origin, runner
        self._doorbell = link if isinstance(link, Doorbell) else None
        self._link = None if isinstance(link, Doorbell) else link
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._ends: float | None = None
        runner.selector.register(self._signals, selectors.EVENT_READ, self._obey)
        if self._link:
            runner.selector.register(self._link, selectors.EVENT_READ, self._hear)
        self._wait_for_a_ring()

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

    def _wait_for_a_ring(self) -> None:
        if self._doorbell:
            self._runner.selector.register(self._doorbell.socket, selectors.EVENT_READ, self._admit)

    def _admit(self) -> None:
        """A listener at a time. One that is new has read the configuration anew, and so do we."""
        if not self._doorbell:
            return
        link = admitted(self._doorbell.socket, self._doorbell.listener)
        if link is None:
            return
        self._link = link
        self._runner.selector.unregister(self._doorbell.socket)
        self._runner.selector.register(link, selectors.EVENT_READ, self._hear)
        self._reload()

    def _hear(self) -> None:
        if not self._link:
            return
        try:
            message = self._link.recv(LONGEST + 1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message:
            errand = Errand.decode(message)
            answer = Answer(errand.date, taken=self._runner.run(errand))
            with contextlib.suppress(OSError):  # who does not read them, or is gone, need not know
                self._link.send(answer.encode())
        elif self._doorbell:
            self._runner.selector.unregister(self._link)
            self._link.close()
            self._link = None
            self._wait_for_a_ring()
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
            heard = self._link or (self._doorbell.socket if self._doorbell else None)
            if heard:
                self._runner.selector.unregister(heard)

    def _reload(self) -> None:
        try:
            configuration = self._origin.load()
            self._runner.use(configuration.doors)
            log.begin(configuration.gate.log)
            say(PROGRAM, "the configuration is read again", Record(event=Event.RELOAD))
        except ConfigError as error:
            say_why(PROGRAM, error)
            say(PROGRAM, "the commands stay as they were")


def serve(origin: Origin, link: socket.socket | Doorbell, state: str | None = None) -> None:
    """Take up what is still to be closed, and serve.

    ``state`` is a folder of our own, where that of the gate is the listener's. It is made if it is missing.
    """
    configuration = origin.load()
    log.begin(configuration.gate.log)
    folder = Path(state or configuration.gate.state_directory)
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
            f"--link {descriptor}: {error.strerror}",
            hint="`knockgate run` starts it, or knockgate-runner.socket",
        ) from None
    return link


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 after SIGTERM, SIGINT or a closed link, 1 on a surprise, 2 where it cannot start."""
    parser = Parser(
        prog=PROGRAM,
        description="Run the commands of doors, and close what was opened by one.",
        epilog="What stands open when this program ends stays open, and is closed by the next one.",
    )
    Origin.add_arguments(parser)
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--link", metavar="FD", type=int, help="descriptor of a SOCK_SEQPACKET socket")
    ends.add_argument("--doorbell", metavar="FD", type=int, help="the same, to which a listener connects")
    parser.add_argument("--listener-user", metavar="NAME", help="who may be that listener, beside root")
    parser.add_argument("--state", metavar="DIR", help="a folder of its own, instead of the gate's")
    add_pause(parser)
    arguments = parser.parse_args(argv)
    try:
        if arguments.link is not None:
            link: socket.socket | Doorbell = _link(arguments.link)
        else:
            name = arguments.listener_user
            link = Doorbell(_link(arguments.doorbell), number_of(name) if name else None)
        serve(Origin.of(arguments), link, arguments.state)
    except KnockgateError as error:
        say_why(PROGRAM, error)
        cannot_start(arguments.pause, error)
    except Surprise as surprise:
        say(PROGRAM, f"the other end sent {surprise}; ending, what stands open is closed by the next runner")
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
