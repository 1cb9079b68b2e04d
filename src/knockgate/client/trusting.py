"""A gate that one has decided to trust: its card in a file of its own, its profile in profiles.toml.

profiles.toml is its owner's: a new profile is put at its end, and of one that is there only the values that
change are written anew, on their lines. What comes out is read once more and compared with what was meant,
and where that is not the same nothing is written: somebody has to do it by hand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from knockgate.client import device, profiles
from knockgate.config import private
from knockgate.config.lines import line_of
from knockgate.config.writing import table
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sealed import Card, NewerCard

__all__ = ["LONGEST", "alone", "card_of", "cards_folder", "changed", "read_card", "write_private"]

LONGEST = 16 * 1024  #: bytes of a card's file; the line itself has 1,726
#: A value that ends on its line, and a comment behind it.
_LINE = re.compile(
    r"""(?P<key> \s* (?: [\w-]+ | "[^"]*" | '[^']*' ) \s* = \s* )
        (?: "(?:[^"\\]|\\.)*" | '[^']*' | \[ (?: [^]"'#[] | "(?:[^"\\]|\\.)*" | '[^']*' )* \] | [\w.:+-]+ )
        (?P<rest> \s* (?: \#.* )? )""",
    re.VERBOSE,
)


def cards_folder() -> Path:
    """Where cards are kept, each under the name of its profile."""
    return profiles.default_path().with_name("cards")


def read_card(path: Path) -> Card:
    """The card in a file. Raises ConfigError, without what is in it."""
    try:
        with path.open("rb") as stream:
            octets = stream.read(LONGEST + 1)
    except FileNotFoundError:
        hint = "the gate's admin has it: `knockgate card show` there; then `knockgate trust` here"
        raise ConfigError("no such file", file=str(path), hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or "no name of a file"
        closed = isinstance(error, PermissionError)
        advice = "it is for its owner, and for root" if closed else None
        raise ConfigError(f"cannot be read: {reason}", file=str(path), hint=advice) from None
    return card_of(octets, str(path))


def card_of(octets: bytes, file: str) -> Card:
    """The card in these octets; ``file`` is for the message. Raises ConfigError, without what is in them."""
    if not octets.strip():
        hint = "`knockgate card show` at the gate prints it; if sudo wants a password there, paste the line"
        raise ConfigError("there is nothing in it, and no card", file=file, hint=hint)
    try:
        if len(octets) > LONGEST:
            raise ValueError("this is no card: it is longer than one")
        return Card.parse(octets.decode("ascii", "replace"))
    except NewerCard as error:
        hint = "this knockgate is too old for that gate: install a newer one here"
        raise ConfigError(str(error), file=file, hint=hint) from None
    except ValueError as error:
        hint = "copy the line once more, all 1,726 characters of it, as `knockgate card show` prints it"
        raise ConfigError(str(error), file=file, hint=hint) from None


def changed(content: str, file: str, name: str, values: Mapping[str, tuple[object, str]]) -> str:
    """profiles.toml with these values in the profile ``name``, made if it is not there.

    ``values`` are, for each key, the value and how TOML spells it. Everything else stays as it is, comments
    too. Raises ConfigError where the text is no profiles.toml, or where that cannot be done line by line.
    """
    profiles.parse(content, file)
    before = tomllib.loads(content)
    known: dict[str, Any] = before.get("profiles", {})
    made = _edited(content, name, values) if name in known else _appended(content, name, values)
    wanted = {key: value for key, (value, _) in values.items()}
    expected = before | {"profiles": known | {name: known.get(name, {}) | wanted}}
    try:
        if made is not None and tomllib.loads(made) == expected:
            profiles.parse(made, file)
            return made
    except (tomllib.TOMLDecodeError, ConfigError):
        pass
    line = line_of(content, ("profiles", name))
    spelled = ", ".join(f"{key} = {text}" for key, (_, text) in values.items())
    message = f"the profile {name!r} cannot be changed here without changing more of the file"
    raise ConfigError(message, file=file, line=line, hint=f"by hand, instead of what is there: {spelled}")


def _appended(content: str, name: str, values: Mapping[str, tuple[object, str]]) -> str:
    gap = "" if not content else "\n" if content.endswith("\n") else "\n\n"
    lines = [table("profiles", name), *(f"{key} = {text}" for key, (_, text) in values.items()), ""]
    return content + gap + "\n".join(lines)


def _edited(content: str, name: str, values: Mapping[str, tuple[object, str]]) -> str | None:
    """None where the shape is one that is not known here."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", content)  # splitlines() knows ends that TOML does not
    heading = line_of(content, ("profiles", name))
    if heading is None or not lines[heading - 1].lstrip().startswith("["):
        return None
    new = []
    for key, (_, text) in values.items():
        at = line_of(content, ("profiles", name, key))
        if at is None or at == heading:
            new.append(f"{key} = {text}\n")
            continue
        body = lines[at - 1].rstrip("\r\n")
        found = _LINE.fullmatch(body)
        if not found:
            return None
        lines[at - 1] = f"{found['key']}{text}{found['rest']}{lines[at - 1][len(body) :]}"
    if new and not lines[heading - 1].endswith("\n"):
        lines[heading - 1] += "\n"
    return "".join([*lines[:heading], *new, *lines[heading:]])


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """From reading profiles.toml until it is written: nobody else who does the same comes in between.

    Raises ConfigError where it is somebody else's, Unavailable where the folder cannot be written to.
    """
    path = profiles.default_path()
    device.check_owner(path)
    with contextlib.ExitStack() as stack:
        try:
            _make_folder(path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(path.with_suffix(".lock"), flags, 0o600)
            stack.callback(os.close, lock)
            device.wait_for(lock, path)
        except OSError as error:
            raise _unwritten(f"{path}: {error.strerror}", error) from None
        yield


def write_private(path: Path, text: str) -> None:
    """Put the text where ``path`` leads to, for its owner alone: all of it or nothing. Raises Unavailable.

    One at a time: see ``alone``.
    """
    try:
        target = path.resolve()  # it may be a link to where somebody keeps such files
        _make_folder(target.parent)
        private.replace(target, text)
    except Unavailable as error:
        raise _unwritten(error.message, error.__context__) from None
    except OSError as error:
        raise _unwritten(f"{path}: {error.strerror}", error) from None


def _make_folder(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)


def _unwritten(reason: str, error: BaseException | None) -> Unavailable:
    advice = {
        errno.EACCES: "; is this your own home?",
        errno.EPERM: "; is this your own home?",
        errno.ENOSPC: "; make room there",
        errno.EDQUOT: "; make room there",
    }
    return Unavailable(
        reason, hint=f"nothing was changed{advice.get(getattr(error, 'errno', None) or 0, '')}"
    )
