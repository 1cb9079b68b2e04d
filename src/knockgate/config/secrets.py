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
import re
from collections.abc import Callable
from pathlib import Path

from knockgate.config import private
from knockgate.config.places import LARGEST_SECRETS, SECRETS
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["Contents", "contents", "load", "parse"]

_LINE = re.compile(r"(\w+)\s*[:\s]\s*(.*)")
_NAMES = {"KEY": "key", "KEY_BASE64": "key", "HMAC_KEY": "hmac_key", "HMAC_KEY_BASE64": "hmac_key"}


#: What is in a file of secrets, if it may be used; raises ConfigError as ``contents``.
Contents = Callable[[Path], bytes]


def contents(path: Path) -> bytes:
    """Read the file; raises ConfigError, whose ``file`` is None where it cannot be read at all."""
    with private.opened(path, **SECRETS) as file:
        return private.content_of(file, path, LARGEST_SECRETS)


def load(path: Path, hmac: Hash, mode: Mode, contents: Contents = contents) -> Secret:
    """What ``contents`` says is in it; raises ConfigError."""
    content = contents(path)
    return parse(content.decode(errors="surrogateescape"), str(path), hmac, mode)


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
