"""The errors that people get to read: one root, three kinds.

::

    KnockgateError
     ├── ConfigError    the admin's text is wrong: file, line, key, hint
     ├── Refused        the peer's fault: one Reason out of a closed list
     └── Unavailable    the world's fault: kernel, program, permission; with a hint

Beside them are ``ValueError``, for a value that cannot be, and exceptions of single modules; whoever
expects them catches them. Anything else is a bug and crashes.

On the pure floors a packet raises ``Refused`` alone; keys and signatures of ssh, as their owner wrote them,
raise ``ConfigError`` (``spa.sshkeys``), and an agent's answers ``Unavailable`` (``spa.agent``).
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

    # A single packet, before it is known whose it is ...
    BAD_LENGTH = "bad-length"  #: no packet of this kind has it
    NOT_BASE64 = "not-base64"  #: or not in the one canonical form
    NOT_OURS = "not-ours"  #: no key of ours has authenticated it
    DUPLICATE = "duplicate"  #: it came a moment ago, to the byte
    OVER_BUDGET = "over-budget"  #: more than its card may make us open
    NOT_SEALED = "not-sealed"  #: it does not decrypt to what a key of ours seals
    BAD_DIGEST = "bad-digest"  #: what is inside was changed
    MALFORMED = "malformed"  #: what is inside is not spelled as it must be
    UNKNOWN_KEY = "unknown-key"  #: nobody may come in with the key that it names
    BAD_SIGNATURE = "bad-signature"
    # ... and after.
    NO_TOUCH = "no-touch"  #: its token was not touched, and must be
    NOT_VERIFIED = "not-verified"  #: its token did not ask who touches it, and must
    UNKNOWN_DEVICE = "unknown-device"
    TOO_MANY_DEVICES = "too-many-devices"  #: no room to remember one more
    REPLAYED = "replayed"
    AHEAD = "ahead"  #: dated too far in our future; not spent
    OVER_PACE = "over-pace"  #: its key knocks more often than it may; not spent
    STALE = "stale"
    STORE_FULL = "store-full"
    STORE_UNAVAILABLE = "store-unavailable"
    KEY_REVOKED = "key-revoked"
    KEY_EXPIRED = "key-expired"
    OUTSIDE_HOURS = "outside-hours"  #: the key is good at other times of the week
    CLOCK_UNKNOWN = "clock-unknown"  #: it would need to be known what time it is
    SENDER_DENIED = "sender-denied"  #: the key does not knock from there
    USER_DENIED = "user-denied"
    TYPE_DENIED = "type-denied"  #: it asks for something else than to open ports
    SOURCE_DENIED = "source-denied"  #: the key does not let that address in
    UNSTATED_SOURCE = "unstated-source"  #: it names no address, and the key must
    PORT_DENIED = "port-denied"  #: the key does not open that port
    DOOR_DENIED = "door-denied"  #: the key does not open that door
    TOO_MANY_LEASES = "too-many-leases"  #: of this key


class Refused(KnockgateError):
    """A packet turned away; ``reason`` is all that is known about it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
