"""What a watcher of the wire can read in a knock, and whether two knocks of one client are alike."""

from __future__ import annotations

import base64
import binascii
import hashlib
import socket
from collections.abc import Iterable, Mapping, Sequence

from knockdemo.observer import Passing

__all__ = ["alike", "forms_of_address", "forms_of_key", "in_common", "named"]


def payload_of(knock: Iterable[Passing]) -> bytes:
    """What the packets carry, one after the other; empty where that is nothing, or nothing but zeros."""
    carried = b"".join(bytes.fromhex(packet.payload) for packet in knock)
    return carried if carried.strip(b"\0") else b""


def alike(first: Sequence[Passing], second: Sequence[Passing]) -> bool:
    """Whether two knocks are the same, packet for packet: ports, order and what they carry."""
    one, other = ([(p.protocol, p.port, p.payload) for p in knock] for knock in (first, second))
    return one == other


def in_common(first: Sequence[Passing], second: Sequence[Passing]) -> int:
    """The length of the longest run of bytes that both carry, wherever it stands in each."""
    one, other = payload_of(first), payload_of(second)
    length = 0
    for start in range(len(one)):
        while start + length < len(one) and one[start : start + length + 1] in other:
            length += 1
    return length


def named(knock: Sequence[Passing], words: Mapping[str, Iterable[bytes]]) -> list[str] | None:
    """Those of ``words`` (what it is -> its spellings) that stand in the knock, as it is or in base64.

    None where it carries nothing in which a word could stand.
    """
    carried = payload_of(knock)
    if not carried:
        return None
    texts = [carried]
    for skipped in range(4):  # base64 may begin at any of four places
        part = carried[skipped : skipped + (len(carried) - skipped) // 4 * 4]
        try:
            texts.append(base64.b64decode(part, validate=True))
        except binascii.Error:
            continue
    return sorted(
        what for what, spelled in words.items() if any(s in text for s in spelled for text in texts)
    )


def forms_of_key(public: str) -> list[bytes]:
    """How a packet could name an SSH key: its 32 bytes, or its fingerprint, bare and as ssh-keygen shows it.

    ``public`` is the line of a ``.pub`` file with an Ed25519 key.
    """
    blob = base64.b64decode(public.split()[1])
    digest = hashlib.sha256(blob).digest()
    return [blob[-32:], digest, base64.b64encode(digest).rstrip(b"=")]


def forms_of_address(*addresses: str) -> list[bytes]:
    """How a packet could name addresses: as text, and as the network writes them."""
    found = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        found += [address.encode(), socket.inet_pton(family, address)]
    return found
