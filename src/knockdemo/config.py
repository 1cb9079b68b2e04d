"""The numbers of the demonstration: the tutorial's, unless a TOML file says otherwise.

``load()`` reads the file that the environment variable ``KNOCKDEMO_CONFIG`` names, else
``/etc/knockdemo/knockdemo.toml`` where that exists, else it returns the tutorial's numbers. A wrong
file is refused whole: a half-understood sequence would be a door that nobody can open.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from knockgate.errors import ConfigError

__all__ = ["DEFAULT_PATH", "ENVIRONMENT", "Config", "load"]

ENVIRONMENT = "KNOCKDEMO_CONFIG"
DEFAULT_PATH = Path("/etc/knockdemo/knockdemo.toml")

_NFT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: The kernel's limit for the name of an interface (IFNAMSIZ less the final zero).
_INTERFACE_NAME = re.compile(r"[^\s/]{1,15}")


@dataclass(frozen=True, slots=True)
class Config:
    """What lane A is told. Times are whole seconds."""

    interface: str = ""
    """Where to listen; empty: on every interface, loopback included."""

    sequence: tuple[int, ...] = (7000, 8000, 9000)
    """TCP ports to be knocked at, in this order; 1 to 32 of them."""

    sequence_window_seconds: int = 5
    """From the first knock to the last one, less than this."""

    open_window_seconds: int = 15
    """How long the kernel keeps the source in the set."""

    service_port: int = 6500
    """The TCP port that is guarded."""

    nft_table: str = "knockdemo"
    """The table of family inet that lane A owns; replaced at every start."""

    nft_set: str = "knock_allow"
    """The set of IPv4 sources that may pass."""

    nft_set6: str = "knock_allow6"
    """The set of IPv6 sources that may pass."""

    max_sources: int = 65536
    """Sources remembered between two knocks; the oldest is forgotten first."""


def load(environment: Mapping[str, str] = os.environ, default_path: Path = DEFAULT_PATH) -> Config:
    """The configuration in force; raises ConfigError with file, line, key and hint."""
    named = environment.get(ENVIRONMENT)
    path = Path(named) if named else default_path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not named:
            return Config()
        raise ConfigError(
            "no such file",
            file=str(path),
            hint=f"{ENVIRONMENT} names it; unset it for the tutorial's numbers",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        hint = f"{ENVIRONMENT} names it" if named else "it must be a readable text file, or not be there"
        raise ConfigError(f"cannot be read: {error}", file=str(path), hint=hint) from None
    return parse(text, str(path))


def parse(text: str, file: str) -> Config:
    """Read the text of a configuration; ``file`` is for the messages."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number or nesting beyond Python
        where = re.search(r"\(at line (\d+)", str(error))
        message = re.sub(r" \(at (line|end).*\)", "", str(error))
        line = int(where.group(1)) if where else text.count("\n") + 1
        hint = "each line is KEY = VALUE, with texts in quotes and lists in [ ]"
        raise ConfigError(
            f"not TOML: {message[:1].lower()}{message[1:]}", file=file, line=line, hint=hint
        ) from None
    known = {field.name: field for field in fields(Config)}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError("unknown key", file=file, line=_line_of(text, key), key=key, hint=hint)
    try:
        return _checked(Config(**{key: _typed(key, value) for key, value in table.items()}))
    except _Wrong as wrong:
        hint = wrong.hint or f"without this line it is {json.dumps(known[wrong.key].default)}"
        raise ConfigError(
            wrong.message, file=file, line=_line_of(text, wrong.key), key=wrong.key, hint=hint
        ) from None


class _Wrong(Exception):
    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        self.key, self.message, self.hint = key, message, hint


def _line_of(text: str, key: str) -> int | None:
    """tomllib tells no lines; a top-level key stands first on its own."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line) or re.match(
            rf"\s*\[+\s*{re.escape(key)}\s*[\].]", line
        ):
            return number
    return None


def _typed(key: str, value: object) -> Any:  # noqa: ANN401 - of the type of the key's default
    default = getattr(Config(), key)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise _Wrong(key, "must be a list of port numbers", "for example [7000, 8000, 9000]")
        return tuple(value)
    if type(value) is not type(default):
        wanted = "a whole number" if isinstance(default, int) else "a text in quotes"
        raise _Wrong(key, f"must be {wanted}, not {value!r}")
    return value


def _checked(config: Config) -> Config:
    def within(key: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            raise _Wrong(key, f"{value} is not between {low} and {high}")

    if not 1 <= len(config.sequence) <= 32:
        raise _Wrong("sequence", f"has {len(config.sequence)} ports; 1 to 32 are possible")
    for port in config.sequence:
        within("sequence", port, 1, 65535)
    within("service_port", config.service_port, 1, 65535)
    within("sequence_window_seconds", config.sequence_window_seconds, 1, 3600)
    within("open_window_seconds", config.open_window_seconds, 1, 86400)
    within("max_sources", config.max_sources, 1, 16_777_216)
    if config.service_port in config.sequence:
        raise _Wrong(
            "service_port",
            f"port {config.service_port} is also a knock",
            "whoever connects to the open service would be knocking; take another port",
        )
    for key in ("nft_table", "nft_set", "nft_set6"):
        if not _NFT_NAME.fullmatch(getattr(config, key)):
            raise _Wrong(key, f"{getattr(config, key)!r} is no name for nft", "letters, digits and _")
    if config.nft_set == config.nft_set6:
        raise _Wrong("nft_set6", "is the same as nft_set", "an nft set holds one address family")
    if config.interface and not _INTERFACE_NAME.fullmatch(config.interface):
        raise _Wrong("interface", f"{config.interface!r} is no name for an interface")
    return config
