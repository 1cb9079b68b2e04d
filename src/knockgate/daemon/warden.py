"""The half with rights: owns the table, opens doors in it, and puts it back where somebody removes it.

It needs CAP_NET_ADMIN and nothing else, and reads nothing that a stranger wrote: its configuration, fixed
messages of its listener (``link.sock``) and of root (``warden.sock``), and the kernel's events. A listener
that comes and goes does not disturb it. When it ends the table stays, and the kernel goes on guarding.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from knockgate.config.unshut import shadow_in_words
from knockgate.daemon import log, loggroup, notify
from knockgate.daemon.arguments import Parser
from knockgate.daemon.control import FOLDER, LINK_SOCKET, WARDEN_SOCKET
from knockgate.daemon.guard import Guard
from knockgate.daemon.lasttime import guard_or_last_time, keep
from knockgate.daemon.link import (
    ANY_CHECKSUM,
    REQUEST_SIZE,
    Reply,
    Request,
    Status,
    Surprise,
    Verb,
    add_pause,
    admitted,
    cannot_start,
    number_of,
)
from knockgate.daemon.log import Event, Record, Seldom, say, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.sockets import Readable, Signals, accepted, alone, listen, only_one
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.watch import Watch

__all__ = ["PROGRAM", "Warden", "main"]

PROGRAM = "knockgate-warden"

#: How many may ask by hand at the same time; for one more the first of them is dropped.
_PEERS = 8
#: Seconds until the kernel is asked again that would not take the table back.
_TRY_AGAIN = 1.0


class Warden:
    """Waits for requests, signals and the end of its table."""

    def __init__(
        self,
        guard: Guard,
        watch: Watch | None,
        listener: int | None = None,
        only: socket.socket | None = None,
    ) -> None:
        """``watch`` is for a table that others may remove. ``listener``: its user, where that is another one.

        ``only`` shows other wardens that there is one (``sockets.only_one``).
        Raises Unavailable without a run directory, and where another warden is in it.
        """
        self._guard = guard
        self._reports: tuple[int, socket.socket] | None = None  # of which log group
        self._link: socket.socket | None = None
        self._peers: list[socket.socket] = []
        self._watch = watch
        self._lost_to: str | None = None  # who removed the table that the kernel did not take back
        self._again = 0.0
        self._ending = False
        self._seldom = Seldom(PROGRAM)
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._watchdog = notify.Watchdog()
        directory = guard.configuration.gate.run_directory
        self._alone = alone(directory, FOLDER, "another warden")
        # Who may come this far is the folder's business; whom we listen to, SO_PEERCRED's.
        self._listener = listener
        self._doorbell = listen(directory, LINK_SOCKET, socket.SOCK_SEQPACKET, mode=0o660)
        self._control = listen(directory, WARDEN_SOCKET, socket.SOCK_SEQPACKET)
        self._selector = selectors.DefaultSelector()
        self._when_readable(self._signals, self._obey)
        self._when_readable(self._doorbell, self._admit_listener)
        self._when_readable(self._control, self._admit_peer)
        if watch:
            self._when_readable(watch, self._look_at_table)
        if only:
            self._when_readable(only, partial(_hang_up, only))

    def serve(self) -> None:
        """Until SIGTERM or SIGINT; raises Surprise where the listener says what it never says."""
        while not self._ending:
            due = self._guard.next_copy() if self._lost_to is None else self._again
            timeout = None if due is None else max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(self._watchdog.wait(timeout)):
                key.data()
            now = time.monotonic()
            if self._lost_to is None:
                if self._guard.copy_if_due(now) and not self._guard.is_in_force():
                    self._put_back("by somebody who emptied it")
            elif now >= self._again:
                self._put_back(self._lost_to)

    def _when_readable(self, what: Readable, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    def _obey(self) -> None:
        signals = self._signals.take()
        if signals & {signal.SIGTERM, signal.SIGINT}:
            self._ending = True
        elif signal.SIGHUP in signals:
            self._reload()

    # --- the table ------------------------------------------------------------------------------------

    def _look_at_table(self) -> None:
        if self._watch and (removal := self._watch.removal()):
            self._put_back(removal.by)

    def _put_back(self, by: str) -> None:
        self._lost_to = None
        try:
            leases = self._guard.put_back()
        except Unavailable as error:
            text = f"the table was removed ({by}), and the kernel does not take it back: {error}"
            say(PROGRAM, text, Record(event=Event.TABLE))
            self._lost_to, self._again = by, time.monotonic() + _TRY_AGAIN
            return
        text = f"the table was removed ({by}); it is back, with {_count(leases, 'lease')}"
        say(PROGRAM, text, Record(event=Event.TABLE))
        if self._watch and self._guard.owned:  # nobody can remove the new one
            self._selector.unregister(self._watch)
            self._watch.close()
            self._watch = None
        self._tell_listener(Status.DONE)

    def _reload(self, expected: bytes = ANY_CHECKSUM) -> Reply:
        """Read the configuration again; the listener begins anew, and reads its own files again."""
        try:
            if not self._guard.reload(expected):
                return Reply(Status.OTHER_CONFIGURATION, owned=self._guard.owned)
        except KnockgateError as error:
            say(PROGRAM, "not reloaded, all stays as it is", Record(event=Event.RELOAD))
            say_why(PROGRAM, error, Record(event=Event.RELOAD))
            status = Status.BAD_CONFIGURATION if isinstance(error, ConfigError) else Status.KERNEL
            return Reply(status, owned=self._guard.owned, says=str(error))
        log.begin(self._guard.configuration.gate.log)
        say(PROGRAM, f"reloaded: {self.guarding()}", Record(event=Event.RELOAD))
        self._tell_listener(Status.OTHER_CONFIGURATION)
        self._lose_listener()
        return Reply(Status.DONE, owned=self._guard.owned)

    def guarding(self) -> str:
        """What is in force, for people."""
        doors = _count(len(self._guard.configuration.doors), "door")
        how = "nobody else can change the table" if self._guard.owned else "the table is watched"
        dark = shadow_in_words(self._guard.configuration)
        return f"{dark}; watching {doors}; {how}" if dark else f"guarding {doors}; {how}"

    # --- the listener ---------------------------------------------------------------------------------

    def _admit_listener(self) -> None:
        """One at a time: who comes next waits until it is gone."""
        self._link = admitted(self._doorbell, self._listener)
        if self._link:
            self._selector.unregister(self._doorbell)
            self._when_readable(self._link, partial(self._hear_listener, self._link))

    def _hear_listener(self, link: socket.socket) -> None:
        if link is not self._link:
            return  # lost in this very round
        message = _received(link)
        if message is None:
            return
        if not message:
            self._lose_listener()
            return
        request = Request.decode(message)
        if request.verb is Verb.HEAR:
            self._hand_over_reports(link, request)
        elif not _sent(link, self._guard.answer(request, by_hand=False)):
            self._lose_listener()

    def _hand_over_reports(self, link: socket.socket, request: Request) -> None:
        """The descriptor goes along with the reply; a second listener gets the same one again."""
        group = self._guard.configuration.gate.log_group
        if self._reports and self._reports[0] != group:
            self._reports[1].close()
            self._reports = None
        reply = Reply(Status.DONE, request.number, self._guard.restored, owned=self._guard.owned)
        descriptors = []
        if request.checksum != self._guard.configuration.checksum:
            reply = Reply(Status.OTHER_CONFIGURATION, request.number)
        else:
            try:
                self._reports = self._reports or (group, loggroup.bound_to(group))
                descriptors = [self._reports[1].fileno()]
            except Unavailable as error:
                reply = Reply(Status.KERNEL, request.number, owned=self._guard.owned, says=str(error))
        try:
            socket.send_fds(link, [reply.encode()], descriptors)
        except OSError:
            self._lose_listener()

    def _tell_listener(self, status: Status) -> None:
        if self._link:
            _sent(self._link, Reply(status, 0, self._guard.restored, owned=self._guard.owned))

    def _lose_listener(self) -> None:
        if self._link:
            self._selector.unregister(self._link)
            self._link.close()
            self._link = None
            self._when_readable(self._doorbell, self._admit_listener)

    # --- by hand --------------------------------------------------------------------------------------

    def _admit_peer(self) -> None:
        peer = admitted(self._control)
        if peer:
            if len(self._peers) == _PEERS:
                self._drop(self._peers[0])
            self._peers.append(peer)
            self._when_readable(peer, partial(self._hear_peer, peer))

    def _hear_peer(self, peer: socket.socket) -> None:
        if peer not in self._peers:
            return  # dropped in this very round
        message = _received(peer)
        if message is None:
            return
        try:
            request = Request.decode(message)
        except Surprise as surprise:
            if message:
                line = f"somebody with our rights sent {surprise} to {WARDEN_SOCKET}, and is dropped"
                self._seldom.say("surprise", line)
            self._drop(peer)
            return
        if request.verb is Verb.RELOAD:
            reply = self._reload(request.checksum)
            reply = Reply(reply.status, request.number, owned=reply.owned, says=reply.says)
        else:
            reply = self._guard.answer(request, by_hand=True)
        if not _sent(peer, reply):
            self._drop(peer)

    def _drop(self, peer: socket.socket) -> None:
        self._peers.remove(peer)
        self._selector.unregister(peer)
        peer.close()


def _received(connection: socket.socket) -> bytes | None:
    """A message, nothing where the other end is gone, None where there is none after all."""
    try:
        return connection.recv(REQUEST_SIZE + 1)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _sent(connection: socket.socket, reply: Reply) -> bool:
    """False where it does not take it: it is gone, or asks without reading."""
    try:
        connection.send(reply.encode())
    except OSError:
        return False
    return True


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _hang_up(doorbell: socket.socket) -> None:
    """Whoever has rung has seen who is here."""
    if ringing := accepted(doorbell):
        ringing.close()


def _only_warden() -> socket.socket | None:
    """There is one table for a network namespace: where nobody owns it, two would take it from each other.

    None where a stranger has taken the name. Raises Unavailable where another one runs, be it with another
    run directory.
    """
    users = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        users.add(pwd.getpwnam(PROGRAM).pw_uid)
    hint = "stop it first: one gate is for all doors of a host, and gate.toml takes many"
    return only_one("warden", users, Unavailable("another gate guards this host", hint=hint))


def serve(origin: Origin, *, own: bool, listener: str | None = None, last: Path | None = None) -> None:
    """Put the configuration in force and answer for it until a signal; ``listener`` is its user's name.

    ``last``: where the rules are kept for a start at which the configuration is wrong.
    """
    with Nftables(own=own) as firewall, _only_warden() or contextlib.nullcontext() as only:
        guard = guard_or_last_time(PROGRAM, origin, firewall, last)
        log.begin(guard.configuration.gate.log)
        watch = None if guard.owned else firewall.watch()
        if not firewall.is_loaded():  # removed before it was watched
            guard.load()
        if last:
            keep(PROGRAM, guard, last)
        warden = Warden(guard, watch, number_of(listener) if listener else None, only)
        say(PROGRAM, warden.guarding())
        notify.ready(warden.guarding())
        warden.serve()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exits 0 after SIGTERM or SIGINT, 1 on a surprise, 2 with a line and a hint where it cannot start."""
    parser = Parser(
        prog=PROGRAM,
        description="Guard the doors in the kernel, and open them for the listener and by hand.",
        epilog="The table stays in force when this program ends.",
    )
    Origin.add_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="watch the table instead of owning it")
    parser.add_argument("--listener-user", metavar="NAME", help="who may be the listener, beside root and us")
    parser.add_argument("--last", metavar="FILE", type=Path, help="rules for when the configuration is wrong")
    add_pause(parser)
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    try:
        serve(
            Origin.of(arguments),
            own=not arguments.watch,
            listener=arguments.listener_user,
            last=arguments.last,
        )
    except KnockgateError as error:
        say_why(PROGRAM, error)
        cannot_start(arguments.pause, error)
    except Surprise as surprise:
        say(PROGRAM, f"the listener sent {surprise}; ending, all that is open stays as it is")
        sys.exit(1)
    sys.exit(0)
