"""Whether the gate itself guards and hears, now and after the next boot; and what is left if it fails."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door
from knockgate.daemon.control import Facts, WardenClient, ask
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found
from knockgate.doctor.host import Host, output_of, read_text, running_programs
from knockgate.doctor.sshd import settings_of
from knockgate.doctor.surroundings import BOOT_FILES
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import TABLE, mark_of

__all__ = ["State", "examine", "judge", "judge_boot", "judge_rescue"]

_UNITS = "/etc/systemd/system/*.[wr]*/*knockgate*"  # .wants and .requires
#: Who asks for a name at a console.
_CONSOLES = {"agetty", "getty", "login", "sulogin", "mingetty"}


class State(NamedTuple):
    """What runs now."""

    loaded: bool
    in_force: bool  #: the table was made from this configuration
    warden: Facts | None
    listening: bool


def examine(host: Host) -> Iterator[Finding]:
    """Table, daemon, boot, and rescue."""
    if not host.configuration:
        fix = "knockgate init, or write one: /etc/knockgate/gate.toml"
        yield found(Kind.NOT_CONFIGURED, f"there is no configuration at {host.path}", fix)
        return
    try:
        state = _look(host)
    except Unavailable as error:
        yield blind(Topic.GATE, f"the gate itself: {error}", error.hint or "run it as root")
    else:
        yield from judge(state, needs_daemon=host.needs_daemon, guards=bool(host.guarded))
    yield from judge_shadow(host.configuration)
    texts = []
    for path in BOOT_FILES:
        with contextlib.suppress(OSError):  # told with the rules
            texts.append(read_text(path) or "")
    yield from judge_boot(glob.glob(_UNITS), texts, needs_daemon=host.needs_daemon)  # noqa: PTH207
    yield from _on_rescue(host)


def _look(host: Host) -> State:
    found_ = host.configuration
    if found_ is None:
        raise Unavailable("there is no configuration")
    with Nftables(own=False) as firewall:
        loaded, mark = firewall.is_loaded(), firewall.in_force()
    facts, listening = None, False
    with contextlib.suppress(Unavailable), WardenClient(found_.gate.run_directory) as client:
        facts = client.ping()
    with contextlib.suppress(Unavailable):
        ask(found_.gate.run_directory)
        listening = True
    return State(loaded, loaded and mark == mark_of(found_), facts, listening)


def judge(state: State, *, needs_daemon: bool, guards: bool) -> Iterator[Finding]:
    """``guards``: doors have ports; else there need be no table."""
    bad = []
    if not state.loaded and guards:
        fix = "knockgate up --confirm 60s" + (", then knockgate run" if needs_daemon else "")
        bad.append(found(Kind.NOT_LOADED, "the table is not loaded", fix))
    elif state.loaded and not state.in_force:
        seen = "the table was made from another configuration"
        bad.append(found(Kind.OTHER_CONFIGURATION, seen, "knockgate up; knockgate check tells what it means"))
    if needs_daemon and not state.listening:
        seen = (
            "the daemon is not running" if state.warden is None else "the daemon's listener does not answer"
        )
        bad.append(
            found(
                Kind.NOT_RUNNING, seen, "knockgate run; systemctl restart knockgate-warden knockgate-listener"
            )
        )
    yield from bad
    if not bad:
        by = "owned by the daemon" if state.warden and state.warden.owned else "watched by the daemon"
        yield fine(Topic.GATE, f"the doors are guarded{'' if state.warden is None else f', the table {by}'}")


def judge_shadow(configuration: Configuration) -> Iterator[Finding]:
    """The safe way to begin, and easily forgotten."""
    names = [door.name for door in configuration.doors if door.shadow]
    fix = "`knockgate status` says who would be kept out; then take shadow out of gate.toml, and knockgate up"
    if configuration.gate.shadow:
        yield found(Kind.SHADOW, "no door is shut: [gate] has shadow = true", fix)
    elif names:
        yield found(Kind.SHADOW, f"not shut: {', '.join(names)}, with shadow = true", fix)


def judge_boot(units: Sequence[str], boot_files: Sequence[str], *, needs_daemon: bool) -> Iterator[Finding]:
    """``units`` of ours that are enabled, and what is in the files that nftables.service loads."""
    if units or (not needs_daemon and any(TABLE in text for text in boot_files)):
        return
    fix = "systemctl enable --now the gate's units; without a daemon: docs/gate.md, At boot"
    yield found(Kind.NOT_AT_BOOT, "nothing that runs at boot puts the gate up", fix)


# --- rescue -------------------------------------------------------------------------------------------


def _on_rescue(host: Host) -> Iterator[Finding]:
    try:
        ports = settings_of(output_of("sshd", "-T")).ports
    except Unavailable:
        return  # told with sshd
    doors = (
        [door for door in host.configuration.doors if set(door.ports) & ports] if host.configuration else []
    )
    if ports and ports <= host.guarded:
        consoles = bool(running_programs() & _CONSOLES) and Path("/sys/class/tty/console/active").exists()
        allowed = bool(host.configuration and host.configuration.gate.allow)
        yield from judge_rescue(doors, console=consoles or allowed)


def judge_rescue(doors: Sequence[Door], *, console: bool) -> Iterator[Finding]:
    """``doors`` are all those that lead to sshd; ``console``: there is a way in beside all doors."""
    ways = sum(bool(door.sequence) + door.keyed for door in doors)
    if console or ways > 1 or any(door.allow for door in doors):
        return
    names = ", ".join(door.name for door in doors)
    seen = f"sshd is behind door {names} alone, which {'one kind of knock' if ways else 'a hand alone'} opens"
    fix = (
        "allow = [...] in gate.toml, with a network of yours; a second kind of knock; or a console that works"
    )
    yield found(Kind.NO_RESCUE, seen, fix, most=Severity.NOTE)
