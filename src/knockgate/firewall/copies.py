"""A copy of all leases and pauses, to be put back into the table should somebody remove it.

It is taken again and again, and hardly ever needed. So it stays what the kernel said, unread, which costs
a tenth of reading it; times are set right when it is put back.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from knockgate.errors import Unavailable
from knockgate.firewall import nfmessages
from knockgate.firewall.channel import Channel
from knockgate.firewall.doorway import PAUSED
from knockgate.firewall.names import LEASE_SETS, TABLE
from knockgate.firewall.netlink import Request, Verb, attribute, fields, items, nest, string

__all__ = ["LeaseCopy"]

# Attributes of an element (linux/netfilter/nf_tables.h).
_KEY, _TIMEOUT, _EXPIRATION, _USERDATA = 1, 4, 5, 6
_CREATE = 0x400
#: Elements in a message, whose length has 16 bits, and messages in a transaction: such that it fits into
#: the send buffer that every system allows.
_ELEMENTS, _MESSAGES = 250, 4


class _Listing(NamedTuple):
    """What was in a set at a time (monotonic)."""

    name: str
    at: float
    bodies: list[bytes]


class LeaseCopy:
    """Nothing, until it is taken."""

    def __init__(self, channel: Channel) -> None:
        """``channel`` must be the owner's, where the table is owned when the leases are put back."""
        self._channel = channel
        self._listings: list[_Listing] = []

    def take(self) -> bool:
        """Copy what is there now. False, and the copy is what it was, where the table is just not there."""
        try:
            self._listings = [
                self._listed(name) for names in (*LEASE_SETS.values(), (PAUSED,)) for name in names
            ]
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # EINTR: rules are being loaded, again and again
                return False
            raise _unavailable(error) from error
        return True

    def put_back(self) -> int:
        """Begin all again that would still be live, each for what was left of it; how many leases."""
        count = 0
        for listing in self._listings:
            live = list(_live(listing))
            count += len(live) if listing.name != PAUSED else 0
            requests = [
                Request(
                    Verb.NEW_ELEMENT,
                    _CREATE,
                    string(1, TABLE) + string(2, listing.name) + nest(3, b"".join(live[at : at + _ELEMENTS])),
                )
                for at in range(0, len(live), _ELEMENTS)
            ]
            for at in range(0, len(requests), _MESSAGES):
                try:
                    self._channel.change(requests[at : at + _MESSAGES])
                except OSError as error:
                    raise _unavailable(error) from error
        return count

    def _listed(self, name: str) -> _Listing:
        at = time.monotonic()
        answers = self._channel.list(nfmessages.elements(TABLE, name))
        return _Listing(name, at, [answer.body for answer in answers])


def _live(listing: _Listing) -> Iterator[bytes]:
    """The elements as attributes of a request, with the time that is left of them now."""
    passed = round((time.monotonic() - listing.at) * 1000)
    for body in listing.bodies:
        for element in items(fields(body).get(3, b"")):
            found = fields(element)
            again = nest(_KEY, found.get(_KEY, b""))
            if _EXPIRATION in found:
                left = int.from_bytes(found[_EXPIRATION], "big") - passed
                if left <= 0:
                    continue
                again += attribute(_TIMEOUT, found.get(_TIMEOUT, b""))
                again += attribute(_EXPIRATION, struct.pack(">Q", left))
            if _USERDATA in found:
                again += attribute(_USERDATA, found[_USERDATA])
            yield nest(1, again)


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"nf_tables refuses: {error.strerror}")
