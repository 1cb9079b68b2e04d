"""``knockgate run``: starts the halves of the gate and starts them again, where no systemd does.

The warden comes first and stays. Listener and runner share a link, whose ends are of no use without each
other, so they come and go together. A half that ends, or that cannot be started for want of a process, a
descriptor or a disk, is started again, at first at once and then ever more slowly. While the warden guards
that goes on for good; where the warden itself keeps ending it is better to end with an error than to look
like a gate that works. In all of this the table stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from knockgate.config.doors import Configuration
from knockgate.daemon import log, notify, sockets
from knockgate.daemon.control import FOLDER, WardenClient
from knockgate.daemon.errands import ENDS_WITHIN
from knockgate.daemon.halves import Half
from knockgate.daemon.link import BEGIN_ANEW, COULD_NOT_START
from knockgate.daemon.log import Event, Record, say, say_why
from knockgate.daemon.origin import Origin
from knockgate.daemon.sockets import Readable, Signals
from knockgate.errors import ConfigError, KnockgateError, Unavailable

__all__ = ["PROGRAM", "alone", "checked", "supervise"]

PROGRAM = "knockgate"

#: So many failures in a row are too many; a half that was ready for so many seconds begins a new row.
_TOO_MANY, _A_NEW_ROW = 5, 10.0
#: Seconds before the second start in a row; it doubles from one to the next, up to a limit.
_BACK_OFF, _LONGEST = 0.1, 30.0
_STARTING = "start"
#: Seconds in which a half must be ready: thousands of doors are loaded in a fraction of it.
_PATIENCE = 60.0
#: What it takes to change what may not change while the gate runs; leases and rules stay meanwhile.
_STOP_UNITS = "stop it first: systemctl stop knockgate-warden knockgate-listener; and then start both again"
#: Seconds until a configuration is looked at again that was wrong when it was needed.
_LOOK_AGAIN = 1.0


def supervise(origin: Origin, *, own: bool = True) -> int:
    """Run the gate until SIGTERM or SIGINT; returns the exit status (0, or 1 where the warden keeps ending).

    SIGHUP reloads. With ``own`` the table is the warden's alone where the kernel can do that, else it
    watches it. Raises ConfigError for a configuration that is wrong, and Unavailable where the gate cannot
    start: another one runs, or a right is missing. What it has to say it says on stderr, a line each.
    The table stays when it ends.
    """
    gate = checked(origin).gate
    log.begin(gate.log)
    directory = gate.run_directory
    with alone(directory):
        supervisor = _Supervisor(origin, directory, own=own)
        try:
            return supervisor.run()
        finally:
            supervisor.end()


class _Stopped(Exception):
    """SIGTERM or SIGINT came."""


class _Ended(Exception):
    """A half is not there any more."""

    def __init__(self, half: Half) -> None:
        super().__init__(half.name)
        self.half = half


class _Supervisor:
    def __init__(self, origin: Origin, directory: str, *, own: bool) -> None:
        self._origin = origin
        self._directory = directory
        self._own = own
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        self._reload_wanted = False
        self._was_ready = False
        self._failures: Counter[str] = Counter()  # in a row, of each half, and of starting them
        self._warden: Half | None = None
        self._hearing: list[Half] = []  # listener, and runner where there are commands

    def run(self) -> int:
        """Until a signal, or until it is of no use."""
        try:
            while True:
                try:
                    self._start_what_is_missing()
                    self._watch()
                except _Ended as ended:
                    if not self._may_go_on_without(ended.half):
                        return 1
                except (Unavailable, OSError) as error:
                    if not self._was_ready:
                        raise
                    self._start_later(error)
        except _Stopped:
            return 0

    def end(self) -> None:
        """All halves, in the order in which they need each other."""
        self._end_hearing()
        if self._warden:
            self._warden.end()
            self._warden = None

    def _end_hearing(self) -> None:
        for half in self._hearing:
            half.ask_to_end()
        for half in self._hearing:
            half.end()
        self._hearing = []

    # --- starting -------------------------------------------------------------------------------------

    def _start_what_is_missing(self) -> None:
        if self._warden and self._warden.ended():
            raise _Ended(self._warden)
        configuration = None
        if self._warden is None:
            # It could not start with a wrong one; the kernel guards meanwhile.
            configuration = self._configuration()
            watching = [] if self._own else ["--watch"]
            self._warden = Half("warden", [*self._origin.arguments(), *watching], self._directory)
            self._warden.let_go()
        if not self._hearing:
            self._make_hearing(configuration or self._configuration())
        self._await(self._warden)
        for half in self._hearing:  # not before: what they hear at is guarded
            half.let_go()
        for half in self._hearing:
            self._await(half)
        self._failures.pop(_STARTING, None)
        if not self._was_ready:
            self._was_ready = True
            notify.ready("all halves are running")

    def _make_hearing(self, configuration: Configuration) -> None:
        arguments = self._origin.arguments()
        needs = _needed_by(configuration)
        if not any(door.commands for door in configuration.doors):
            self._hearing = [Half("listener", arguments, self._directory, needs=needs)]
        else:
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with here, there:
                link = ["--link", str(there.fileno())]
                runner = Half(
                    "runner",
                    [*arguments, *link],
                    self._directory,
                    inherits=[there.fileno()],
                    dies_by=signal.SIGTERM,  # it has commands to end
                    patience=ENDS_WITHIN,
                )
                self._hearing = [runner]
                link = ["--runner", str(here.fileno())]
                arguments = [*arguments, *link]
                inherits = [here.fileno()]
                listener = Half("listener", arguments, self._directory, needs=needs, inherits=inherits)
                self._hearing = [listener, runner]

    def _configuration(self) -> Configuration:
        """As it is in the file now; a wrong one is waited out, since what is in force stays so."""
        said = False
        while True:
            try:
                configuration = checked(self._origin)
            except ConfigError as error:
                if self._warden and self._warden.ended():
                    raise _Ended(self._warden) from None
                if not said:
                    say_why(PROGRAM, error)
                    say(PROGRAM, "nothing is listened for until the configuration is put right")
                said = True
                self._pause(_LOOK_AGAIN)
            else:
                log.begin(configuration.gate.log)
                return configuration

    def _await(self, half: Half) -> None:
        """Wait until it is ready; raises Ended where it ends or takes too long, and Stopped."""
        if half.was_ready:
            return
        until = time.monotonic() + _PATIENCE
        while True:
            both: list[Readable] = [self._signals, half.ready]
            # It may have ended, and its SIGCHLD been taken, while we waited for another one.
            wait = 0.0 if half.ended() else max(0.0, until - time.monotonic())
            readable, _, _ = select.select(both, [], [], wait)
            self._obey()
            if half.ready in readable and half.says_ready():
                return
            if not readable and not half.ended():
                say(PROGRAM, f"the {half.name} is not ready after {_PATIENCE:g} s")
                half.end()
            if half.ended():
                raise _Ended(half)

    # --- running --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until a half ends (raises Ended) or a signal ends us (raises Stopped)."""
        while True:
            for half in (self._warden, *self._hearing):
                if half and half.ended():
                    raise _Ended(half)
            if self._reload_wanted:
                self._reload()
            self._pause(None)

    def _pause(self, seconds: float | None) -> None:
        select.select([self._signals], [], [], seconds)
        self._obey()

    def _obey(self) -> None:
        signals = self._signals.take()
        if signals & {signal.SIGTERM, signal.SIGINT}:
            raise _Stopped
        self._reload_wanted = self._reload_wanted or signal.SIGHUP in signals

    def _reload(self) -> None:
        """The warden reads the file anew, if it is right; its listener then begins anew by itself."""
        self._reload_wanted = False
        try:
            checked(self._origin)
            with WardenClient(self._directory) as warden:
                warden.reload()
        except KnockgateError as error:
            say(PROGRAM, "not reloaded, all stays as it is", Record(event=Event.RELOAD))
            say_why(PROGRAM, error, Record(event=Event.RELOAD))

    def _may_go_on_without(self, half: Half) -> bool:
        """Clear away what ended and what needs it; False where starting it again has been no use."""
        status = half.status()
        if half is self._warden:
            self.end()
        else:
            self._end_hearing()
        if status == BEGIN_ANEW and half.was_ready:
            return True  # it was asked to, after a reload
        if status == BEGIN_ANEW:
            self._reload()  # the file is not the one any more that the warden has in force
        elif status == COULD_NOT_START and not self._was_ready:
            raise Unavailable(f"the {half.name} cannot start", hint="the lines above say why")
        if half.has_lasted(_A_NEW_ROW):
            self._failures[half.name] = 0
        self._failures[half.name] += 1
        if self._failures[half.name] >= _TOO_MANY and (half.name == "warden" or not self._was_ready):
            say(PROGRAM, f"the {half.name} {half.ended()}, again and again; giving up, the table stays")
            return False
        again = f"the {half.name} {half.ended()}; starting it again{self._when(half.name)}"
        say(PROGRAM, again, Record(event=Event.HALF))
        self._back_off(half.name)
        return True

    def _start_later(self, error: Unavailable | OSError) -> None:
        """There was no process, descriptor or disk for a half; the others are none the worse for it."""
        self._end_hearing()
        self._failures[_STARTING] += 1
        say(PROGRAM, f"{error}; trying again{self._when(_STARTING)}")
        self._back_off(_STARTING)

    def _delay(self, name: str) -> float:
        times = self._failures[name]
        return min(_LONGEST, _BACK_OFF * 2.0 ** min(times - 2, 20)) if times > 1 else 0.0

    def _when(self, name: str) -> str:
        return f" in {delay:g} s" if (delay := self._delay(name)) >= 1 else ""

    def _back_off(self, name: str) -> None:
        """Wait, but not longer than the warden lives or than nobody asks for a reload."""
        until = time.monotonic() + self._delay(name)
        while (left := until - time.monotonic()) > 0 and not self._reload_wanted:
            if self._warden and self._warden.ended():
                return
            self._pause(left)


def checked(origin: Origin) -> Configuration:
    """What the halves will read, with the keys and their secrets; raises ConfigError.

    Unavailable where what is to be imported for keys is not what we are of.
    """
    configuration = origin.load()
    if configuration.fwknop or configuration.sealed:
        try:
            _check_keys(origin, configuration)
        except ImportError as error:  # which is to end no gate that runs
            hint = "was another version installed since this one was started? Start it again"
            raise Unavailable(f"the keys cannot be looked at: {error}", hint=hint) from error
    return configuration


def _check_keys(origin: Origin, configuration: Configuration) -> None:
    from knockgate.daemon.bearers import bearers_of, ssh_keys_of  # noqa: PLC0415 - most gates have no keys

    bearers_of(origin, configuration)
    if configuration.sealed:
        from knockgate.daemon.ownfiles import own_files  # noqa: PLC0415 - as above

        ssh_keys_of(origin, configuration)
        own_files(configuration)


def _needed_by(configuration: Configuration) -> list[str]:
    """What its listener imports of what not every gate needs."""
    needed = {
        "knockgate.daemon.bearers": configuration.fwknop or configuration.sealed,
        "knockgate.daemon.grants": configuration.daemon_doors(),
        "knockgate.daemon.packets": configuration.fwknop,
        "knockgate.daemon.sealed": configuration.sealed,
    }
    return [module for module, by in needed.items() if by]


def _make(directory: str) -> None:
    """The run directory; what is there must be ours. Raises Unavailable.

    Others may enter it: units that are started later have their folders in it, as users of their own. What
    lies in it is of mode 0600.
    """
    hint = "gate.run_directory names it"
    try:
        with contextlib.suppress(FileExistsError):
            Path(directory).mkdir(parents=True)
            Path(directory).chmod(0o755)  # whatever the umask
        found = Path(directory).lstat()
    except OSError as error:
        raise Unavailable(f"cannot make {directory}: {error.strerror}", hint=hint) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Unavailable(f"{directory} is not a folder that we alone may write to", hint=hint)


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """Keep every other gate of this run directory out; the kernel lets go of it however we end.

    Raises Unavailable where one runs. What may not change under a running gate is changed in such a block.
    """
    _make(directory)
    path = Path(directory, "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "gate.run_directory names the folder"
        raise Unavailable(f"cannot write {path}: {error.strerror}", hint=hint) from None
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"knockgate is running already, with {directory}",
                hint="stop it first; one gate is for all doors of a host",
            ) from None
        # Where systemd runs the halves there is no supervisor, but a warden.
        os.close(sockets.alone(directory, FOLDER, "a warden of knockgate", _STOP_UNITS))
        yield
