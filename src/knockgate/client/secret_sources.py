"""Where the secrets of who knocks come from: a file, else the environment, else somebody who types them.

They never come from a command line, where everybody on the machine can read them, and no message has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from knockgate.client.profiles import PacketProfile
from knockgate.config import secrets
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["VARIABLES", "of_environment", "of_file", "typed"]

#: The lines of a file of secrets, each under the name that it has in the environment.
VARIABLES = {f"KNOCKGATE_{name}": name for name in ("KEY", "KEY_BASE64", "HMAC_KEY", "HMAC_KEY_BASE64")}


def of_file(profile: PacketProfile) -> Secret | None:
    """What is in the file that the profile names; raises ConfigError."""
    return secrets.load(profile.fwknop, profile.hmac, profile.mode) if profile.fwknop else None


def of_environment(environment: Mapping[str, str], hmac: Hash, mode: Mode) -> Secret | None:
    """What is in KNOCKGATE_KEY_BASE64 and its like; None where there is no such variable. ConfigError."""
    lines = [
        f"{name}: {environment[variable]}" for variable, name in VARIABLES.items() if variable in environment
    ]
    return _parsed(lines, "KNOCKGATE_", hmac, mode) if lines else None


def typed(ask: Callable[[str], str], hmac: Hash, mode: Mode) -> Secret:
    """Passphrases, or the lines of a file of secrets; ``ask`` shows nothing of what is typed. ConfigError."""
    lines: list[str] = []
    for name in ("KEY", "HMAC_KEY"):
        empty = " (empty: none)" if lines else ""
        line = ask(f"{name.replace('_', ' ').lower()}{empty}: ".replace("hmac", "HMAC")).strip()
        if line:
            whole = line.upper().startswith((f"{name}_BASE64:", f"{name}:"))
            lines.append(line if whole else f"{name}: {line}")
    return _parsed(lines, "", hmac, mode)


def _parsed(lines: list[str], prefix: str, hmac: Hash, mode: Mode) -> Secret:
    try:
        return secrets.parse("\n".join(lines), "", hmac, mode)
    except ConfigError as error:
        raise ConfigError(error.message, key=error.key and f"{prefix}{error.key}", hint=error.hint) from None
