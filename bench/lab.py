"""The whole lab: what there is of peers, and a gate that takes sealed knocks."""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime as dt
import hashlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.peers import Count, Guard, Peers
from bench.stage import FILES
from knockdemo.lab.hosts import Site
from knockgate.config import gatekeys
from knockgate.daemon.control import ask
from knockgate.errors import Unavailable
from knockgate.spa.sealed import Card, GateKey, Head, KeyKind, Message, SourceKind, Suite, seal, signed_bytes
from knockgate.spa.sshkeys.sshsig import signed
from knockgate.store.marks import SqliteMarks

__all__ = ["MOST_CARDS", "Lab", "Person"]

_PORT, _PEOPLE, MOST_CARDS = 62202, 1000, 10


class Person:
    """Somebody with an ssh key; ``line`` is theirs in authorized_keys."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key()
        self.line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.fingerprint = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()

    def knock(self, card: Card, source: str, suite: Suite, issued: int) -> bytes:
        """A knock to have that address let in; ``issued`` in nanoseconds since 1970."""
        head = Head(
            kind=KeyKind.ED25519,
            source=SourceKind.V4,
            address=socket.inet_aton(source),
            issued=issued,
            device=b"a bench's device",
            doors=("bench",),
            fingerprint=self.fingerprint,
        )
        signature = self._key.sign(signed(signed_bytes(card.gate, head)))
        return seal(Message(head=head, signature=signature), card, suite)


class Lab(Peers):
    """Each knock is somebody else's, since a key may not knock more than once a second for long."""

    port = _PORT

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        super().__init__(site, args)
        self._seeds = [os.urandom(32) for _ in range(2)]
        self._secrets = [os.urandom(32) for _ in range(MOST_CARDS)]
        self._card = GateKey(xwing_seed=self._seeds[0], x25519_key=self._seeds[1]).card(self._secrets[0])
        self._people = [Person() for _ in range(_PEOPLE)]
        self._turns = itertools.cycle(self._people)
        self._file = FILES / "authorized_keys"
        #: What puts marks of before into the next gate's file, and the seconds that it took.
        self.fill_marks: Callable[[Path], None] | None = None
        self.took_filling = 0.0
        self.state = ""  #: the state directory of the gate of now

    def sealed_knock(self, source: str, suite: Suite) -> bytes:
        """A knock of now, to have that address let in."""
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        return next(self._turns).knock(self._card, source, suite, now)

    @contextlib.contextmanager
    def sealed(self, cards: int, people: int | None = None) -> Iterator[Guard]:
        """The gate with so many cards; whoever knocks has the one that is looked at last.

        ``people``: how many may knock, and do so in turn; a thousand, unless it is said.
        """
        who = self._people[:people]
        self._turns = itertools.cycle(who)
        self._file.write_text("".join(f"{each.line}\n" for each in who))
        state = Path(self.new_state())
        state.mkdir(mode=0o700)
        incarnation = os.urandom(16)
        names = {f"c{number}": secret for number, secret in enumerate(reversed(self._secrets[:cards]))}
        xwing, x25519 = self._seeds
        made = dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)
        keys = gatekeys.fresh(incarnation, xwing=xwing, x25519=x25519, secrets=names, now=made)
        gatekeys.save(state / "gate.keys", keys)
        SqliteMarks.create(state / "marks.sqlite", incarnation)
        began = time.monotonic()
        if self.fill_marks:
            self.fill_marks(state / "marks.sqlite")
        self.took_filling, self.state = time.monotonic() - began, str(state)
        table = f'[keys.people]\nssh = "{self._file}"\ndoors = ["bench"]\nleases = 10000\n'
        table += "[sealed]\nbudget = 10000\n"  # nor is this what is measured
        with self.running_gate(str(state), table) as pid:
            if (taken := ask(f"{FILES}/run")["sealed"]["keys"]) != len(who):
                raise Unavailable(
                    f"measurement failed: the gate takes {taken} keys of {len(who)}",
                    hint="as an ordinary user / is nobody's in here, and no file below it is trusted: "
                    "root measures sealed knocks, or leave them out with --subjects",
                )
            yield _Gate(pid)


class _Gate:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def count(self) -> Count:
        told = ask(f"{FILES}/run")
        sealed = told["sealed"]
        return Count(sealed["opened"] + sum(sealed["refused"].values()), told["heard"]["lost"])
