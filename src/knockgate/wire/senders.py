"""Whether a packet comes from one of some networks, as BPF: a binary search, word by word of the address.

So 256 networks cost ten comparisons a packet, and not 256. A branch reaches 255 instructions; within so many
lie the comparisons for ``_NEAR`` networks, and the two ends that they share.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from itertools import count

from knockgate.wire.frames import ETH_P_IP
from knockgate.wire.instructions import AD_PROTOCOL, JEQ, JGE, JGT, RET, Assembler, W

__all__ = ["Network", "from_networks"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SOURCE4, _SOURCE6 = 12, 8  # where it is in the headers
_NEAR = 32


class _Range:
    """Values of a word, ``first`` to ``last``. Of a network that goes on behind it: one, and the ``rest``."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.rest: list[Network] = []


def from_networks(asm: Assembler, networks: Sequence[Network], *, within: int, outside: int) -> None:
    """End with the one or the other: bytes of the packet to keep."""
    asm.load(W, AD_PROTOCOL)
    asm.branch(JEQ, ETH_P_IP, "from-ipv4", "far-from-ipv4")
    asm.label("far-from-ipv4")
    asm.jump("from-ipv6")
    search = _Search(asm, within, outside)
    asm.label("from-ipv4")
    plain = [each for each in networks if isinstance(each, ipaddress.IPv4Network)]
    search.words(list(ipaddress.collapse_addresses(plain)), _SOURCE4, 0)
    asm.label("from-ipv6")
    long = [each for each in networks if isinstance(each, ipaddress.IPv6Network)]
    search.words(list(ipaddress.collapse_addresses(long)), _SOURCE6, 0)


class _Search:
    def __init__(self, asm: Assembler, within: int, outside: int) -> None:
        self._asm, self._within, self._outside = asm, within, outside
        self._numbers = count()

    def words(self, networks: Iterable[Network], offset: int, word: int) -> None:
        """Networks that do not overlap, and that are alike before this word."""
        ranges: dict[tuple[int, int], _Range] = {}
        for network in networks:
            ends = _word(network.network_address.packed, word), _word(network.broadcast_address.packed, word)
            found = ranges.setdefault(ends, _Range(*ends))
            if network.prefixlen > 32 * (word + 1):
                found.rest.append(network)
        self._asm.load(W, offset + 4 * word)
        going_on: list[tuple[str, _Range]] = []
        self._far(sorted(ranges.values(), key=lambda each: each.first), going_on)
        for label, each in going_on:
            self._asm.label(label)
            self.words(each.rest, offset, word + 1)

    def _far(self, ranges: Sequence[_Range], going_on: list[tuple[str, _Range]]) -> None:
        if len(ranges) > _NEAR:
            middle = len(ranges) // 2
            above, below, far = self._labels(3)
            self._asm.branch(JGE, ranges[middle].first, above, below)
            self._asm.label(above)
            self._asm.jump(far)
            self._asm.label(below)
            self._far(ranges[:middle], going_on)
            self._asm.label(far)
            self._far(ranges[middle:], going_on)
            return
        hit, miss = self._labels(2)
        self._near(ranges, hit, miss, going_on)
        self._asm.label(miss)
        self._asm.emit(RET, self._outside)
        self._asm.label(hit)
        self._asm.emit(RET, self._within)

    def _near(
        self, ranges: Sequence[_Range], hit: str, miss: str, going_on: list[tuple[str, _Range]]
    ) -> None:
        if len(ranges) > 1:
            middle = len(ranges) // 2
            above, below = self._labels(2)
            self._asm.branch(JGE, ranges[middle].first, above, below)
            self._asm.label(below)
            self._near(ranges[:middle], hit, miss, going_on)
            self._asm.label(above)
            self._near(ranges[middle:], hit, miss, going_on)
        elif ranges and ranges[0].rest:
            there, rest = self._labels(2)
            self._asm.branch(JEQ, ranges[0].first, there, miss)
            self._asm.label(there)
            self._asm.jump(rest)
            going_on.append((rest, ranges[0]))
        elif ranges:
            (high_enough,) = self._labels(1)
            self._asm.branch(JGE, ranges[0].first, high_enough, miss)
            self._asm.label(high_enough)
            self._asm.branch(JGT, ranges[0].last, miss, hit)

    def _labels(self, how_many: int) -> list[str]:
        return [f"search-{next(self._numbers)}" for _ in range(how_many)]


def _word(address: bytes, word: int) -> int:
    return int.from_bytes(address[4 * word : 4 * word + 4])
