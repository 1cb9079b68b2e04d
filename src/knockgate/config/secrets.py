"""The file with the secrets of a key of fwknop's: the lines that `fwknop --key-gen` prints.

::

    KEY_BASE64: 1kD3...=
    HMAC_KEY_BASE64: Xt0b...=

``KEY`` and ``HMAC_KEY`` are for passphrases as they are. The colon may be left out, lines with ``#`` are
comments. Nothing here ever puts a secret into a message.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import stat
from pathlib import Path

from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["load", "parse"]

_LARGEST = 1 << 14
_LINE = re.compile(r"(\w+)\s*[:\s]\s*(.*)")
_NAMES = {"KEY": "key", "KEY_BASE64": "key", "HMAC_KEY": "hmac_key", "HMAC_KEY_BASE64": "hmac_key"}


def load(path: Path, hmac: Hash, mode: Mode) -> Secret:
    """Read the file; raises ConfigError, whose ``file`` is None where it cannot be read at all."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"{path} {_why(error)}", hint=_HINTS.get(error.errno or 0)) from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is no file", hint="name the file with the secrets")
        if found.st_uid not in (0, os.geteuid()):
            hint = "make a copy of your own" if os.geteuid() else f"chown root {path}"
            raise ConfigError(f"{path} belongs to somebody else", hint=hint)
        if found.st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        content = os.read(file, _LARGEST + 1)  # a file of this size is read at once
    finally:
        os.close(file)
    if len(content) > _LARGEST:
        raise ConfigError("is too long for a file of secrets", file=str(path))
    return parse(content.decode(errors="surrogateescape"), str(path), hmac, mode)


_HINTS = {
    errno.ENOENT: "make a pair with: knockgate key new --fwknop NAME",
    errno.EACCES: "it is for its owner, and for root",
    errno.ELOOP: "name the file that it leads to",
}


def _why(error: OSError) -> str:
    # The system's own words would be "too many levels of symbolic links".
    return "is a link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"


def parse(content: str, file: str, hmac: Hash, mode: Mode) -> Secret:
    """The same from a text; ``file`` is for the messages."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        name = match[1].upper() if match else ""
        if not match or name not in _NAMES:
            hint = f"a line is one of {', '.join(_NAMES)} and the secret"
            raise ConfigError("is no line of a file of secrets", file=file, line=number, hint=hint)
        if _NAMES[name] in found:
            raise ConfigError("a second one of its kind", file=file, line=number, key=name)
        found[_NAMES[name]] = _value(name, match[2], file, number)
    if "key" not in found:
        hint = "a line KEY_BASE64: and 32 bytes in base64"
        raise ConfigError("KEY_BASE64 is missing", file=file, hint=hint)
    try:
        return Secret(found["key"], found.get("hmac_key"), hmac, mode)
    except ValueError as error:
        raise ConfigError(str(error), file=file, hint="make a new pair") from None


def _value(name: str, value: str, file: str, line: int) -> bytes:
    if not value or value == "__CHANGEME__":
        raise ConfigError("has no value", file=file, line=line, key=name, hint="make a new pair")
    if not name.endswith("_BASE64"):
        return value.encode(errors="surrogateescape")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("is no base64", file=file, line=line, key=name, hint="copy it whole") from None
