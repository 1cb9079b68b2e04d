"""What is fuzzed of fwknop's packet. A target takes any bytes; what it raises is a mistake of ours.

The tests run the corpus through these without the fuzzer, so they know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

from knockgate.errors import Reason, Refused
from knockgate.spa.fwknop import Hash, Keyring, Mode, Secret, fields, text64, unseal
from knockgate.spa.fwknop.sealing import seal_text
from knockgate.spa.fwknop.secret import hashed

__all__ = ["TARGETS", "Mistake"]

BARE = Secret(b"a key without HMAC")
SECRETS = (
    *(Secret(b"key %d" % number, b"hmac key", kind) for number, kind in enumerate(Hash)),
    *(Secret(b"key", None, mode=mode) for mode in Mode),
)
RING = Keyring(SECRETS)
SALT = bytes(range(8))


class Mistake(Exception):
    """What must not be, whatever the packet."""


def packet(octets: bytes) -> None:
    """A payload as it comes from the wire."""
    found = RING.candidates(octets)
    for number, secret in enumerate(SECRETS):
        try:
            unseal(octets, secret)
        except Refused as refused:
            inside = refused.reason not in {Reason.BAD_LENGTH, Reason.NOT_BASE64, Reason.NOT_OURS}
        else:
            inside = True
        if inside != (number in found):
            raise Mistake("the ring and the secret disagree")


def text(octets: bytes) -> None:
    """What somebody seals who has the key; the first byte may ask for the right hash at the end."""
    if not octets:
        return
    kinds: list[Hash | None] = [None, *Hash]
    kind, plain = kinds[octets[0] % len(kinds)], octets[1:]
    if kind is not None:
        plain += b":" + text64.encode(hashed(plain, kind))
    try:
        unsealed = unseal(seal_text(plain, BARE, salt=SALT), BARE)
    except Refused:
        return
    if fields.encode(unsealed.message) != plain.rpartition(b":")[0]:
        raise Mistake("there are two spellings for one message")


def values(octets: bytes) -> None:
    """The same, where the fuzzer has the fields' values, with a zero byte between: it cannot guess base64."""
    parts = octets.split(b"\0")
    plain = b":".join(
        part if number in {0, 2, 3, 4} or part.isdigit() else text64.encode(part)
        for number, part in enumerate(parts)
    )
    text(b"\3" + plain)


TARGETS: dict[str, Callable[[bytes], None]] = {"packet": packet, "text": text, "values": values}
