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
    lines = []
    for variable, name in VARIABLES.items():
        if "\n" in environment.get(variable, ""):
            raise ConfigError("has more than one line", key=variable, hint="one secret, as it is")
        if variable in environment:
            lines.append(f"{name}: {environment[variable]}")
    return _parsed(lines, "KNOCKGATE_", hmac, mode) if lines else None


def typed(ask: Callable[[str], str], hmac: Hash, mode: Mode) -> Secret:
    """Passphrases, or the lines of a file of secrets; ``ask`` shows nothing of what is typed. ConfigError."""
    lines: list[str] = []
    for name in ("KEY", "HMAC_KEY"):
        empty = " (empty: none)" if lines else ""
        prompt = f"{name.replace('_', ' ').lower()}{empty}: ".replace("hmac", "HMAC")
        line = "#"
        while line.startswith("#"):  # the first line of a file that is pasted whole
            line = ask(prompt).strip()
        other = [each for each in ("KEY", "HMAC_KEY") if each != name]
        if line.upper().startswith(tuple(f"{each}{end}:" for each in other for end in ("_BASE64", ""))):
            message = f"that is the line of the {other[0]}, and it is the {name} that is asked for"
            raise ConfigError(message, hint="paste the file whole, or line by line in its order")
        if line:
            whole = line.upper().startswith((f"{name}_BASE64:", f"{name}:"))
            lines.append(line if whole else f"{name}: {line}")
    return _parsed(lines, "", hmac, mode)


def _parsed(lines: list[str], prefix: str, hmac: Hash, mode: Mode) -> Secret:
    try:
        return secrets.parse("\n".join(lines), "", hmac, mode)
    except ConfigError as error:
        raise ConfigError(error.message, key=error.key and f"{prefix}{error.key}", hint=error.hint) from None
