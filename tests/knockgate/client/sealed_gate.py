"""A gate for the tests of who knocks: a socket that unseals, verifies, and opens a door for certain keys."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.knockgate.spa.sealed_messages import CARD_KEYS, KEY
from tests.netns import DEADLINE, run, until

from knockgate.spa.sealed import Head, signed_bytes, unseal
from knockgate.spa.sshkeys import PublicKey, Signature, verify

HERE, HERE6 = "198.51.100.7", "2001:db8::7"
"""Addresses to knock at and to be let in: those of the loopback interface are no knock's."""
_DOOR = "table inet door { chain input { type filter hook input priority 0; tcp dport 22 drop; }; }"


class Knock(NamedTuple):
    """A datagram that was unsealed and whose signature is right."""

    head: Head
    size: int
    key: PublicKey
    touched: bool


@dataclass
class Gate:
    """What has come; the first knock with a key of ``opening`` opens the door."""

    known: dict[bytes, PublicKey]
    opening: set[bytes]
    knocks: list[Knock] = field(default_factory=list)
    wrong: list[bytes] = field(default_factory=list)

    def take(self, datagram: bytes) -> None:
        message = unseal(datagram, CARD_KEYS, KEY)
        key = self.known[message.head.fingerprint]
        signature = Signature(message.signature, message.flags, message.counter)
        if not verify(key, signature, signed_bytes(KEY.gate, message.head)):
            self.wrong.append(datagram)
            return
        self.knocks.append(Knock(message.head, len(datagram), key, signature.touched))
        if key.fingerprint in self.opening:
            run("nft", "delete", "table", "inet", "door")
            self.opening.clear()

    def number(self, count: int) -> list[Knock]:
        """All knocks, of which there must be so many."""
        until(lambda: len(self.knocks) >= count, f"{count} knocks")
        assert (len(self.knocks), self.wrong) == (count, [])
        return self.knocks


@contextlib.contextmanager
def gate(*known: PublicKey, opens_for: PublicKey | None = None, port: int = 62202) -> Iterator[Gate]:
    """A gate at HERE and HERE6, in the present network, with tcp/22 behind a firewall and a service there."""
    found = Gate({key.fingerprint: key for key in known}, {opens_for.fingerprint} if opens_for else set())
    run("nft", _DOOR)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(
            socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        service.listen(64)
        ear = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        ear.bind(("::", port))
        over = False

        def listen() -> None:
            while not over:
                datagram = ear.recv(65535)
                if datagram:
                    found.take(datagram)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            over = True
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", port))
            thread.join(DEADLINE)
            run("nft", "delete", "table", "inet", "door", check=False)


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_suffix(".pub").read_bytes().split()[:2])
