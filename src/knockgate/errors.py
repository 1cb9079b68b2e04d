"""Every error this project raises on purpose.

::

    KnockgateError
     ├── ConfigError    the admin's text is wrong: file, line, key, hint
     ├── Refused        the peer's fault: one Reason out of a closed list
     └── Unavailable    the world's fault: kernel, program, permission; with a hint

Anything else is a bug and crashes. The pure floors raise only ``Refused``.
"""

from __future__ import annotations

import enum

__all__ = ["ConfigError", "KnockgateError", "Reason", "Refused", "Unavailable"]


class KnockgateError(Exception):
    """Root of the tree; never raised itself."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(KnockgateError):
    """A configuration that cannot be used; nothing of it was applied.

    ``line`` counts from 1; any of the places may be unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.key, self.message) if part)


class Unavailable(KnockgateError):
    """The kernel, a program or a right that is needed is not there."""


class Reason(enum.Enum):
    """Why a packet is no knock: one member per checking step, in the order of the steps."""

    TRUNCATED = "truncated"
    NOT_IP = "not-ip"
    BAD_HEADER = "bad-header"
    FRAGMENT = "fragment"
    NO_PORTS = "no-ports"


class Refused(KnockgateError):
    """A packet turned away; ``reason`` is all that is known about it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
