"""Which files ``[keys]`` of gate.toml names, and whose they must be.

For who hands them out without reading what is in them: nothing here knows what a key looks like.
"""

from __future__ import annotations

import errno
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from knockgate.config import private, readers
from knockgate.config.toml import Document, Keys, Wrong, shown

__all__ = ["LARGEST_SECRETS", "SECRETS", "KeyFile", "Places", "files_of", "load"]

#: Bytes of a file of fwknop's secrets, and what it is to who opens it (``private.opened``).
LARGEST_SECRETS = 1 << 14
SECRETS = private.Sort(
    kind="the file with the secrets",
    hints={errno.ENOENT: "make a pair with: knockgate key new --fwknop NAME"},
)


class KeyFile(NamedTuple):
    """An authorized_keys, and whose it must be."""

    path: str
    user: str | None = None  #: None: the gate's own; else it may belong to this user, too
    uid: int = 0  #: of that user
    home: str = ""  #: of that user


class Places(NamedTuple):
    """All files that keys name, none of them twice; both halves that speak of them have the same order."""

    secrets: tuple[str, ...]  #: files of fwknop's secrets
    keys: tuple[KeyFile, ...]


def load(path: Path | str) -> Places:
    """Those of a gate.toml; raises ConfigError. All else about its keys ``config.keys`` checks."""
    document = Document.load(path)
    secrets: list[str] = []
    keys: list[KeyFile] = []
    tables = document.table.get("keys", {})
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if not isinstance(table, dict):
            continue
        place: Keys = ("keys", name)
        if "fwknop" in table:
            secrets.append(_read(document, (*place, "fwknop"), readers.file_path, table["fwknop"]))
        if "ssh" in table:
            paths = _read(document, (*place, "ssh"), readers.key_files, table["ssh"])
            users = _read(document, (*place, "users"), readers.users, table.get("users", []))
            keys += files_of(document, place, paths, users)
    return Places(tuple(dict.fromkeys(secrets)), tuple(dict.fromkeys(keys)))


def _read(document: Document, place: Keys, reader: Any, value: object) -> Any:  # noqa: ANN401 - of the reader
    try:
        return reader.read(value)
    except Wrong as wrong:
        raise document.wrong(place, wrong.message, wrong.hint) from None


def files_of(
    document: Document, keys: Keys, paths: Sequence[str], users: Sequence[str]
) -> tuple[KeyFile, ...]:
    """The files of a key with ``ssh``: each path, for each user. Raises ConfigError; looks users up."""
    return tuple(dict.fromkeys(_files(document, keys, paths, users)))


def _files(document: Document, keys: Keys, paths: Sequence[str], users: Sequence[str]) -> Iterator[KeyFile]:
    for path in paths:
        named = _TOKENS.findall(path.replace("%%", ""))
        if named and not users:
            hint = 'say whose files are meant: users = ["jo"]'
            raise document.wrong((*keys, "ssh"), f"{path} has {named[0]} in it, and there are no users", hint)
        if len(users) > 1 and not named:
            hint = "with %u or %h in it each user has a file; a key for each user does as well"
            raise document.wrong((*keys, "ssh"), f"{path} would belong to {len(users)} users", hint)
    if not users:
        yield from (KeyFile(path.replace("%%", "%")) for path in paths)
        return
    accounts = [_account(document, keys, user) for user in users]
    yield from (_of_user(document, keys, path, account) for path in paths for account in accounts)


_TOKENS = re.compile(r"%[uh]")


def _account(document: Document, keys: Keys, user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        hint = "as `getent passwd` lists them"
        raise document.wrong((*keys, "users"), f"there is no user {shown(user)}", hint) from None


def _of_user(document: Document, keys: Keys, path: str, account: pwd.struct_passwd) -> KeyFile:
    stands_for = {"%u": account.pw_name, "%h": account.pw_dir.rstrip("/"), "%%": "%"}
    found = re.sub(r"%[uh%]", lambda token: stands_for[token[0]], path)
    if not found.startswith("/"):
        message = f"the home of {account.pw_name} is {shown(account.pw_dir)}, which is no absolute path"
        raise document.wrong((*keys, "users"), message, "see `man 5 passwd`, or take the user out")
    return KeyFile(found, account.pw_name, account.pw_uid, account.pw_dir)
