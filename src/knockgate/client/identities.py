"""Which SSH keys to knock with: those that ssh would try at that host, in its order.

    1. keys of the agent that IdentityFile names too       in the agent's order
    2. the other keys of the agent                         not with IdentitiesOnly
    3. files, as IdentityFile names them                   in its order

That is ``pubkey_prepare`` of OpenSSH's sshconnect2.c. Nothing is asked of anybody until something is to be
signed. What ssh would try and a knock cannot use is told with the reason, for whoever looks for it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from knockgate.client import private_key, ssh_keygen
from knockgate.client.agent_socket import Agent
from knockgate.client.ssh_settings import DEFAULTS, KNOCKING, Settings, home_of_user, settings
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.agent import Offer
from knockgate.spa.sshkeys import PublicKey, Signature, is_kind

__all__ = ["KNOCKING", "Candidate", "Identities", "Needs", "Skipped", "Where", "find"]

_LONGEST = 64 * 1024  # bytes of a key's file
_MORE_DEFAULTS = ("id_rsa", "id_dsa", "id_xmss")  # ssh looks for these too


class Where(enum.Enum):
    """Who signs."""

    AGENT = "agent"
    FILE = "file"


class Needs(enum.Flag):
    """What somebody may be asked for when it signs. That an agent asks (``ssh-add -c``) nobody can tell."""

    NOTHING = 0
    PASSPHRASE = enum.auto()
    TOUCH = enum.auto()  #: and the token's PIN, if the key was made so


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that can knock."""

    key: PublicKey
    name: str  #: the file, or what the agent says of the key
    where: Where
    needs: Needs
    #: The signature of a message; raises Unavailable or ConfigError. It may take as long as somebody needs.
    sign: Callable[[bytes], Signature] = field(repr=False, compare=False)


class Skipped(NamedTuple):
    """A key that ssh would try, or an agent, that cannot be used for a knock."""

    name: str
    where: Where
    why: str
    hint: str | None


class Identities(NamedTuple):
    """All there is."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]


class _File(NamedTuple):
    """A key's file. ``unfit``: why it cannot sign by itself; the agent may have its key all the same."""

    path: Path
    key: PublicKey
    locked: bool
    unfit: Skipped | None


def find(
    host: str,
    *,
    identity: Path | None = None,
    agent: str | None,
    home: Path | None = None,
    ssh: Sequence[str] = ("ssh",),
) -> Identities:
    """The keys for ``host``, named as one would name it to ssh.

    ``identity``: this key alone, in the agent or out of the file; its .pub does for an agent's. ``agent``:
    the socket of SSH_AUTH_SOCK, None where there is none; IdentityAgent comes before it. ``home``: None for
    the user's. ``ssh``: the command. Raises Unavailable where ssh does not say what it would use.
    """
    home = home or home_of_user()
    chosen = _chosen(host, identity, agent, home, ssh)
    offers, skipped = _offers(chosen.agent)
    files: list[_File] = []
    for path in chosen.files:
        found = _look(path)
        if isinstance(found, _File):
            files.append(found)
        elif found.why != _MISSING or not _is_usual(path, home):
            skipped.append(found)
    for name in chosen.unclear:
        skipped.append(Skipped(name, Where.FILE, "only ssh knows which file this is", "--identity FILE"))
    candidates, unfit = _ordered(chosen, offers, files)
    return Identities(tuple(candidates), (*skipped, *unfit))


def _chosen(host: str, identity: Path | None, agent: str | None, home: Path, ssh: Sequence[str]) -> Settings:
    if identity is None:
        return settings(host, agent=agent, home=home, ssh=ssh)
    tokens = None
    with contextlib.suppress(Unavailable):  # there is a key without it
        usual = settings(host, agent=agent, home=home, ssh=ssh)
        agent, tokens = usual.agent, usual.tokens
    return Settings((identity,), (), agent, only=True, tokens=tokens)


def _offers(path: str | None) -> tuple[list[Offer], list[Skipped]]:
    """What the agent has; one that does not answer is passed over, as ssh does."""
    if path is None:
        return [], []
    try:
        offers = Agent(path).keys()
    except Unavailable as error:
        return [], [Skipped(path, Where.AGENT, error.message, error.hint)]
    skipped = [
        Skipped(_printable(offer.comment), Where.AGENT, offer.flaw.message, offer.flaw.hint)
        for offer in offers
        if offer.flaw
    ]
    return [offer for offer in offers if offer.key], skipped


def _ordered(
    chosen: Settings, offers: list[Offer], files: list[_File]
) -> tuple[list[Candidate], list[Skipped]]:
    """The order of the table above, each key once."""
    by_key: dict[PublicKey, _File] = {}
    for file in files:
        # The same key a second time is of use where the first cannot sign.
        if file.key not in by_key or by_key[file.key].unfit:
            by_key[file.key] = file
    named: dict[PublicKey, Candidate] = {}
    others: dict[PublicKey, Candidate] = {}
    for offer in offers:
        if offer.key in by_key:
            named[offer.key] = _of_agent(chosen.agent, offer.key, str(by_key[offer.key].path))
        elif offer.key and not chosen.only:
            others[offer.key] = _of_agent(chosen.agent, offer.key, _printable(offer.comment))
    rest = [file for key, file in by_key.items() if key not in named]
    usable = [_of_file(file, chosen.tokens) for file in rest if not file.unfit]
    unfit = [file.unfit for file in rest if file.unfit]
    return [*named.values(), *others.values(), *usable], unfit


def _of_agent(path: str | None, key: PublicKey, name: str) -> Candidate:
    def sign(message: bytes) -> Signature:
        return Agent(path or "").sign(key, message)

    return Candidate(key, name, Where.AGENT, Needs.TOUCH if key.kind.on_token else Needs.NOTHING, sign)


def _of_file(file: _File, tokens: str | None) -> Candidate:
    token = file.key.kind.on_token
    needs = (Needs.PASSPHRASE if file.locked else Needs.NOTHING) | (Needs.TOUCH if token else Needs.NOTHING)

    def sign(message: bytes) -> Signature:
        if needs:
            return ssh_keygen.sign(file.path, file.key, message, tokens=tokens)
        try:
            octets, _ = _read(file.path)
        except (OSError, ValueError) as error:
            raise Unavailable(f"{file.path} cannot be read: {_reason(error)}") from None
        key = private_key.load(octets)
        if key.public != file.key:
            raise ConfigError("is another key by now", file=str(file.path), hint="knock once more")
        return key.sign(message)

    return Candidate(file.key, str(file.path), Where.FILE, needs, sign)


# --- files -------------------------------------------------------------------------------------------

_MISSING = "there is no such file"


def _look(path: Path) -> _File | Skipped:
    """What is known of a key's file without a passphrase; its .pub is looked at where that does not do."""

    def skipped(why: str, hint: str | None = None) -> Skipped:
        return Skipped(str(path), Where.FILE, why, hint)

    beside = path.with_name(f"{path.name}.pub")
    try:
        octets, found = _read(path)
    except FileNotFoundError:
        key = _public(beside)
        if key:
            return _File(path, key, locked=False, unfit=skipped(*_ONLY_PUBLIC))
        return skipped(_MISSING, _NO_KEY)
    except (OSError, ValueError) as error:
        return skipped(_reason(error))
    try:
        if not octets.lstrip().startswith(b"-----BEGIN "):
            return _File(path, _key_of_line(octets), locked=False, unfit=skipped(*_ONLY_PUBLIC))
        key, locked = private_key.look(octets)
    except ConfigError as error:
        unfit = skipped(error.message, error.hint)
        other = _public(beside)
        return _File(path, other, locked=False, unfit=unfit) if other else unfit
    too_open = found.st_mode & 0o077 and found.st_uid == os.getuid()
    return _File(path, key, locked, skipped(_TOO_OPEN, f"chmod 600 {path}") if too_open else None)


_NO_KEY = "name the file of a private key, or the .pub of one that an agent has"
_ONLY_PUBLIC = (
    "it is the public half, and no agent has the other one",
    "start the agent, or give the key to it: ssh-add",
)
_TOO_OPEN = "others than its owner may read it, so ssh does not use it"


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """A small file. OSError, ValueError."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        octets = stream.read(_LONGEST + 1)
    if len(octets) > _LONGEST:
        raise ValueError("it is too long for a key")
    return octets, found


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"{reason[:1].lower()}{reason[1:]}"


def _public(path: Path) -> PublicKey | None:
    try:
        return _key_of_line(_read(path)[0])
    except (OSError, ValueError, ConfigError):
        return None


def _key_of_line(octets: bytes) -> PublicKey:
    """The key of a .pub file. ConfigError."""
    words = octets.split(maxsplit=2)
    if len(words) < 2 or not is_kind(words[0]):
        raise ConfigError("this is no key", hint=_NO_KEY)
    return PublicKey.of_text(*words[:2])


def _is_usual(path: Path, home: Path) -> bool:
    """Whether ssh looks for it of its own accord."""
    return path.parent == home / ".ssh" and path.name in (*DEFAULTS, *_MORE_DEFAULTS)


def _printable(comment: str) -> str:
    """A forwarded agent's words are another machine's: nothing in them is for the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in comment)
