"""Whether the gate itself guards and hears, now and after the next boot; and what is left if it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.config.doors import Configuration, Door
from knockgate.config.unshut import shadow_in_words
from knockgate.daemon.control import Facts, WardenClient, ask
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found
from knockgate.doctor.host import Host, output_of, read_text, running_programs
from knockgate.doctor.sshd import settings_of
from knockgate.doctor.surroundings import BOOT_FILES
from knockgate.doctor.units import LISTENER, RULES, WARDEN, Does, enabled, is_there
from knockgate.errors import Unavailable
from knockgate.firewall.names import TABLE, mark_of
from knockgate.firewall.nftables import Nftables

__all__ = ["State", "examine", "judge", "judge_boot", "judge_rescue"]

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
        yield from judge(
            state, needs_daemon=host.needs_daemon, guards=bool(host.guarded), units=is_there(LISTENER)
        )
    yield from judge_shadow(host.configuration)
    texts = []
    for path in BOOT_FILES:
        with contextlib.suppress(OSError):  # told with the rules
            texts.append(read_text(path) or "")
    yield from judge_boot(enabled(), texts, needs_daemon=host.needs_daemon, units=is_there(WARDEN))
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


def judge(state: State, *, needs_daemon: bool, guards: bool, units: bool) -> Iterator[Finding]:
    """``guards``: doors have ports; else there need be no table. ``units``: ours are there."""
    bad = []
    if not state.loaded and guards:
        runs = f"systemctl start {LISTENER}" if units else "knockgate run"
        fix = "knockgate up --confirm 60s" + (f", then {runs}" if needs_daemon else "")
        bad.append(found(Kind.NOT_LOADED, "the table is not loaded", fix))
    elif state.loaded and not state.in_force:
        seen = "the table was made from another configuration"
        bad.append(found(Kind.OTHER_CONFIGURATION, seen, "knockgate up; knockgate check tells what it means"))
    if needs_daemon and not state.listening:
        seen = (
            "the daemon is not running" if state.warden is None else "the daemon's listener does not answer"
        )
        fix = f"systemctl restart {WARDEN} {LISTENER}; journalctl -u 'knockgate-*' says why it ended"
        bad.append(
            found(Kind.NOT_RUNNING, seen, fix if units else "knockgate install --now; or: knockgate run")
        )
    yield from bad
    if not bad:
        by = "owned by the daemon" if state.warden and state.warden.owned else "watched by the daemon"
        yield fine(Topic.GATE, f"the doors are guarded{'' if state.warden is None else f', the table {by}'}")


def judge_shadow(configuration: Configuration) -> Iterator[Finding]:
    """The safe way to begin, and easily forgotten."""
    fix = "`knockgate status` says who would be kept out; then take shadow out of gate.toml, and knockgate up"
    if dark := shadow_in_words(configuration):
        yield found(Kind.SHADOW, dark, fix)


def judge_boot(
    starts: Mapping[str, Does], boot_files: Sequence[str], *, needs_daemon: bool, units: bool
) -> Iterator[Finding]:
    """``starts``: units that are enabled; ``boot_files``: what is in those that nftables.service loads.

    ``units``: ours are there, enabled or not.
    """
    wanted = f"{WARDEN} {LISTENER}" if needs_daemon else RULES
    fix = f"systemctl enable --now {wanted}"
    if not units:
        fix = (
            "knockgate install --now"
            if needs_daemon
            else f"knockgate install; {fix}; or docs/gate.md, At boot"
        )
    guards = bool(starts) or any(TABLE in text for text in boot_files)
    if not guards:
        yield found(Kind.NOT_AT_BOOT, "nothing that runs at boot puts the gate up", fix)
    elif needs_daemon and not any(Does.HEARS in each for each in starts.values()):
        seen = f"what runs at boot hears no knock: {', '.join(starts) or 'rules of nftables.service alone'}"
        yield found(Kind.NOT_AT_BOOT, seen, fix)
    if RULES in starts and (others := {WARDEN, LISTENER} & set(starts)):
        seen = f"{RULES} and {min(others)} are both to be started at boot"
        given_up = [RULES] if needs_daemon else sorted(others)
        yield found(Kind.TWICE_AT_BOOT, seen, f"systemctl disable {' '.join(given_up)}")


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
