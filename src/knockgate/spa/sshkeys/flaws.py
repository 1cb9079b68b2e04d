"""Why a key, or the line that it stands on, is not taken: a closed list, with a text for people."""

from __future__ import annotations

import enum
from typing import NamedTuple

from knockgate.errors import ConfigError

__all__ = ["BadKey", "Flaw"]

_NEW_KEY = "make a key that can, beside the old one: ssh-keygen -t ed25519"
_DAMAGED = "the line is damaged, perhaps cut off or broken in two: copy it from the .pub file once more"
_SSHD = "sshd refuses the line too, so nobody logs in with it: see authorized_keys in `man sshd`"


class _Words(NamedTuple):
    message: str
    hint: str


class Flaw(enum.Enum):
    """One member for each thing that can be wrong."""

    # With the key ...
    RSA = _Words("an RSA key cannot knock", f"its signatures do not fit into the packet; {_NEW_KEY}")
    CERTIFICATE = _Words("a certificate cannot knock", "name the key itself, without its certificate")
    OTHER_KIND = _Words("a key of this kind cannot knock", _NEW_KEY)
    NOT_BASE64 = _Words("the key is not written in base64", _DAMAGED)
    NOT_A_KEY = _Words("this is no key of the kind that it is said to be", _DAMAGED)
    NO_POINT = _Words("the key is no point of its curve", _DAMAGED)
    SMALL_ORDER = _Words(
        "anybody can sign for this key", "it is no key that ssh-keygen makes; find out how it came here"
    )
    # ... with the line around it ...
    NO_KEY = _Words("there is no key on the line", "a line is: options, if any; the kind; the key; a comment")
    ZERO_BYTE = _Words("the line has a zero byte", _DAMAGED)
    QUOTES = _Words("a quotation mark is not closed", _SSHD)
    # ... and with an option.
    UNKNOWN_OPTION = _Words("the option is unknown", _SSHD)
    BAD_OPTION = _Words("the option's value is wrong", _SSHD)
    TWICE = _Words("the option may stand there once", _SSHD)
    TOO_MANY = _Words("the line has more than 1,024 options", "shorten it")
    PRINCIPALS = _Words("principals belong to a cert-authority", _SSHD)
    OURS = _Words(
        "the option is one of the gate's own, and this file is sshd's as well",
        "sshd refuses the whole line, so nobody logs in with it: such lines belong into a file of the gate's",
    )


class BadKey(ConfigError):
    """A key or a line that is not taken, and why. ``detail`` is a word of the text's own."""

    def __init__(self, flaw: Flaw, detail: str = "", *, line: int | None = None) -> None:
        super().__init__(flaw.value.message, line=line, key=detail or None, hint=flaw.value.hint)
        self.flaw = flaw
