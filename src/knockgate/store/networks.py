"""From where doors were opened with packets: a short list of networks, so that they can be heard first.

A hint and no more: it decides who is looked at first, never who is let in. So a lost or a broken file is no
fault, and nothing waits for the disk.

The file has one network a line, the one that opened last in front.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

from knockgate.config import private
from knockgate.errors import Unavailable
from knockgate.model import Source

__all__ = ["MOST", "KnownNetworks", "Network", "network_of"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What a carrier or a provider has for the people of a region, who get another address of it every day: by
#: the bytes of an address, how many bits those have in common.
_COMMON = {4: 16, 16: 32}
#: So many fit in a filter (``wire.senders``), in the 20 KB that a socket has for it before Linux 6.9.
MOST = 200
_LONGEST = MOST * 50  # bytes of the file


def network_of(sender: Source) -> Network:
    """What is remembered of an address."""
    return ipaddress.ip_network((sender, _COMMON[len(sender)]), strict=False)


class KnownNetworks:
    """``networks``: the one that opened last in front. ``mistake``: what was wrong with the file, or None."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.networks: list[Network] = []
        self.mistake: str | None = None
        try:
            self.networks = _read(path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.mistake = f"{path}: {reason}; nobody is known any more"

    def opened(self, network: Network) -> bool:
        """A door was opened from there; whether that is new."""
        is_new = network not in self.networks
        if not is_new:
            self.networks.remove(network)
        self.networks = [network, *self.networks][:MOST]
        return is_new

    def save(self) -> None:
        """Write it down; Unavailable where the disk refuses.

        It takes milliseconds, and makes the next claim wait that comes to the same disk.
        """
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.unlink(missing_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w") as stream:
                private.hand_over(file, new.parent)
                stream.writelines(f"{network}\n" for network in self.networks)
            new.rename(self._path)
        except OSError as error:
            message = f"{self._path}: {error.strerror}; after a restart fewer networks are known"
            raise Unavailable(message, hint="gate.state_directory names its folder") from None


def _read(path: Path) -> list[Network]:
    """OSError, and ValueError with a text for people. A pipe in its place is not waited for."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(stream.fileno())
        ours = private.users_of(path.parent.stat())
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
            raise ValueError("must be a file of mode 0600 that belongs to who runs the gate")
        text = stream.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise ValueError("is too long")
    networks = [ipaddress.ip_network(line) for line in text.decode("ascii").splitlines()]
    for network in networks:
        if network != network_of(network.network_address.packed):
            raise ValueError(f"{network} is no network that is remembered")
    return list(dict.fromkeys(networks))[:MOST]
