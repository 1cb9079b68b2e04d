"""``knockgate up``, ``confirm`` and ``down``: putting the table in force, for good or on trial, and away."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

import click

from knockgate.cli.keyring import keys_of
from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import configuration, seconds
from knockgate.config.doors import Configuration
from knockgate.config.toml import duration, several, spell
from knockgate.config.unshut import shadow_in_words
from knockgate.daemon.origin import Origin
from knockgate.errors import KnockgateError, Unavailable

if TYPE_CHECKING:
    from knockgate.cli.trial import Outcome, Trial

__all__ = ["confirm", "down", "up"]

_QUESTION = "type yes to keep it, Ctrl-C to roll back: "


@click.command(cls=Page)
@configuration(file=True)
@click.option(
    "--confirm",
    "trial_time",
    type=seconds(duration(1, 86400)),
    help="Roll back after this time unless confirmed, such as 60s.",
)
def up(origin: Origin, *, trial_time: float | None) -> int:
    r"""Put the table in force: from then on the doors are shut.

    Loads the table `inet knockgate`, all of it or nothing, and touches no other table. Done again it
    changes what is different; live leases stay. Where there was no table before, TCP sessions that are
    under way may go on, among them the one that you type on. While the daemon runs, it is asked to read
    its configuration again.

    With --confirm the table is on trial: it is rolled back to what was there before at the end of the
    time, unless somebody types yes, or says `knockgate confirm` in another session. The rollback also
    comes when this terminal is cut off, and when this process is killed. Ctrl-C rolls back at once.
    When you are cut off, try to come back in by knocking, and confirm.

    The file is not rolled back: whatever starts the gate again, and a reboot where units do, goes by it.

    The daemon's table cannot be on trial, and nobody can knock while the daemon is stopped for one. There a
    timer of systemd's brings the old file back, unless you stop it (`systemctl stop way-back.timer`) in a
    session that came in anew. As root, in /etc/knockgate, before you change the file:

        cp -p gate.toml gate.toml.old
        systemd-run --unit way-back --on-active 60s --working-directory /etc/knockgate \
            sh -c 'mv gate.toml.old gate.toml && systemctl reload knockgate-warden'

    Exit status: 0 the table is in force; 1 it was rolled back; 2 it could not be loaded, and all is as
    before.

    For example:

        knockgate up
        knockgate up --confirm 60s gate.toml
    """
    from knockgate.cli import trial  # noqa: PLC0415 - see cli
    from knockgate.cli.gate import warden  # noqa: PLC0415 - see cli

    found = origin.load()
    keys_of(origin, found)  # a key that cannot be used is found now, and not when somebody knocks
    trial.refuse_while_one_waits(found.gate.run_directory)
    with warden(found) as client:
        if client and trial_time:
            hint = "a timer can bring the old file back: the help of this command shows how"
            raise Unavailable("the daemon runs, and its table cannot be rolled back by others", hint=hint)
        if client:
            client.reload(found.checksum)  # it reads the file that it was started with, which may be another
            tell(f"the daemon has read it again: {_guarded(found)}")
            _advise_on_shadow(found)
            return 0
    if trial_time:
        _refuse_while_the_unit_starts()
    _warn_of_the_interface(found)
    ruleset = _compiled(found)
    if trial_time:
        return _on_trial(found, ruleset, trial_time)
    _load(ruleset)
    tell(_guarded(found))
    _advise_on_shadow(found)
    _tell_of_the_daemon(found)
    return 0


def _refuse_while_the_unit_starts() -> None:
    """Raises Unavailable where systemd starts a warden, again and again: it would own what is on trial."""
    from knockgate.doctor.host import output_of  # noqa: PLC0415 - see cli
    from knockgate.doctor.units import WARDEN  # noqa: PLC0415 - see cli

    state = ""
    with contextlib.suppress(Unavailable):  # no systemd
        state = output_of("systemctl", "show", "--property=ActiveState", "--value", WARDEN).strip()
    if state in ("active", "activating", "reloading"):
        hint = "systemctl stop knockgate-warden knockgate-listener; and start both when it is confirmed"
        raise Unavailable(f"{WARDEN} is being started, and would take over what is on trial", hint=hint)


def _warn_of_the_interface(found: Configuration) -> None:
    """It may come later; until then the table guards nothing, and nobody would notice."""
    from knockgate.doctor.surroundings import on_interface  # noqa: PLC0415 - see cli

    for advice in on_interface(found):
        click.echo(f"knockgate: warning: {advice.message}\n  hint: {advice.hint}", err=True)


def _compiled(found: Configuration) -> str:
    """What puts the table in force over the one that is there now."""
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli
    from knockgate.firewall.ruleset import compile_ruleset  # noqa: PLC0415 - see cli

    with Nftables(own=False) as firewall:
        return compile_ruleset(found, stale_chains=firewall.chains(), grace=not firewall.is_loaded())


def _load(ruleset: str) -> None:
    """Put a rule set in force. Afterwards the table waits for a daemon to own it."""
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    with Nftables(own=True) as firewall:
        firewall.load(ruleset)


def _guarded(found: Configuration) -> str:
    ports = [port for door in found.doors for port in door.ports]
    return shadow_in_words(found) or f"{several(ports) or 'no port'}: shut until somebody knocks"


def _advise_on_shadow(found: Configuration) -> None:
    if shadow_in_words(found):
        advise("`knockgate status` says who would be kept out; take shadow away to shut it")


def _tell_of_the_daemon(found: Configuration) -> None:
    if waiting := [door.name for door in found.doors if door.needs_daemon]:
        who = "nobody" if found.daemon_doors() else "no packet"
        say(f"without the daemon {who} opens {several(waiting)}")
        advise("knockgate run")


@click.command(cls=Page)
@configuration(file=True)
def confirm(origin: Origin) -> int:
    """Keep the table that `knockgate up --confirm` has put on trial.

    To be said in another session than the one that waits; best in one that came in by knocking.

    Exit status: 0 it stays; 1 there is nothing on trial, because it is confirmed or was rolled back;
    2 it could not be confirmed.
    """
    from knockgate.cli import trial  # noqa: PLC0415 - see cli

    outcome = trial.confirm(origin.load().gate.run_directory)
    if outcome is None:
        say("there is nothing on trial")
        advise("it has been confirmed, or rolled back: knockgate status")
        return 1
    return _tell_of_the_end(outcome)


@click.command(cls=Page)
@configuration(file=True)
def down(origin: Origin) -> int:
    """Take the table away: all doors stand open.

    Deletes the table `inet knockgate`, with all leases, and nothing else. Refused while the daemon runs,
    which would put it back.

    Exit status: 0 there is no table now; 2 it could not be taken away.
    """
    from knockgate.cli import trial  # noqa: PLC0415 - see cli
    from knockgate.cli.gate import warden  # noqa: PLC0415 - see cli
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    found = origin.load()
    trial.refuse_while_one_waits(found.gate.run_directory)
    with warden(found) as client:
        if client:
            hint = "stop it first: Ctrl-C where `knockgate run` runs, or SIGTERM"
            raise Unavailable("the daemon runs and guards the table", hint=hint)
    with Nftables(own=False) as firewall:
        was_there = firewall.is_loaded()
        firewall.unload()
    tell("nothing is guarded any more" if was_there else "there was no table")
    return 0


# --- on trial -----------------------------------------------------------------------------------------


def _on_trial(found: Configuration, ruleset: str, trial_time: float) -> int:
    from knockgate.cli import trial  # noqa: PLC0415 - see cli

    under_way = trial.begin(found.gate.run_directory, trial_time, _restoring())
    try:
        _load(ruleset)
        tell(f"{_guarded(found)}; on trial for {spell(trial_time)}")
        _ask(under_way, time.monotonic() + trial_time, trial_time)
    except KnockgateError:  # nothing was loaded
        under_way.answer("none")
        raise
    except KeyboardInterrupt:
        under_way.answer("undo")
    except BaseException:
        under_way.answer("undo")
        under_way.outcome()
        raise
    outcome = under_way.outcome()
    if outcome.kept:
        _tell_of_the_daemon(found)
    return _tell_of_the_end(outcome)


def _restoring() -> Callable[[], None]:
    """What brings back the table of now, or its absence. Leases that were given since stay.

    No socket is kept for it: the process that rolls back needs one of its own, and none that owns.
    """
    from knockgate.firewall.nftables import Nftables  # noqa: PLC0415 - see cli

    with Nftables(own=False) as firewall:
        before, chains = firewall.text(), firewall.chains()

    def restore() -> None:
        with Nftables(own=False) as firewall:
            if before:
                new = sorted(firewall.chains() - chains)
                firewall.load(before + "".join(f"delete chain inet knockgate {name}\n" for name in new))
            else:
                firewall.unload()

    return restore


def _ask(under_way: Trial, deadline: float, whole: float) -> None:
    """Wait until the trial has ended, or somebody has typed yes."""
    waiting: list[Trial | TextIO] = [under_way]
    if sys.stdin:  # None where it was closed before we began
        waiting.append(sys.stdin)
    asks = bool(sys.stdin) and sys.stdin.isatty()
    shows = asks and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if asks:
        # The bar stands above the line on which one types, and is drawn anew without touching that.
        print(("\n" if shows else "") + _QUESTION, end="", file=sys.stderr, flush=True)
    while True:
        if shows:
            _draw(max(0.0, deadline - time.monotonic()), whole)
        ready, _, _ = select.select(waiting, [], [], 0.5 if shows else None)
        if under_way in ready:
            break
        if sys.stdin in ready and _says_yes(waiting):
            under_way.answer("keep")
            break
    if asks:
        print(file=sys.stderr)


def _says_yes(waiting: list[Trial | TextIO]) -> bool:
    typed = os.read(sys.stdin.fileno(), 4096).decode(errors="replace")
    if not typed:  # nobody types here
        waiting.remove(sys.stdin)
        return False
    if any(line.strip().lower() in ("yes", "y") for line in typed.splitlines()):
        return True
    if sys.stdin.isatty():
        print(_QUESTION, end="", file=sys.stderr, flush=True)
    return False


def _draw(left: float, whole: float) -> None:
    filled = round(40 * left / whole)
    bar = "#" * filled + "-" * (40 - filled)
    # Save the cursor, a line up, from its beginning, clear the rest, back.
    print(f"\x1b7\x1b[1A\r[{bar}] {left:3.0f} s\x1b[K\x1b8", end="", file=sys.stderr, flush=True)


def _tell_of_the_end(outcome: Outcome) -> int:
    if outcome.kept:
        tell("confirmed: it stays")
        return 0
    if outcome.failure:
        raise Unavailable(f"{outcome.why}, and it could not be rolled back: {outcome.failure}")
    tell(f"{outcome.why}: rolled back")
    return 1
