"""A backup of a gate: a tar of the files themselves, so that it can be read without us, and a list in front.

::

    knockgate-backup.json     {"format": 1, "made": seconds since 1970, "host": ..., "version": ...,
                               "config": path of gate.toml, "salt": 64 hex digits or null}
    etc/knockgate/gate.toml   each file by its path, with its mode and owner

``salt`` is what the store of marks calls devices by; nothing else of the stores is in it.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from typing import Any, NamedTuple

from knockgate import __version__
from knockgate.errors import ConfigError

__all__ = ["MOST", "Archived", "Backup", "pack", "unpack"]

#: Bytes of the whole file. 100,000 keys, each with a file of secrets, are more: those are for another tool.
MOST = 1 << 26
_LIST, _FORMAT = "knockgate-backup.json", 1
_END = bytes(1024)  #: of each tar
_HINT = "take a file that `knockgate backup` has made"


class Archived(NamedTuple):
    """A file of the gate's, as it was."""

    content: bytes
    mode: int  #: the permissions alone
    user: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What is in one."""

    made: int  #: seconds since 1970, by the clock of that host
    host: str
    config: str  #: where gate.toml lies
    salt: bytes | None  #: 32 bytes; None: the gate had no marks
    files: dict[str, Archived]  #: by their absolute paths


def pack(backup: Backup) -> bytes:
    """The tar."""
    stream = io.BytesIO()
    head = {
        "format": _FORMAT,
        "made": backup.made,
        "host": backup.host,
        "version": __version__,
        "config": backup.config,
        "salt": backup.salt.hex() if backup.salt else None,
    }
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, _LIST, Archived(json.dumps(head, indent=1).encode() + b"\n", 0o600, "root", "root"), backup)
        for path, file in backup.files.items():
            _add(tar, path.lstrip("/"), file, backup)
    return stream.getvalue()


def _add(tar: tarfile.TarFile, name: str, file: Archived, backup: Backup) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(file.content), backup.made, file.mode
    member.uname, member.gname = file.user, file.group
    tar.addfile(member, io.BytesIO(file.content))


def unpack(content: bytes, file: str) -> Backup:
    """Raises ConfigError where it is damaged, of a newer knockgate, or no backup at all."""
    try:
        members = _members(content)
        head = json.loads(members.pop(f"/{_LIST}").content)
        return _backup(head, members)
    except _Newer:
        raise ConfigError("was made by a newer knockgate", file=file, hint="install that one") from None
    # tarfile raises whatever its parts raise: for numbers, texts and lengths that make no sense.
    except (
        tarfile.TarError,
        KeyError,
        ValueError,
        TypeError,
        ArithmeticError,
        EOFError,
        OSError,
        RecursionError,
    ):
        raise ConfigError("is no backup of a gate, or is damaged", file=file, hint=_HINT) from None


class _Newer(Exception):
    pass


def _members(content: bytes) -> dict[str, Archived]:
    """By their paths. Only plain files have a place in it, each once."""
    found: dict[str, Archived] = {}
    # Cut off between two files tarfile finds no fault, and devices that were barred would come in.
    if not content.endswith(_END):
        raise ValueError("end")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            path = f"/{member.name}"
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not plain or path in found or path.startswith("//") or path != os.path.normpath(path):
                raise ValueError(path)
            stream = tar.extractfile(member)
            octets = stream.read() if stream else b""
            if len(octets) != member.size:
                raise ValueError(path)
            found[path] = Archived(octets, member.mode & 0o777, member.uname, member.gname)
    return found


def _backup(head: dict[str, Any], files: dict[str, Archived]) -> Backup:
    if head["format"] != _FORMAT:
        raise _Newer if isinstance(head["format"], int) and head["format"] > _FORMAT else ValueError
    made, host, config, salt = head["made"], head["host"], head["config"], head["salt"]
    if not isinstance(made, int) or not 0 <= made < 1 << 40 or not isinstance(host, str):
        raise ValueError("head")
    if config not in files or not (salt is None or re.fullmatch(r"[0-9a-f]{64}", salt)):
        raise ValueError("head")
    return Backup(
        made=made, host=host, config=config, salt=bytes.fromhex(salt) if salt else None, files=files
    )
