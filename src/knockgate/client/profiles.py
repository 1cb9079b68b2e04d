"""profiles.toml: hosts to be knocked at by name, in the home of the one who knocks.

    [profiles.home]
    host = "home.example"
    steps = ["7000", "udp/8000", "tcp/9000"]
    wait = "tcp/22"

A sequence is a secret of sorts, so the file is best readable by its owner alone; nothing here writes it.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from knockgate.client.send import DELAY, Family
from knockgate.config.toml import Document, Reader, Wrong, duration, key, read, shown, text
from knockgate.model import Port, Protocol

__all__ = ["Profile", "default_path", "delay_time", "door", "load", "step", "wait_time"]

_STEP = re.compile(r"(?:(tcp|udp)/)?([0-9]{1,9})(?:[/:](tcp|udp))?")


def _step(value: object) -> Port:
    """``7000``, ``tcp/7000``, ``7000/tcp`` or, as knockd has it, ``7000:tcp``; raises Wrong."""
    word = str(value).strip().lower() if type(value) in (str, int) else ""
    found = _STEP.fullmatch(word)
    if not found or (found[1] and found[3]):
        hint = "write 7000, tcp/7000 or udp/8000"
        if "," in word:
            hint = "give the steps as separate words: " + " ".join(word.replace(",", " ").split())
        raise Wrong(f"{shown(value)} is no step", hint)
    number = int(found[2])
    if not 1 <= number <= 65535:
        raise Wrong(f"{shown(value)}: a port is a number from 1 to 65535")
    return Port(Protocol[(found[1] or found[3] or "tcp").upper()], number)


def _steps(value: object) -> tuple[Port, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong("must be a list of steps", 'for example ["tcp/7000", "udp/8000", "tcp/9000"]')
    return tuple(_step(item) for item in value)


def _door(value: object) -> Port:
    port = _step(value)
    if port.protocol is not Protocol.TCP:
        raise Wrong(
            f"cannot wait for {port}: an open UDP port need not answer", "a TCP port of the same door"
        )
    return port


def _family(value: object) -> Family:
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    if type(value) is not int or value not in families:
        raise Wrong(f"{shown(value)} is no address family", "4 or 6")
    return families[value]


def _host(value: object) -> str:
    name: str = text.read(value)
    if not name.strip():
        raise Wrong("the host is empty", 'a name or an address such as "192.0.2.7"')
    return name


step = Reader("port", _step)
door = Reader("TCP port", _door)
delay_time = duration(0, 60)
wait_time = duration(0.01, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``[profiles.NAME]``: what `knockgate knock NAME` does. Options of the command come before it."""

    host: str = key("A name or an address. It is resolved once for each knock.", Reader("text", _host))
    steps: tuple[Port, ...] = key(
        'The knocks, such as `["7000", "udp/8000"]`.', Reader("list of ports", _steps)
    )
    wait: Port | None = key("Then wait until this TCP port answers.", door, None)
    timeout: float = key("How long to wait for it.", wait_time, 5.0)
    delay: float = key("From one step to the next.", delay_time, DELAY)
    family: Family = key("4 or 6: use this address family.", Reader("4 or 6", _family), socket.AF_UNSPEC)
    source: str | None = key("Knock from this address of the machine.", text, None)


def default_path() -> Path:
    """``~/.config/knockgate/profiles.toml``, or where XDG_CONFIG_HOME says."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification takes a relative path for none at all.
    base = Path(given) if given.startswith("/") else Path(os.environ.get("HOME", "/"), ".config")
    return base / "knockgate" / "profiles.toml"


def load(path: Path) -> dict[str, Profile]:
    """The profiles by name, none where there is no file; raises ConfigError with file, line, key and hint."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError:
        pass  # reading it says what is wrong
    document = Document.load(path)
    tables = document.only((), document.table, ["profiles"]).get("profiles", {})
    if not isinstance(tables, dict):
        raise document.wrong(("profiles",), "must be a table", "begin with [profiles.home]")
    return {name: read(document, ("profiles", name), table, Profile) for name, table in tables.items()}
