"""What a gate's file, a profile and a command line say of fwknop's packets, in the same words."""

from __future__ import annotations

from knockgate.config.toml import Reader, Wrong, shown, text
from knockgate.spa.fwknop import Hash, Mode
from knockgate.spa.fwknop.fields import USERNAME

__all__ = ["one_of", "user_name"]


def one_of(kind: type[Hash | Mode]) -> Reader:
    """One of fwknop's names, in any spelling that fwknop's own files have."""
    names = ", ".join(each.value for each in kind)

    def read(value: object) -> Hash | Mode:
        try:
            return kind(text.read(value).lower().replace("-", "_"))
        except ValueError:
            raise Wrong(f"{shown(value)} is none of these", names) from None

    return Reader(names, read)


def _username(value: object) -> str:
    name: str = text.read(value)
    if name and not USERNAME.fullmatch(name):
        hint = 'at most 48 ASCII characters, and none of " / \\ [ ] : ; | = , + * ? < >'
        raise Wrong(f"{shown(name)} is no user name for a packet", hint)
    return name


user_name = Reader("text", _username)
