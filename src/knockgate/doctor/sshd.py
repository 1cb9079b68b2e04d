"""What sshd reads and where it listens, by its own word (``sshd -T``).

Our options, ``doors=`` and ``max-lease=``, are mistakes to sshd: it refuses the whole line, and whoever
relies on that key is locked out. So all files that it reads are looked through for them, in bounds. Where
sshd does not tell which they are, those that it reads by default are.
"""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import itertools
import os
import pwd
import re
import shlex
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.config.toml import several
from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine, found
from knockgate.doctor.host import Host, Missing, output_of, read_text
from knockgate.errors import ConfigError, Unavailable
from knockgate.model import Port, Protocol
from knockgate.spa.sshkeys import Flaw, read
from knockgate.spa.sshkeys.files import MOST_OCTETS

__all__ = ["Account", "Settings", "examine", "files_of", "judge_lines", "judge_ports", "settings_of"]

_CONFIG = Path("/etc/ssh/sshd_config")
_WORD = re.compile(r"^\s*(include|authorizedkeysfile)(?:\s+|\s*=\s*)(.*)$", re.IGNORECASE | re.MULTILINE)
#: Users that are looked at, and files of sshd's configuration.
_MOST_USERS, _MOST_CONFIGS = 5000, 200
_DEFAULT_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    home: str


class Settings(NamedTuple):
    """What of ``sshd -T`` counts here."""

    ports: frozenset[Port]  #: reached from elsewhere
    files: tuple[str, ...]  #: patterns
    command: bool  #: it also asks a program for keys


def settings_of(text: str) -> Settings:
    """What ``sshd -T`` printed: a word and its value a line."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        values.setdefault(word.lower(), []).append(value.strip())
    ports = set()
    for value in values.get("listenaddress", ()):
        address, _, number = value.rpartition(":")
        with contextlib.suppress(ValueError):
            if not _is_local(address.strip("[]")):
                ports.add(Port(Protocol.TCP, int(number)))
    files = " ".join(values.get("authorizedkeysfile", ())).split()
    command = values.get("authorizedkeyscommand", ["none"])[0] != "none"
    return Settings(frozenset(ports), tuple(each for each in files if each != "none"), command)


def _is_local(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def examine(host: Host) -> Iterator[Finding]:
    """Its ports, and all files of keys that it reads."""
    bad: list[Finding] = []
    try:
        settings = settings_of(output_of("sshd", "-T"))
    except Missing:
        yield fine(Topic.SSHD, "there is no sshd on this host")
        return
    except Unavailable as error:
        bad.append(_silent(error))
        settings = Settings(frozenset(), _DEFAULT_FILES, command=False)
    bad += judge_ports(settings.ports, host.guarded)
    if settings.command:
        seen = "sshd asks a program for keys (AuthorizedKeysCommand)"
        bad.append(found(Kind.KEYS_BY_COMMAND, seen, "see that it prints neither doors= nor max-lease="))
    files, unasked = _all_files(settings)
    bad += unasked
    bad += _on_files(sorted(files))
    bad += judge_shared(_ours(host), files)
    yield from bad
    if not bad:
        ports = ", ".join(map(str, sorted(settings.ports))) or "no port"
        seen = f"sshd listens on {ports}; no line of the keys that it reads has an option of ours"
        yield fine(Topic.SSHD, seen)


def _silent(error: Unavailable) -> Finding:
    if "privilege separation directory" in error.message:
        fix = "mkdir -m 755 /run/sshd, which a running sshd has; then ask again"
    else:
        fix = "run it as root" if os.geteuid() else "mend it: sshd -t tells what is wrong"
    return blind(Topic.SSHD, f"where sshd listens, and what it reads: {error}", fix)


# --- ports --------------------------------------------------------------------------------------------


def judge_ports(ports: frozenset[Port], guarded: set[Port]) -> Iterator[Finding]:
    """Some behind a door, and some not. Where none is, sshd is not what is to be hidden."""
    free = sorted(ports - guarded)
    if free and ports & guarded:
        door = next(iter(ports & guarded))
        listed = ", ".join(map(str, free))
        fix = f"take the Port or ListenAddress out of sshd_config, or name {listed} in the door of {door}"
        yield found(Kind.SSHD_ELSEWHERE, f"sshd listens on {listed} as well, which no door guards", fix)


# --- files of keys ------------------------------------------------------------------------------------


def _all_files(settings: Settings) -> tuple[set[str], list[Finding]]:
    """What sshd may read of all users, and what could not be looked at.

    ``sshd -T`` tells what holds outside of all Match blocks. What such a block says holds for some; it is
    looked for of all.
    """
    patterns, told = list(settings.files), []
    try:
        patterns += _patterns(_CONFIG)
    except OSError as error:
        told.append(blind(Topic.SSHD, f"{error.filename or _CONFIG}: {error.strerror}", "run it as root"))
    accounts = list(itertools.islice(_accounts(), _MOST_USERS + 1))
    if len(accounts) > _MOST_USERS:
        seen = f"the keys of all users: there are more than {_MOST_USERS}"
        told.append(
            blind(Topic.SSHD, seen, "look for doors= and max-lease= in their files: grep -rl doors= /home")
        )
    return {path for each in accounts[:_MOST_USERS] for path in files_of(each, patterns)}, told


def _accounts(homes: Path = Path("/home")) -> Iterator[Account]:
    """Users that are listed, and whoever has a home: a directory server need not list its users."""
    listed = set()
    for each in pwd.getpwall():
        listed.add(each.pw_name)
        yield Account(each.pw_name, each.pw_uid, each.pw_dir)
    with contextlib.suppress(OSError):
        for home in homes.iterdir():
            if home.name not in listed:
                yield Account(home.name, home.stat().st_uid, str(home))


def _patterns(config: Path) -> Iterator[str]:
    """Whatever AuthorizedKeysFile says in that file and in those that it includes. OSError."""
    waiting, seen = [config], {config}
    while waiting:
        for word, value in _WORD.findall(read_text(waiting.pop()) or ""):
            try:
                values = shlex.split(value, comments=True)
            except ValueError:
                continue  # sshd would not start with it
            if word.lower() != "include":
                yield from (each for each in values if each.lower() != "none")
                continue
            for each in values:
                found_ = {Path(path) for path in glob.glob(str(config.parent / each))}  # noqa: PTH207 - as sshd
                waiting += sorted(found_ - seen)[: _MOST_CONFIGS - len(seen)]
                seen |= found_


def files_of(account: Account, patterns: Iterable[str]) -> Iterator[str]:
    """The files that those patterns mean for a user, as sshd_config(5) has AuthorizedKeysFile."""
    known = {"%": "%", "h": account.home, "u": account.name, "U": str(account.uid)}
    for pattern in patterns:
        path = re.sub(r"%(.)", lambda match: known.get(match[1], match[0]), pattern)
        yield path if path.startswith("/") else f"{account.home.rstrip('/')}/{path}"


def _on_files(paths: Sequence[str]) -> Iterator[Finding]:
    unread: list[str] = []
    for path in paths:
        try:
            octets = _read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            unread.append(f"{path} ({error.strerror})")
            continue
        if octets is not None:
            yield from judge_lines(path, octets)
    if unread:
        yield blind(Topic.SSHD, f"the keys in {several(unread, 1)}", "run it as root")


def _read(path: str) -> bytes | None:
    """A file, through links, as sshd does; None for what is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - before it is opened
            return None
        file = os.open(path, _FLAGS)
    except NotADirectoryError:
        raise FileNotFoundError from None
    with os.fdopen(file, "rb") as stream:
        return stream.read(MOST_OCTETS + 1)


def judge_lines(path: str, octets: bytes) -> Iterator[Finding]:
    """Lines of that file in which sshd meets an option of ours."""
    try:
        flaws = read(octets, ours=False, local=time.mktime).flaws
    except ConfigError as error:
        yield blind(Topic.SSHD, f"{path}: {error.message}", error.hint or "")
        return
    for flaw in flaws:
        if flaw.flaw is Flaw.OURS:
            seen = f"{path}:{flaw.line} has {flaw.key}="
            fix = f"move the line into a file of the gate's own, or take {flaw.key}= out of it"
            yield found(Kind.LOCKED_OUT, seen, fix)


def _ours(host: Host) -> list[str]:
    """Files that gate.toml takes for the gate's own."""
    if not host.configuration or not host.configuration.sealed or not host.path:
        return []
    from knockgate.config.keys import load_ssh  # noqa: PLC0415 - most gates have none

    with contextlib.suppress(ConfigError):  # told by who looks at rights
        keys = load_ssh(host.path, host.configuration)
        return [file.path for key in keys if key.ours for file in key.files]
    return []


def judge_shared(ours: Sequence[str], files: Iterable[str]) -> Iterator[Finding]:
    """``ours`` are taken for the gate's own, and ``files`` are read by sshd."""
    for path in sorted(set(ours) & set(files)):
        seen = f"sshd reads {path} too, which gate.toml takes for the gate's own"
        yield found(Kind.WOULD_LOCK_OUT, seen, "shared = true in its key in gate.toml")
