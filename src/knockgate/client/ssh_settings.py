"""What ssh itself would use for a host: its key files and its agent, out of ssh_config as ssh reads it.

``ssh -G`` evaluates the files with all their Include and Match, and runs what ``Match exec`` says. One such
line may be our own knock: it finds KNOCKGATE_KNOCKING in its environment, does nothing then, and succeeds.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knockgate.errors import Unavailable

__all__ = ["DEFAULTS", "KNOCKING", "Settings", "home_of_user", "settings"]

#: In the environment of all that ``ssh -G`` starts.
KNOCKING = "KNOCKGATE_KNOCKING"
#: Of ssh's own list those that can knock, in its order.
DEFAULTS = ("id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_TIMEOUT = 15.0  # seconds: Match exec may ask something in the network
_TOKEN = re.compile(r"%(.)|\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Settings:
    """As for one host."""

    files: tuple[Path, ...]  #: IdentityFile, in its order
    unclear: tuple[str, ...]  #: those of it whose name only ssh can tell
    agent: str | None  #: the agent's socket, None where there is to be none
    only: bool  #: IdentitiesOnly: of the agent's keys those alone that are in files too
    tokens: str | None = (
        None  #: SecurityKeyProvider: the library for tokens, None for ssh-keygen's own choice
    )


def home_of_user() -> Path:
    """The one in the system's list of users, which ssh takes whatever HOME says."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path(os.environ.get("HOME", "/"))


def settings(host: str, *, agent: str | None, home: Path, ssh: Sequence[str] = ("ssh",)) -> Settings:
    """For ``host`` as one would give it to ssh. ``agent``: the socket of SSH_AUTH_SOCK. Raises Unavailable.

    Without an ssh program, ssh's usual files. ``ssh`` is the command, with options that it is to have.
    """
    said = _said(host, ssh)
    if said is None:
        usual = tuple(home / ".ssh" / name for name in DEFAULTS)
        return Settings(usual, (), agent, only=False)
    values: dict[str, list[str]] = {}
    for line in said.splitlines():
        name, _, value = line.partition(" ")
        values.setdefault(name, []).append(value)
    tokens = _tokens(host, {name: found[0] for name, found in values.items()}, home)
    files: dict[Path, None] = {}
    unclear = []
    for name in values.get("identityfile", []):
        path = _expanded(name, tokens, home)
        if path is None:
            unclear.append(name)
        elif name != "none":
            files[path] = None
    socket_path = _agent(values.get("identityagent", [""])[0], agent)
    only = values.get("identitiesonly") == ["yes"]
    library = _tokens_library(values.get("securitykeyprovider", [""])[0])
    return Settings(tuple(files), tuple(unclear), socket_path, only, library)


def _said(host: str, ssh: Sequence[str]) -> str | None:
    """What ``ssh -G`` prints; None where there is no such program."""
    try:
        status, output, errors = _run([*ssh, "-G", "--", host.strip("[]")])
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise _unusable(host, f"it takes more than {_TIMEOUT:g} seconds") from None
    except (OSError, ValueError) as error:
        raise _unusable(host, str(error)) from None
    if status != 0:
        lines = errors.decode(errors="backslashreplace").strip().splitlines()
        raise _unusable(host, lines[-1] if lines else f"it ends with status {status}")
    return output.decode(errors="surrogateescape")


def _run(command: list[str]) -> tuple[int, bytes, bytes]:
    """Status, output, errors. OSError, ValueError, or TimeoutExpired, after which nothing of it runs."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, KNOCKING: "1"},
        process_group=0,  # so that what Match exec has started ends with it
    ) as process:
        try:
            output, errors = process.communicate(timeout=_TIMEOUT)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output, errors


def _unusable(host: str, reason: str) -> Unavailable:
    shown = reason.encode("ascii", "backslashreplace").decode()
    return Unavailable(
        f"ssh does not say which keys it would use for {host!r}: {shown[:200]}",
        hint=f"try: ssh -G {host}; or name the key yourself: --identity FILE",
    )


def _tokens(host: str, values: Mapping[str, str], home: Path) -> dict[str, str]:
    """What ssh_config's %-words stand for. %C, a hash of others, is of another form in each version."""
    name = socket.gethostname()
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = ""
    hostname = values.get("hostname", host)
    return {
        "%": "%",
        "d": str(home),
        "h": hostname,
        "i": str(os.getuid()),
        "k": values.get("hostkeyalias", host),
        "L": name.partition(".")[0],
        "l": name,
        "n": host,
        "p": values.get("port", "22"),
        "r": values.get("user", user),
        "u": user,
    }


def _expanded(name: str, tokens: Mapping[str, str], home: Path) -> Path | None:
    """The file that ssh would open; None where that cannot be told."""
    unknown = False

    def value(found: re.Match[str]) -> str:
        nonlocal unknown
        text = tokens.get(found[1]) if found[1] else os.environ.get(found[2])
        unknown |= text is None
        return text or ""

    if name == "~" or name.startswith("~/"):
        name = f"{str(home).replace('%', '%%')}{name[1:]}"
    elif name.startswith("~"):
        try:
            user, slash, rest = name[1:].partition("/")
            name = f"{pwd.getpwnam(user).pw_dir.replace('%', '%%')}{slash}{rest}"
        except KeyError:
            return None
    path = _TOKEN.sub(value, name)
    return None if unknown else Path(path)


def _agent(said: str, given: str | None) -> str | None:
    """IdentityAgent; ``ssh -G`` has put in all but names of variables."""
    if said in ("", "SSH_AUTH_SOCK"):
        return given
    if said == "none":
        return None
    if said.startswith("$"):
        return os.environ.get(said[1:].strip("{}")) or None
    return said


def _tokens_library(said: str) -> str | None:
    """SecurityKeyProvider; ``internal`` is what is built in, or what SSH_SK_PROVIDER names."""
    if said.startswith("$"):
        return os.environ.get(said[1:]) or None
    return None if said == "internal" else said or None
