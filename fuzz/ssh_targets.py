"""What is fuzzed of SSH keys: files of a user, public and private, and answers of an agent.

As in ``targets``, a target takes any bytes, and what it raises is a mistake of ours.
"""

from __future__ import annotations

import base64
import calendar
from collections.abc import Callable

from fuzz.targets import Mistake
from knockgate.client import private_key
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa import agent
from knockgate.spa.sshkeys import BadKey, Kind, Listing, PublicKey, Sources, files, verify
from knockgate.spa.sshkeys.sshsig import armored, read_armored, stripped, wrapped

__all__ = ["RIGHT", "TARGETS", "armoured"]

#: A line that is right.
RIGHT = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM0D+93KqicDwlFlbVzN2Z9WNbHgZTwGNrlRo6PbIdrU"
KEY = PublicKey.of_text(*RIGHT.split())
ADDRESSES = tuple(
    bytes.fromhex(each) for each in ("0a000001", "7f000001", 24 * "0" + "0a000001", "20010db8" + 24 * "1")
)


def authorized(octets: bytes) -> None:
    """A file; where the first byte is odd it is one of the gate's own."""
    ours, octets = bool(octets[:1] and octets[0] & 1), octets[1:]
    alone = _read(octets, ours=ours)
    beside = _read(RIGHT + b"\n" + octets + b"\n" + RIGHT, ours=ours)
    if alone is None or beside is None:
        return
    if beside.keys[0].key != KEY or beside.keys[-1].key != KEY or len(beside.keys) != len(alone.keys) + 2:
        raise Mistake("a line costs another one")
    if len(beside.flaws) != len(alone.flaws) or beside.authorities != alone.authorities:
        raise Mistake("a line changes another one")
    for each in alone.keys:
        if PublicKey.of_blob(each.key.blob) != each.key:
            raise Mistake("there are two encodings of one key")
        if not ours and (each.options.doors, each.options.longest) != (None, None):
            raise Mistake("a user's file says what only the gate's own may say")
        if each.options.sources:
            _look(each.options.sources)


def _read(octets: bytes, *, ours: bool) -> Listing | None:
    try:
        return files.read(octets, ours=ours, local=calendar.timegm)
    except BadKey as bad:
        raise Mistake("a line costs the file") from bad
    except ConfigError:
        return None


def _look(sources: Sources) -> None:
    for address in ADDRESSES:
        bits = len(address) * 8
        if sources.admit_all(address, bits // 2) and not sources.admit(address):
            raise Mistake("a network is let in, and one of it is not")


def answer(octets: bytes) -> None:
    """What an agent answers to either question."""
    try:
        offers = agent.keys(octets)
    except Unavailable:
        pass
    else:
        if any((offer.key is None) == (offer.flaw is None) for offer in offers):
            raise Mistake("an offer is a key or says why not")
    try:
        agent.signature(octets, KEY, b"a message that nobody signed")
    except Unavailable:
        return
    raise Mistake("a signature out of nothing")


def signature(octets: bytes) -> None:
    """A signature as a file has it; else, where the first byte names a kind, as an agent has it."""
    try:
        key, found = read_armored(octets)
    except ConfigError:
        _blob(octets)
    else:
        if read_armored(armored(key, found).encode()) != (key, found):
            raise Mistake("there and back is another signature")


def _blob(octets: bytes) -> None:
    try:
        kind = Kind(octets[0] if octets else 0)
        found = stripped(kind, octets[1:])
    except ValueError:
        return
    if stripped(kind, wrapped(kind, found)) != found:
        raise Mistake("there and back is another signature")


def private(octets: bytes) -> None:
    """A file of ssh's; where the first byte is odd, what stands between its first line and its last."""
    armour, octets = bool(octets[:1] and octets[0] & 1), octets[1:]
    file = armoured(octets) if armour else octets
    try:
        outside = private_key.look(file)
    except ConfigError:
        return
    if PublicKey.of_blob(outside.key.blob) != outside.key:
        raise Mistake("there are two encodings of one key")
    if outside.locked:
        return  # asking takes its time, and it is the library's
    try:
        key = private_key.load(file)
    except ConfigError:  # nothing else: there is no passphrase
        return
    if key.public != outside.key or not verify(key.public, key.sign(b"a message"), b"a message"):
        raise Mistake("the key is another one than it says")


def armoured(octets: bytes) -> bytes:
    """The text of a private key's file."""
    lines = b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"-----END OPENSSH PRIVATE KEY-----\n"
    return base64.encodebytes(octets).join(lines)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "authorized": authorized,
    "answer": answer,
    "signature": signature,
    "private": private,
}
