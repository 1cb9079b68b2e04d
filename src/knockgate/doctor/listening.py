"""Who listens on this host, out of /proc/net: anybody may read that."""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from knockgate.model import Port, Protocol

__all__ = ["Address", "Listener", "read_listeners"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: In /proc/net, proc_pid_net(5): a listening TCP socket, and a UDP socket that is not connected.
_LISTENS = {Protocol.TCP: "0A", Protocol.UDP: "07"}


class Listener(NamedTuple):
    """A socket that takes what comes to it from anywhere."""

    port: Port
    address: Address

    @property
    def is_local(self) -> bool:
        """Whether it answers this host alone."""
        return self.address.is_loopback


def read_listeners(proc: Path = Path("/proc/net")) -> list[Listener]:
    """All of them, each once, in order."""
    found = set()
    for protocol, state in _LISTENS.items():
        for family in ("", "6"):
            with contextlib.suppress(OSError):
                lines = (proc / f"{protocol.name.lower()}{family}").read_text().splitlines()[1:]
                found |= {Listener(Port(protocol, port), address) for port, address in _of(lines, state)}
    return sorted(found, key=lambda each: (each.port, each.address.version, int(each.address)))


def _of(lines: Iterable[str], state: str) -> Iterator[tuple[int, Address]]:
    for line in lines:
        _, local, _, this_state, *_ = line.split()
        address, _, number = local.partition(":")
        if this_state == state and int(number, 16):
            yield int(number, 16), _address(address)


def _address(digits: str) -> Address:
    """Words of four bytes, each as a number of this machine."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found
