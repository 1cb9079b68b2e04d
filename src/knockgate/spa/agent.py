"""ssh-agent's protocol, the client's part (draft-ietf-sshm-ssh-agent): requests and answers as octets.

::

    frame              length (4), type (1), contents
    11 -> 12           which keys are there: number (4), then for each its blob and its comment
    13 -> 14           sign: blob of the key, data, flags (4); the signature's blob

An agent may be anybody's who has its socket, and a forwarded one is another machine's: its answers have
bounds, and what it does not answer as it should raises ``Unavailable``.
"""

from __future__ import annotations

from typing import NamedTuple

from knockgate.errors import Unavailable
from knockgate.spa.sshkeys.encoding import Reader, string, uint32
from knockgate.spa.sshkeys.flaws import BadKey
from knockgate.spa.sshkeys.keys import PublicKey
from knockgate.spa.sshkeys.sshsig import Signature, signed, stripped, verify

__all__ = ["HEADER", "LONGEST", "REQUEST_KEYS", "Offer", "keys", "length", "request_signature", "signature"]

HEADER = 4  #: octets in front of an answer, for ``length``
LONGEST = 256 * 1024  #: octets of an answer; OpenSSH's bounds, like the next
_MOST_KEYS = 2048

_FAILURE, _EXTENSION_FAILURE = 5, 28
_KEYS, _SIGN, _SIGNED = 12, 13, 14

REQUEST_KEYS = uint32(1) + b"\x0b"  #: the frame that asks which keys are there


class Offer(NamedTuple):
    """A key that the agent has."""

    key: PublicKey | None  #: None where it cannot knock
    flaw: BadKey | None  #: why it cannot
    comment: str


def request_signature(key: PublicKey, message: bytes) -> bytes:
    """The frame that asks for a signature; nothing is asked for beside it."""
    body = bytes([_SIGN]) + string(key.blob) + string(signed(message)) + uint32(0)
    return string(body)


def length(header: bytes) -> int:
    """Octets that follow these four; raises Unavailable."""
    size = int.from_bytes(header)
    if len(header) != HEADER or not 1 <= size <= LONGEST:
        raise _nonsense()
    return size


def keys(answer: bytes) -> tuple[Offer, ...]:
    """The keys in an answer to ``REQUEST_KEYS``, without its length; raises Unavailable."""
    try:
        reader = _opened(answer, _KEYS, "the ssh agent does not say which keys it has")
        number = reader.uint32()
        if number > _MOST_KEYS:
            raise ValueError("too many")
        offers = tuple(_offer(reader.string(), reader.string()) for _ in range(number))
        reader.end()
    except ValueError:
        raise _nonsense() from None
    return offers


def signature(answer: bytes, key: PublicKey, message: bytes) -> Signature:
    """The signature in an answer to ``request_signature``, looked at; raises Unavailable."""
    try:
        reader = _opened(answer, _SIGNED, "the ssh agent refuses to sign")
        blob = reader.string()
        reader.end()
        found = stripped(key.kind, blob)
    except ValueError:
        raise _nonsense() from None
    if not verify(key, found, message):
        raise Unavailable(
            "the ssh agent's signature is wrong", hint="is it the agent that you mean? ssh-add -T FILE.pub"
        )
    return found


def _opened(answer: bytes, kind: int, refusal: str) -> Reader:
    """The contents of an answer of that kind; ValueError, or Unavailable where the agent refuses."""
    reader = Reader(answer)
    found = reader.byte()
    if found in (_FAILURE, _EXTENSION_FAILURE):
        raise Unavailable(
            refusal,
            hint="it may be locked (ssh-add -X), nobody confirmed or touched in time, or the key was added "
            "for certain hosts alone (ssh-add -h): such a key cannot knock",
        )
    if found != kind:
        raise ValueError("another answer")
    return reader


def _offer(blob: bytes, comment: bytes) -> Offer:
    text = comment.decode("utf-8", "backslashreplace")
    try:
        return Offer(PublicKey.of_blob(blob), None, text)
    except BadKey as flaw:
        return Offer(None, flaw, text)


def _nonsense() -> Unavailable:
    return Unavailable(
        "the ssh agent's answer makes no sense", hint="SSH_AUTH_SOCK may be the socket of something else"
    )
