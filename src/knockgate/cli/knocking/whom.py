"""Whom a packet asks to let in, sealed or fwknop's: what is known of it, and the words for it."""

from __future__ import annotations

import ipaddress

from knockgate.cli.terminal import advise, say
from knockgate.client import outside, send
from knockgate.client.allow import Network, SealedAllow, Whoever
from knockgate.client.request import is_behind_nat
from knockgate.errors import Unavailable
from knockgate.model import Source, address_text

__all__ = ["Whom"]


class Whom:
    """``found`` is the address of 4 or 16 bytes; None as long as there is none, and where none is named."""

    def __init__(self, allow: SealedAllow, address: str, route: str | None, source: str | None) -> None:
        """``address`` is the host's, ``route`` ours on the way there, ``source`` what to send from."""
        self.allow = allow
        self._address, self._source = address, source
        self.found: Source | None = None
        if allow is Whoever.ROUTE and route:
            self.found = ipaddress.ip_address(route).packed
        elif isinstance(allow, Network):
            self.found = allow.network_address.packed
        elif isinstance(allow, bytes):
            self.found = allow

    @property
    def observed(self) -> bool:
        """Whether it is whoever sends the packet."""
        return self.allow is Whoever.OBSERVED

    def warn(self) -> None:
        """Say so where the host will hardly see the address."""
        if self.allow is Whoever.ROUTE and self.found and is_behind_nat(self.found, self._address):
            say(f"{address_text(self.found)} is an inner address: {self._address} will hardly see it")
            advise("behind NAT: -R URL asks for the outer address, -s lets in whoever sends the packet")

    def find(self) -> None:
        """Ask the URL, where it is one; raises Unavailable where there is nobody to let in."""
        if isinstance(self.allow, str):
            family = send.Family.AF_INET6 if ":" in self._address else send.Family.AF_INET
            self.found = outside.ask(self.allow, family, self._source)
        if self.found is None and not self.observed:
            hint = "check its network and routes; or say whom to let in: -a ADDRESS"
            raise Unavailable(f"this machine has no way to {self._address}", hint=hint)

    @property
    def by(self) -> str:
        """Who has said so, for programs."""
        if isinstance(self.allow, Whoever):
            return self.allow.value
        return self.allow if isinstance(self.allow, str) else "given"

    def text(self) -> str | None:
        """The address or the network, None where there is none yet."""
        if self.found is None:
            return None
        return str(self.allow) if isinstance(self.allow, Network) else address_text(self.found)

    def words(self) -> str:
        """The same for people."""
        if self.observed:
            return "whoever sends it"
        if isinstance(self.allow, str) and self.found is None:
            return f"the address that {self.allow} answers with"
        return self.text() or "nobody"

    def why(self) -> str:
        """Behind the words, how they came about."""
        if self.allow is Whoever.ROUTE:
            return ", this machine's address on the way to the host"
        by = f", which {self.allow} answered with" if isinstance(self.allow, str) else ""
        over_6 = ":" in self._address
        if self.found and (len(self.found) == 16) is not over_6:
            by += f", and the door was tried over IPv{6 if over_6 else 4}: {'-4' if over_6 else '-6'}"
        return by
