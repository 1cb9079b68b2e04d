"""The gate's own files, for the commands that change them: where they lie, one change at a time.

And a gate that runs must read them again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from knockgate.cli.terminal import advise, say
from knockgate.cli.words import FILE, Word
from knockgate.config import doors as configurations
from knockgate.config import readers
from knockgate.config.doors import DEFAULT_PATH, Configuration
from knockgate.config.toml import Reader, Wrong, shown
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError, KnockgateError, Unavailable

if TYPE_CHECKING:
    from knockgate.config.gatekeys import CardEntry, GateKeys, KeyEntry

__all__ = [
    "DATE",
    "GateFiles",
    "as_json_option",
    "card_argument",
    "config_option",
    "confirmed",
    "doubt_the_clock",
    "newest",
    "now",
]

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds for a listener to begin anew, and until it is looked for again.
_PATIENCE, _LOOK_AGAIN = 15.0, 0.02

config_option = click.option(
    "--config", metavar="FILE", type=FILE, help=f"The gate's configuration (default: {DEFAULT_PATH})."
)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Say what was done as one JSON object.")


@dataclass(frozen=True, slots=True)
class GateFiles:
    """Those of the gate that a configuration describes."""

    found: Configuration

    @classmethod
    def of(cls, config: str | None) -> GateFiles:
        """Raises ConfigError where the configuration is wrong."""
        return cls(configurations.load(config or DEFAULT_PATH))

    @property
    def folder(self) -> Path:
        """``gate.state_directory``."""
        return Path(self.found.gate.state_directory)

    @property
    def keys(self) -> Path:
        """``gate.keys``."""
        from knockgate.daemon.ownfiles import GATE_KEYS  # noqa: PLC0415 - see cli

        return self.folder / GATE_KEYS

    @property
    def marks(self) -> Path:
        """The store of marks."""
        from knockgate.daemon.ownfiles import MARKS  # noqa: PLC0415 - see cli

        return self.folder / MARKS

    @property
    def devices(self) -> Path:
        """The admin's word on devices."""
        from knockgate.daemon.ownfiles import DEVICES  # noqa: PLC0415 - see cli

        return self.folder / DEVICES

    def load(self) -> GateKeys:
        """Keys and cards; raises ConfigError."""
        from knockgate.config import gatekeys  # noqa: PLC0415 - see cli

        return gatekeys.load(self.keys)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One command at a time: what is read within is what is changed. Raises Unavailable."""
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            hint = "knockgate init makes a gate's keys"
            raise Unavailable(f"{self.folder}: there is no such folder", hint=hint) from None
        except OSError as error:
            hint = "run it as root" if isinstance(error, PermissionError) else "gate.state_directory names it"
            raise Unavailable(f"{self.folder}: {error.strerror}", hint=hint) from None
        try:
            if not os.access(self.folder, os.W_OK):
                raise Unavailable(f"{self.folder}: no right to write there", hint="run it as root")
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = "another knockgate changes the gate's files just now"
                raise Unavailable(message, hint="wait until it has ended") from None
            yield
        finally:
            os.close(folder)

    def take_up(self, done: str) -> None:
        """Have a running gate read its files again; ``done`` is what is so in the files already.

        When this returns it has. Raises Unavailable where it runs and cannot: what is done is not in force.
        """
        from knockgate.cli.gate import warden  # noqa: PLC0415 - see cli
        from knockgate.daemon.run import checked  # noqa: PLC0415 - see cli

        with warden(self.found) as client:
            if client is None:
                say("no gate runs here; it reads its files when it starts")
                return
            before = self._listener()
            try:
                # The warden does not read keys; a listener that cannot start would be the worst of all.
                client.reload(checked(Origin(self.found.file)).checksum)
            except KnockgateError as error:
                message = f"{done}, but the gate that runs goes on with what it had: {error}"
                raise Unavailable(message, hint=error.hint) from None
        # It is the listener that reads these files, when it begins anew.
        until = time.monotonic() + _PATIENCE
        while self._listener() in (None, before):
            if time.monotonic() > until:
                message = f"{done}, but the gate that runs does not listen any more"
                raise Unavailable(message, hint="its log says why")
            time.sleep(_LOOK_AGAIN)
        say("the gate that runs has read its files again")

    def _listener(self) -> int | None:
        """The process that listens now."""
        from knockgate.daemon.control import ask  # noqa: PLC0415 - see cli

        with contextlib.suppress(Unavailable):
            found: int = ask(self.found.gate.run_directory)["pid"]
            return found
        return None


def now() -> dt.datetime:
    """By this host's clock, to the second; what is dated by it is for this host alone."""
    return dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)


def newest(keys: GateKeys, name: str | None) -> tuple[KeyEntry, CardEntry]:
    """The card of that name to hand out, None: the only one; ConfigError where there is none, or another."""
    names = keys.names(now().timestamp())
    hint = f"there are: {', '.join(names)}" if names else "knockgate card new NAME"
    if name is None and len(names) != 1:
        raise ConfigError("say which card" if names else "there is no card", hint=hint)
    for one, card in keys.live(now().timestamp()):
        if name in (card.name, None):
            return one, card
    raise ConfigError(f"there is no card {shown(name)}", hint=hint)


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether somebody types yes to it, or has said so before; Unavailable where nobody can type."""
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise Unavailable("there is no terminal to ask on", hint="--yes says that it is meant")
    say(question)
    if click.prompt("type yes to go on", default="no", show_default=False, err=True) == "yes":
        return True
    say("nothing is changed")
    return False


def _date(value: str) -> dt.datetime:
    hint = "such as 2027-05-03 or 2027-05-03T18:00:00Z; UTC is meant"
    for kind in (dt.date, dt.datetime):
        with contextlib.suppress(ValueError, OverflowError):
            found: dt.datetime = readers.instant.read(kind.fromisoformat(value))
            if found <= now():
                raise Wrong(f"{shown(value)} is over", f"this host's clock says {now():%Y-%m-%d %H:%M} UTC")
            return found
    raise Wrong(f"{shown(value)} is no date", hint)


#: A day, with its last second, or a moment; it must be still to come.
DATE = Word("DATE", Reader("date, or date and time", _date))


def _complete_card(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    with contextlib.suppress(KnockgateError):
        names = GateFiles.of(ctx.params.get("config")).load().names(None)
        return [name for name in names if name.startswith(incomplete)]
    return []


def card_argument(*, required: bool) -> Callable[[F], F]:
    """``NAME`` of a card; a shell completes it, as root."""
    metavar = "NAME" if required else "[NAME]"
    return click.argument("name", metavar=metavar, required=required, shell_complete=_complete_card)


def doubt_the_clock() -> None:
    """Say it where nothing keeps the clock right that dates are made by."""
    from knockgate.clock import is_synchronised  # noqa: PLC0415 - see cli

    if not is_synchronised():
        say(f"nothing keeps this host's clock right: it says {now():%Y-%m-%d %H:%M} UTC")
        advise("where that is wrong, what ends at a date ends at another time")
