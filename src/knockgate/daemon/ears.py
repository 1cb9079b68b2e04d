"""What the daemon hears packets with: two rings, and who is known to them.

Known are the networks that a key names (``senders``), and those out of which a packet has opened a door
before. A new one is written down, and the rings are opened anew for it. That takes the kernel 150 ms, so it
is done when nothing comes, or after a while if something always does. Where the right to do so was given
away, it is done at the next start.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from knockgate.capture.known import KnownFirst
from knockgate.capture.ring import PacketRing
from knockgate.config.doors import Gate
from knockgate.errors import Unavailable
from knockgate.model import Source
from knockgate.store.networks import MOST, KnownNetworks, Network, network_of
from knockgate.wire import bpf
from knockgate.wire.shapes import Shaped

__all__ = ["Ears", "Sounds"]

#: Packets that wait in the ring for known networks.
_KNOWN_ROOM = 512
#: Seconds for which there is room in the ring for all others, where more come than can be looked at: so old
#: is a packet when its turn comes. And packets, at least and at most.
_OLD, _LEAST, _MOST = 0.25, 256, 4096
#: Seconds for which known networks wait for the others at most, and the others for them. And packets.
_TURN, _FEWEST, _MANY = 0.005, 4, 64
#: Seconds without a packet until new networks are taken up, and seconds after which they are anyway.
_QUIET, _PATIENCE = 0.2, 30.0


class Sounds(NamedTuple):
    """What is to be heard."""

    port: int  #: of UDP
    shapes: Sequence[Shaped]
    look: float  #: seconds that it takes to find a packet to be none of ours, about
    networks: str  #: the name of the file with the networks that are known
    named: Iterable[Network] = ()  #: which are known in any case


class Ears:
    """Stands for a ``Capture`` with whoever waits for packets."""

    def __init__(self, gate: Gate, sounds: Sounds, complain: Callable[[str, str], None]) -> None:
        """Raises Unavailable where the kernel does not let us listen. ``complain``: a line, and its kind."""
        self._port = sounds.port
        self._interface = gate.interface
        self._shapes = sounds.shapes
        self._complain = complain
        look = sounds.look
        self._room = min(_MOST, max(_LEAST, round(_OLD / look)))
        self._turn = min(_MANY, max(_FEWEST, round(_TURN / look)))
        self._left: Sequence[bytes] = ()  # what rings had that were replaced, and is not given out yet
        self._named = _named(sounds.named)
        self._known = KnownNetworks(Path(gate.state_directory, sounds.networks))
        if self._known.mistake:
            complain(self._known.mistake, "networks")
        self._quiet = self._patience = math.inf  # when new networks are taken up: at the earlier of both
        self._rings = KnownFirst(*self._opened(), turn=self._turn)

    def take(self) -> Sequence[bytes]:
        """The next packets, none if there are none; it does not wait."""
        packets = self._some_left() or self._rings.take()
        if packets and self._patience < math.inf:
            self._quiet = time.monotonic() + _QUIET
        return packets

    def next_wakeup(self) -> float | None:
        """When to call ``tick`` at the latest, by the monotonic clock; None for never."""
        wakeup = 0.0 if self._left else min(self._quiet, self._patience)
        return None if wakeup == math.inf else wakeup

    def tick(self) -> Sequence[bytes]:
        """Take up new networks, if it is time; returns packets that were heard meanwhile, some at a time."""
        if self._left or time.monotonic() < min(self._quiet, self._patience):
            return self._some_left()
        self._quiet = self._patience = math.inf
        try:
            self._known.save()
        except Unavailable as error:
            self._complain(str(error), "networks")
        try:
            self._left = self._rings.replace(*self._opened())
        except Unavailable as error:
            self._complain(f"new networks are known from the next start on: {error}", "networks")
        return self._some_left()

    def _some_left(self) -> Sequence[bytes]:
        """Of thousands that waited: who is given all would be deaf for everything else until the last."""
        some, self._left = self._left[: self._turn], self._left[self._turn :]
        return some

    def opened(self, sender: Source) -> None:
        """A packet from there has opened a door."""
        if any(ip_address(sender) in network for network in self._named):
            return
        if self._known.opened(network_of(sender)):
            now = time.monotonic()
            self._quiet, self._patience = now + _QUIET, min(self._patience, now + _PATIENCE)

    @property
    def listening(self) -> bool:
        """False while the one interface listened on is down or gone."""
        return self._rings.listening

    def fileno(self) -> int:
        """Readable when ``take`` would have something, or ``listening`` may have changed."""
        return self._rings.fileno()

    def drops(self) -> tuple[int, int]:
        """Packets that passed the filters, and how many of them there was no room for, so far."""
        return self._rings.drops()

    def _opened(self) -> tuple[PacketRing, PacketRing]:
        networks = [*self._named, *self._known.networks][:MOST]
        loopback = self._interface == "lo"
        known = bpf.datagrams(self._port, self._shapes, loopback=loopback, only_from=networks)
        others = bpf.datagrams(self._port, self._shapes, loopback=loopback, not_from=networks)
        first = PacketRing(known, self._interface, frames=_KNOWN_ROOM)
        try:
            return first, PacketRing(others, self._interface, frames=self._room)
        except Unavailable:
            first.close()
            raise


def _named(networks: Iterable[Network]) -> list[Network]:
    """Of IPv6 no less than what is remembered of an address: a filter has room for many of those."""
    return list(dict.fromkeys(_wide(each) for each in networks))


def _wide(network: Network) -> Network:
    common = network_of(network.network_address.packed)
    return network if network.version == 4 or network.prefixlen < common.prefixlen else common
