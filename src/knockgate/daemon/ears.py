"""What the daemon hears packets with: two rings, and who is known to them.

Known are the networks that a key names (``senders``), and those out of which a packet has opened a door
before. For a new one the rings are opened anew. Where the right to do so was given away, that is done at the
next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

from knockgate.capture.known import KnownFirst
from knockgate.capture.ring import PacketRing
from knockgate.config.doors import Configuration
from knockgate.errors import Unavailable
from knockgate.mechanisms.packet import Bearer
from knockgate.model import Source
from knockgate.store.networks import MOST, KnownNetworks, Network, network_of
from knockgate.wire import bpf
from knockgate.wire.shapes import Shaped

__all__ = ["NETWORKS", "Ears"]

NETWORKS = "known-networks"
#: Packets that wait in the ring for known networks.
_KNOWN_ROOM = 512
#: Packets that wait in the ring for all others, at least and at most.
_LEAST, _MOST = 256, 4096
#: Seconds for which there is room, where more come than can be looked at: so old is a packet when its turn
#: comes. And what a look takes, about: for any packet, and for each key.
_OLD, _LOOK, _KEY = 0.25, 5e-6, 2e-6


class Ears:
    """Stands for a ``Capture`` with whoever waits for packets."""

    def __init__(
        self,
        configuration: Configuration,
        bearers: Sequence[Bearer],
        shapes: Sequence[Shaped],
        complain: Callable[[str, str], None],
    ) -> None:
        """Raises Unavailable where the kernel does not let us listen. ``complain``: a line, and its kind."""
        if configuration.fwknop is None:
            raise AssertionError("a gate with keys hears packets")
        self._port = configuration.fwknop.port.number
        self._interface = configuration.gate.interface
        self._shapes = shapes
        self._complain = complain
        self._room = _room(len(bearers))
        self._named = _named(bearers)
        self._known = KnownNetworks(Path(configuration.gate.state_directory, NETWORKS))
        if self._known.mistake:
            complain(self._known.mistake, "networks")
        self._is_stale = False
        self._rings = KnownFirst(*self._opened())

    def take(self) -> Sequence[bytes]:
        """The next packets, none if there are none; it does not wait."""
        if self._is_stale:
            self._is_stale = False
            if left := self._open_anew():
                return left
        return self._rings.take()

    def opened(self, sender: Source) -> None:
        """A packet from there has opened a door."""
        if any(ip_address(sender) in network for network in self._named):
            return
        self._is_stale = self._known.opened(network_of(sender)) or self._is_stale
        try:
            self._known.save(time.monotonic())
        except Unavailable as error:
            self._complain(str(error), "networks")

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

    def _open_anew(self) -> Sequence[bytes]:
        try:
            return self._rings.replace(*self._opened())
        except Unavailable as error:
            self._complain(f"new networks are known from the next start on: {error}", "networks")
            return ()


def _named(bearers: Sequence[Bearer]) -> list[Network]:
    """Of IPv6 no less than what is remembered of an address: a filter has room for many of those."""
    networks = dict.fromkeys(network for bearer in bearers for network in bearer.senders)
    return list(dict.fromkeys(_wide(each) for each in networks))


def _wide(network: Network) -> Network:
    common = network_of(network.network_address.packed)
    return network if network.version == 4 or network.prefixlen < common.prefixlen else common


def _room(keys: int) -> int:
    return min(_MOST, max(_LEAST, round(_OLD / (_LOOK + _KEY * keys))))
