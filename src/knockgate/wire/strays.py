"""Whether, of many packets, any is to a port that somebody waits for: told for all of them at once.

It is for turning a whole flood away before anything is made of a packet. Python takes a microsecond to read
a header, and a tenth of that to see that a list of ports has none that matters.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Container, Iterable
from collections.abc import Set as AbstractSet

from knockgate.model import Source

__all__ = ["are_strays", "from_sources"]

#: What the first octet says: IPv4 without options, IPv6, or neither.
_IS_4, _IS_6, _IS_ODD = 0, 1, 2
_KINDS = bytes(_IS_4 if octet == 0x45 else _IS_6 if octet >> 4 == 6 else _IS_ODD for octet in range(256))
#: Of IPv6, what octet 6 says: 0 where TCP or UDP comes right behind the header, else 1.
_EXTENDED = bytes(octet not in (6, 17) for octet in range(256))
#: Where the destination port is then.
_PORT4, _PORT6 = 20 + 2, 40 + 2


def are_strays(packets: memoryview, frame: int, ports: AbstractSet[int]) -> bool:
    """Whether all of these are to ports other than ``ports``; False where that is not to be seen at a glance.

    ``packets``: octets, a packet at the beginning of each ``frame`` of them, which is an even number. Of what
    ``frames.observe`` takes it is true; a packet that it refuses may be called a stray, or not.
    """
    kinds = packets[::frame].tobytes().translate(_KINDS)
    extended = packets[6::frame].tobytes().translate(_EXTENDED)
    # A number of as many octets each; both have a one where a packet is IPv6 and its ports are elsewhere.
    if _IS_ODD in kinds or int.from_bytes(kinds) & int.from_bytes(extended):
        return False
    # If there are any of a family, its place is looked at in all: in the other family's packets that is a
    # part of an address, and if it looks like a port that matters, then all are looked at one by one.
    written, halves, stride = _as_written(frozenset(ports)), packets.cast("H"), frame // 2
    return (_IS_4 not in kinds or written.isdisjoint(halves[_PORT4 // 2 :: stride].tolist())) and (
        _IS_6 not in kinds or written.isdisjoint(halves[_PORT6 // 2 :: stride].tolist())
    )


def from_sources(strays: Iterable[bytes], sources: Container[Source]) -> list[bytes]:
    """Of packets that ``are_strays``, those of somebody among ``sources``."""
    return [each for each in strays if (each[12:16] if each[0] == 0x45 else each[8:24]) in sources]


@functools.lru_cache(maxsize=4)
def _as_written(ports: frozenset[int]) -> frozenset[int]:
    """As this machine reads two octets that are in network order."""
    return frozenset(int.from_bytes(port.to_bytes(2), sys.byteorder) for port in ports)
