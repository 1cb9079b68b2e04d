"""The first gate.toml of a host, out of three answers: which port, who may knock, for how long."""

from __future__ import annotations

import os
import pwd
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knockgate.cli.new_files import refuse_without_right
from knockgate.cli.words import seconds
from knockgate.config import doors as configurations
from knockgate.config import keys as configured_keys
from knockgate.config import readers
from knockgate.config.doors import DEFAULT_PATH, Configuration, Gate
from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import ASKED_FOR
from knockgate.config.toml import Wrong, duration, shown, spell
from knockgate.config.writing import listed, quoted, table
from knockgate.errors import ConfigError, Unavailable
from knockgate.model import Port, Protocol
from knockgate.spa import sshkeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knockgate.config.keyfiles import Notice
    from knockgate.config.keys import SshKeys

__all__ = ["Plan", "Who", "door_of", "lease", "likely_user", "of_file", "of_users", "places", "port", "who"]

_STATE = Gate().state_directory
_SSH_PORT = Port(Protocol.TCP, 22)
_SSH = ".ssh"
_IN_HOME = f"%h/{_SSH}/authorized_keys"
#: What a pasted key begins with. RSA's too, so that it is told what is wrong with that.
_KINDS = ("ssh-", "ecdsa-", "sk-")


@dataclass(frozen=True, slots=True)
class Who:
    """Who may knock: the lines of gate.toml for it."""

    lines: tuple[str, ...] = ()
    pasted: str | None = None  #: or a line for a file of the gate's own
    number: int = 1  #: of the keys that can knock, so far
    flaws: tuple[Notice, ...] = ()  #: what is wrong with others


# --- answers ------------------------------------------------------------------------------------------


def port(word: str) -> Port:
    """``tcp/22``, or 22. Raises Wrong."""
    return readers.port(f"tcp/{word.strip()}" if word.strip().isdecimal() else word)


def lease(word: str) -> float:
    """Seconds. Raises Wrong, and ConfigError."""
    found: float = seconds(duration(1, 30 * 86400)).convert(word, None, None)
    return found


def who(word: str) -> Who:
    """A user, a file, or a key. Raises Wrong, and ConfigError where none of the keys could knock."""
    word = word.strip()
    if word.startswith(_KINDS) and " " in word:
        return _of_key(word)
    return of_file(word) if "/" in word else of_users(word.split())


def of_users(names: Sequence[str]) -> Who:
    """Whoever may log in as one of these users may knock."""
    if not names:
        raise Wrong("nobody could knock", "a user of this host, a file of keys, or a public key")
    for name in names:
        try:
            pwd.getpwnam(name)
        except KeyError:
            raise Wrong(f"there is no user {shown(name)}", "as `getent passwd` lists them") from None
    return _looked_at((f"ssh = {quoted(_IN_HOME)}", f"users = {listed(dict.fromkeys(names))}"))


def of_file(word: str) -> Who:
    """Those in a file, which belongs to root, or to the user whose keys they are."""
    # A link is refused later, and not followed here; a home of nobody's is a file that is not there.
    path = Path(os.path.abspath(os.path.expanduser(word)))  # noqa: PTH100, PTH111
    try:
        owner = path.lstat().st_uid
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise Wrong(f"{path} cannot be read: {reason}", "a file as sshd's authorized_keys") from None
    lines = [f"ssh = {quoted(str(path).replace('%', '%%'))}"]
    if owner not in (0, os.geteuid()):
        try:
            lines.append(f"users = {listed([pwd.getpwuid(owner).pw_name])}")
        except KeyError:
            raise Wrong(f"{path} belongs to nobody of this host", f"chown root {path}") from None
    elif _SSH in path.parts:
        lines.append("shared = true")
    return _looked_at(tuple(lines))


def _of_key(line: str) -> Who:
    listing = sshkeys.read(line.encode(), ours=True, local=time.mktime)
    for flaw in listing.flaws:
        raise Wrong(flaw.message, flaw.hint)
    return Who(pasted=line)


def _looked_at(lines: tuple[str, ...]) -> Who:
    """Which of the keys can knock: a gate that shuts everybody out is not what was meant."""
    text = "\n".join(
        ['[doors.ssh]\nports = ["tcp/22"]', table("keys", "people"), *lines, 'doors = ["ssh"]\n']
    )
    found = configured_keys.parse_ssh(text, configurations.parse(text))
    files = _found_in(found)
    return Who(lines, None, files.total, files.flaws)


def _found_in(keys: tuple[SshKeys, ...]) -> KeyFiles:
    """Raises Wrong where no key is found there that could knock."""
    files = KeyFiles(keys)
    files.refresh()
    if not files.total:
        flaw = files.flaws[0] if files.flaws else None
        names = ", ".join(file.path for file in files.files)
        raise Wrong(
            f"no key could knock: {flaw or f'there is none in {names}'}",
            (flaw and flaw.hint) or "make one, at the client: ssh-keygen -t ed25519; then ssh-copy-id",
        )
    return files


def likely_user() -> str:
    """Who is at the terminal, where that is somebody with keys to log in with; else nobody."""
    name = os.environ.get("SUDO_USER", "")
    try:
        of_users(name.split())
    except (Wrong, ConfigError):
        return ""
    return name


# --- what comes of them -------------------------------------------------------------------------------


def places(config: str | None, state: str | None) -> tuple[Path, Path]:
    """gate.toml and the state directory.

    Raises Unavailable where there is one of the files, or no right to write there: before anything is asked.
    """
    for word in (config, state):
        if word is not None and (not word or "\0" in word):
            raise Wrong("the name of a file is empty")
    path, folder = Path(config or DEFAULT_PATH).absolute(), Path(state or _STATE).absolute()
    if os.path.lexists(path):
        hint = "`knockgate init --bare` leaves it as it is, and makes the rest"
        raise Unavailable(f"{path} is there already", hint=hint)
    for each in (path.parent, folder):
        refuse_without_right(each)
    return path, folder


@dataclass(frozen=True, slots=True)
class Plan:
    """A gate.toml that is to be."""

    path: Path
    folder: Path
    port: Port
    lease: float
    who: Who
    door: str

    @property
    def keys_file(self) -> Path:
        """Where a key goes that was pasted."""
        return self.path.with_name("authorized_keys")

    def text(self) -> str:
        """What is to stand in it."""
        lines = ["# Made by `knockgate init`. `knockgate check` says what it means, and what is doubtful."]
        if str(self.folder) != _STATE:
            lines += ["", "[gate]", f"state_directory = {quoted(str(self.folder))}"]
        lines += ["", table("doors", self.door), f"ports = {listed([self.port])}"]
        lines += [f"lease = {quoted(spell(self.lease))}", "", table("keys", "people"), *self._who()]
        return "\n".join([*lines, f"doors = {listed([self.door])}", ""])

    def _who(self) -> tuple[str, ...]:
        if self.who.pasted is None:
            return self.who.lines
        return (f"ssh = {quoted(str(self.keys_file).replace('%', '%%'))}",)

    def configuration(self) -> Configuration:
        """What it means. Raises ConfigError where it would be wrong."""
        found = configurations.parse(self.text(), str(self.path))
        configured_keys.parse_ssh(self.text(), found, str(self.path))
        return found

    def check(self) -> None:
        """Once all is written: that the gate would find a key, as it looks for it. Raises Unavailable.

        A key that was pasted has no file before. Whether that is believed is a matter of the folders, too.
        """
        keys = configured_keys.parse_ssh(self.text(), self.configuration(), str(self.path))
        try:
            _found_in(keys)
        except Wrong as wrong:
            raise Unavailable(wrong.message, hint=wrong.hint) from None

    def files(self) -> dict[Path, str]:
        """All that is to be written for it."""
        pasted = {} if self.who.pasted is None else {self.keys_file: self.who.pasted + "\n"}
        return {self.path: self.text(), **pasted}


def door_of(port: Port) -> str:
    """What a door for this port is called, if nobody says."""
    if port == _SSH_PORT:
        return "ssh"
    try:
        name = socket.getservbyport(port.number, port.protocol.name.lower())
    except OSError:
        return "door"
    return name if ASKED_FOR.fullmatch(name) else "door"
