"""The half that hears: what the kernel reports of its doors, and the knocks that the daemon follows.

All that strangers wrote is parsed here, in a process that cannot change the firewall. It asks the warden
to open a door, and the runner to run its commands. Each opening is a line in the log; what a stranger can
cause without knowing a sequence is counted, and told in one line now and then.

It ends when the warden or the runner is gone, and is started again; leases do not notice. What a gate's
configuration does not need is not imported: imports are most of the time of a start, and of the memory.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

from knockgate.config.doors import Configuration, Door
from knockgate.config.toml import spell
from knockgate.daemon import log, notify
from knockgate.daemon.arguments import Parser
from knockgate.daemon.control import EXPLAIN_SOCKET, STATUS_SOCKET
from knockgate.daemon.link import BEGIN_ANEW, Surprise, add_pause, cannot_start
from knockgate.daemon.log import NOTE, Event, Record, Seldom, say, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.records import EXHAUSTED, at
from knockgate.daemon.reports import Reports
from knockgate.daemon.rights import give_all_away
from knockgate.daemon.sockets import Readable, Signals, connected
from knockgate.daemon.status import Account, DocumentSocket
from knockgate.daemon.strangers import Summary
from knockgate.daemon.ward import BeginAnew, Gone, Ward
from knockgate.errors import KnockgateError, Unavailable
from knockgate.model import Source, address_text

if TYPE_CHECKING:
    from knockgate.config.keyfiles import Reading
    from knockgate.config.keys import SshKeys
    from knockgate.daemon.asked import Asked
    from knockgate.daemon.grants import Grants
    from knockgate.daemon.kept import Kept
    from knockgate.daemon.packets import PacketGrants
    from knockgate.daemon.sealed import SealedGrants
    from knockgate.mechanisms.packet import Bearer

__all__ = ["PROGRAM", "Listener", "main"]

PROGRAM = "knockgate-listener"

#: Seconds in which the runner's socket has room for us.
_PATIENCE = 5.0
#: While the one interface is gone, it is looked for this often. Seconds.
_LOOK_AGAIN = 0.25
#: What the log says of how a door was opened, and what it counts it as.
_BY_KERNEL = "kernel sequence", Record(event=Event.OPENED, by="kernel-sequence")
_BY_DAEMON = "daemon sequence", Record(event=Event.OPENED, by="daemon-sequence")


class _Capture(Readable, Protocol):
    @property
    def listening(self) -> bool: ...

    def drops(self) -> tuple[int, int]: ...


class Listener:
    """Waits for all of it at once. ``Hands`` of ``Grants``, and ``PacketHands`` of ``Hearing``."""

    def __init__(
        self,
        configuration: Configuration,
        bearers: Sequence[Bearer],
        ssh_keys: Sequence[SshKeys],
        ward: Ward,
        runner: socket.socket | None,
        reading: Reading | None = None,
    ) -> None:
        """``reading``: who reads files of ssh keys, where it is not we.

        Raises Unavailable where the kernel or the run directory has not what is needed.
        """
        self._configuration = configuration
        self._ward = ward
        self._reading = reading
        self._ending = False
        self._lost_reports = 0
        self._seldom = Seldom(PROGRAM)
        self._account = Account([door.name for door in configuration.doors])
        self._selector = selectors.DefaultSelector()
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._watchdog = notify.Watchdog()
        self._when_readable(self._signals, self._obey)
        self._when_readable(ward, ward.take_notices)
        self._asked = self._runner_asked(runner) if runner else None
        if self._asked:
            self._when_readable(self._asked, self._asked.hear)
        self._unsaid: tuple[str, Record] | None = None
        self._begin_to_hear_reports()
        self._captures: dict[_Capture, Callable[[], None]] = {}
        self._grants = self._sequence_grants() if configuration.daemon_doors() else None
        self._packets = self._packet_grants(bearers) if bearers else None
        self._sealed = self._sealed_grants(ssh_keys) if ssh_keys else None
        tally = self._grants.engine.tally if self._grants else None
        self._summary = Summary(PROGRAM, (self._packets, self._sealed), tally)
        timed = (self._grants, self._packets, self._sealed, self._summary, self._asked)
        self._timed = [each for each in timed if each]
        if self._grants:
            self._begin_to_capture(self._grants.listen(), self._grants.hear_some)
        if self._packets:
            self._begin_to_capture(self._packets.ears, self._packets.hear)
        if self._sealed:
            self._begin_to_capture(self._sealed.ears, self._sealed.hear)
        directory = configuration.gate.run_directory
        self._told = [
            DocumentSocket(directory, STATUS_SOCKET, self._selector, self._status),
            DocumentSocket(directory, EXPLAIN_SOCKET, self._selector, self._explained),
        ]

    def _runner_asked(self, runner: socket.socket) -> Asked:
        from knockgate.daemon.asked import Asked  # noqa: PLC0415 - see above

        return Asked(runner, self._seldom)

    def _sequence_grants(self) -> Grants:
        from knockgate.daemon.grants import Grants  # noqa: PLC0415 - see above

        return Grants(self._configuration, self)

    def _packet_grants(self, bearers: Sequence[Bearer]) -> PacketGrants:
        from knockgate.daemon.packets import PacketGrants  # noqa: PLC0415 - see above

        return PacketGrants(self._configuration, bearers, self)

    def _sealed_grants(self, ssh_keys: Sequence[SshKeys]) -> SealedGrants:
        from knockgate.daemon.sealed import SealedGrants  # noqa: PLC0415 - see above

        return SealedGrants(self._configuration, ssh_keys, self, self._reading)

    @property
    def ssh_keys(self) -> int | None:
        """How many there are; None where nobody may knock with one."""
        return self._sealed.total if self._sealed else None

    def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises Gone, BeginAnew, and Surprise for what nobody ever says."""
        try:
            while not self._ending:
                for key, _ in self._selector.select(self._watchdog.wait(self._timeout())):
                    key.data()
                self._look_after()
        finally:
            for told in self._told:
                told.close()
            self._summarize()
            for each in (self._grants, self._packets, self._sealed):
                if each:
                    each.close()

    def _when_readable(self, what: Readable, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    def _timeout(self) -> float | None:
        wakeup = min((at for each in self._timed if (at := each.next_wakeup()) is not None), default=None)
        wait = None if wakeup is None else max(0.0, wakeup - time.monotonic())
        if not all(capture.listening for capture in self._captures):
            return _LOOK_AGAIN if wait is None else min(wait, _LOOK_AGAIN)
        return wait

    def _look_after(self) -> None:
        for each in self._timed:
            wakeup = each.next_wakeup()
            if wakeup is not None and time.monotonic() >= wakeup:
                each.tick()
        for capture in self._captures:
            if not capture.listening:
                self._hear_packets(capture)

    def _obey(self) -> None:
        self._ending = bool(self._signals.take() & {signal.SIGTERM, signal.SIGINT})

    # --- what the kernel opened -----------------------------------------------------------------------

    def _begin_to_hear_reports(self) -> None:
        try:
            reports = self._ward.hear()
        except Unavailable as error:
            say(PROGRAM, str(error))
            return
        doors = self._configuration.doors
        told = Reports(reports, doors, self._opened_by_kernel, self._bound_was_met, self._reports_were_lost)
        self._when_readable(told, told.hear)

    def _opened_by_kernel(self, door: Door | None, source: Source | None) -> None:
        self._opened(door, source, *_BY_KERNEL)

    def _bound_was_met(self, bound: str) -> None:
        self._account.bounds[bound] += 1
        self._seldom.say(bound, EXHAUSTED[bound], Record(event=Event.BOUND, reason=bound))

    def _reports_were_lost(self) -> None:
        self._lost_reports += 1
        self._seldom.say("reports", "reports of the kernel were lost; its doors open all the same")

    def _opened(self, door: Door | None, source: Source | None, by: str, record: Record) -> None:
        self._account.opened(door.name if door else None, source, by, record.by or "")
        who = address_text(source) if source else "somebody"
        say(PROGRAM, f"open {door.name if door else 'a door'} for {who} ({by})", at(record, door, source))

    # --- what the daemon opens ------------------------------------------------------------------------

    def _begin_to_capture(self, capture: _Capture, hear: Callable[[], None]) -> None:
        self._captures[capture] = hear
        self._when_readable(capture, partial(self._hear_packets, capture))

    def _hear_packets(self, capture: _Capture) -> None:
        was_listening = capture.listening
        self._captures[capture]()
        if capture.listening != was_listening and capture is next(iter(self._captures)):
            interface = self._configuration.gate.interface
            say(PROGRAM, f"{interface} is {'up again' if capture.listening else 'down'}")

    def open(self, door: Door, source: Source) -> bool:
        """Let the source in; whether it is in."""
        return self._open(door, source, None, *_BY_DAEMON)

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:
        """Let the source in for as long as its key has asked for; whether it is in."""
        by = f"packet of {record.key}, {spell(seconds)}"
        return self._open(door, source, seconds, by, replace(record, seconds=seconds))

    def _open(self, door: Door, source: Source, seconds: float | None, by: str, record: Record) -> bool:
        refusal = self._ward.open(door, source, seconds) if door.ports else None
        self._unsaid = None
        if refusal is None and door.ports:
            self._opened(door, source, by, record)
        elif refusal is None:
            self._unsaid = by, record  # it is open once its commands are taken, which comes next
        else:
            line = f"{door.name} is not opened for {address_text(source)}: {refusal}"
            self._seldom.say("refused", line, at(replace(record, event=Event.NOT_OPENED), door, source))
        return refusal is None

    def run_commands(self, door: Door, source: Source, seconds: float | None = None) -> None:
        """Have the runner run what the door runs."""
        if not self._asked:
            raise AssertionError("a door with commands has a runner")
        then = partial(self._opened, door, source, *self._unsaid) if self._unsaid else None
        self._unsaid = None
        self._asked.ask(door, source, seconds, then)

    def complain(self, line: str, kind: str = "", record: Record = NOTE) -> None:
        """Tell the administrator; lines of one ``kind`` once a minute at most."""
        if kind:
            self._seldom.say(kind, line, record)
        else:
            say(PROGRAM, line, record)

    # --- what is told ---------------------------------------------------------------------------------

    def _heard(self) -> dict[str, int]:
        heard = asdict(self._grants.engine.tally) if self._grants else {}
        drops = [capture.drops() for capture in self._captures]
        packets, lost = (sum(numbers) for numbers in zip((0, 0), *drops, strict=True))
        return {**heard, "packets": packets - lost, "lost": lost, "lost_reports": self._lost_reports}

    def _status(self) -> dict[str, object]:
        told = self._account.document(self._heard(), owned=self._ward.owned, restored=self._ward.restored)
        packets, sealed = (each.document() if each else None for each in (self._packets, self._sealed))
        return {**told, "packets": packets, "sealed": sealed}

    def _explained(self) -> dict[str, object]:
        return self._sealed.explained() if self._sealed else {"format": 1}

    def _summarize(self) -> None:
        """At the end, one line for all that there was."""
        self._summary.tick()
        if self._grants:
            tally, heard = self._grants.engine.tally, self._heard()
            say(
                PROGRAM,
                f"{heard['packets']} openings heard ({heard['lost']} more lost for want of room), "
                f"{tally.begun} sequences begun, {tally.opened} completed, {tally.reset} reset, "
                f"{tally.forgotten} forgotten",
            )


def serve(
    origin: Origin,
    runner: socket.socket | None,
    *,
    runner_at: str | None = None,
    keeper: str | None = None,
    drop_rights: bool = False,
) -> None:
    """Listen until a signal.

    ``runner_at``: where the runner is, if it does not share a link with us. ``keeper``: the socket of who
    reads the files of keys, where it is not we. ``drop_rights``: give all rights away once all is open.
    """
    configuration = origin.load()
    log.begin(configuration.gate.log)
    has_commands = any(door.commands for door in configuration.doors)
    if runner is None and runner_at and has_commands:
        runner = _runner_at(runner_at)
    if runner is None and has_commands:
        # The file has changed since the runner was decided on.
        raise BeginAnew
    ward = Ward(configuration)
    # The checksum does not cover keys. From here on a reload is told to us, so none goes unnoticed.
    ward.ping()
    bearers: list[Bearer] = []
    ssh_keys: tuple[SshKeys, ...] = ()
    kept = None
    if configuration.fwknop or configuration.sealed:
        from knockgate.daemon.bearers import bearers_of, ssh_keys_of  # noqa: PLC0415 - see above

        kept = _kept(keeper, origin) if keeper else None
        bearers = bearers_of(origin, configuration, kept.contents if kept else None)
        ssh_keys = ssh_keys_of(origin, configuration)
    listener = Listener(configuration, bearers, ssh_keys, ward, runner, kept)
    if drop_rights:
        give_all_away()
    line = _listening(len(configuration.daemon_doors()), len(bearers), listener.ssh_keys)
    say(PROGRAM, line)
    notify.ready(line)
    listener.serve()


def _kept(keeper: str, origin: Origin) -> Kept:
    from knockgate.config import places  # noqa: PLC0415 - see above
    from knockgate.daemon.kept import Kept  # noqa: PLC0415 - see above

    return Kept(keeper, places.load(origin.path))


def _runner_at(path: str) -> socket.socket:
    """The link to a runner that has a socket; it does not block. Raises Unavailable."""
    try:
        link = connected(path, socket.SOCK_SEQPACKET, _PATIENCE)
    except OSError as error:
        message = f"cannot reach the runner at {path}: {error.strerror or error}"
        raise Unavailable(message, hint="systemctl status knockgate-runner") from None
    link.settimeout(0)
    return link


def _listening(doors: int, keys: int, ssh_keys: int | None) -> str:
    """``ssh_keys``: None where there are no files of them; there may be none in those files."""
    parts = []
    if doors:
        parts.append(f"the knocks of {doors} {'door' if doors == 1 else 'doors'}")
    if keys:
        parts.append(f"the packets of {keys} {'key' if keys == 1 else 'keys'}")
    if ssh_keys is not None:
        parts.append(f"the sealed knocks of {ssh_keys} ssh {'key' if ssh_keys == 1 else 'keys'}")
    return f"listening for {' and '.join(parts)}" if parts else "no door needs the daemon to listen"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 after SIGTERM or SIGINT, 1 without the other halves, 2 if it cannot start, 75 to begin anew."""
    parser = Parser(
        prog=PROGRAM, description="Hear knocks, and tell what the kernel opened. Needs the warden."
    )
    Origin.add_arguments(parser)
    parser.add_argument("--runner", metavar="FD", type=int, help="descriptor of the link to the runner")
    parser.add_argument("--runner-at", metavar="SOCKET", help="where the runner is, if there are commands")
    parser.add_argument("--keeper", metavar="SOCKET", help="where the files of keys are read for it")
    parser.add_argument("--drop-rights", action="store_true", help="keep no capability once it listens")
    add_pause(parser)
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    runner = None
    if arguments.runner is not None:
        runner = socket.socket(fileno=arguments.runner)
        runner.settimeout(0)
    try:
        serve(
            Origin.of(arguments),
            runner,
            runner_at=arguments.runner_at,
            keeper=arguments.keeper,
            drop_rights=arguments.drop_rights,
        )
    except BeginAnew:
        sys.exit(BEGIN_ANEW)
    except (Gone, Surprise) as error:
        say(PROGRAM, str(error))
        sys.exit(1)
    except KnockgateError as error:
        say_why(PROGRAM, error)
        cannot_start(arguments.pause, error)
    sys.exit(0)
