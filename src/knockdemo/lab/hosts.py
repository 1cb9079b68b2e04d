"""The lab's hosts.

::

        client                       wire                            host
    ┌──────────────┐   ┌──────────────────────────────┐   ┌──────────────────────────┐
    │ eth0  …0.2   ├───┤ to-client   br0    to-host   ├───┤ eth0  …0.1               │
    │              │   │   bystander  …0.3            │   │ services, daemons, rules │
    └──────────────┘   │   observer   …0.4            │   └──────────────────────────┘
                       │   sweeper    …0.5            │
                       └──────────────────────────────┘

Three network namespaces. The wire is a transparent bridge that changes nothing on the way; it has
three more addresses, which are the other people of the story. Addresses are those that are reserved
for documentation (RFC 5737, RFC 3849), so a mistake cannot reach anybody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knockgate.errors import Unavailable

__all__ = ["Actor", "Site", "build"]

_CLONE_NEWNET = 0x40000000
_NETNS = Path("/run/netns")

#: The interpreter that the units name: what runs inside is what would be installed.
PYTHON = ["/usr/bin/python3"]

#: Debian keeps the firewall's and the daemons' programs where an ordinary user's PATH does not look.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody with an address, and the network namespace that they live in."""

    name: str
    namespace: str
    device: str
    address4: str
    address6: str
    environment: Mapping[str, str]

    def command(self, argv: Sequence[str]) -> list[str]:
        """The same command, run in this actor's namespace."""
        return ["nsenter", f"--net={_NETNS / self.namespace}", "--", *argv]

    def run(
        self, argv: Sequence[str], *, timeout: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its status is the caller's business."""
        try:
            return subprocess.run(
                self.command(argv),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=dict(self.environment),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{argv[0]} did not end within {timeout:g} s") from None

    def do(self, argv: Sequence[str]) -> None:
        """Run a command that must succeed."""
        done = self.run(argv)
        if done.returncode:
            raise Unavailable(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes in here belong to the actor's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(_NETNS / self.namespace, os.O_RDONLY)
        try:
            _setns(libc, there)
            try:
                yield
            finally:
                _setns(libc, back)
        finally:
            os.close(there)
            os.close(back)


@dataclass(frozen=True, slots=True)
class Site:
    """Everybody in the lab."""

    host: Actor
    client: Actor
    bystander: Actor
    observer: Actor
    sweeper: Actor

    @property
    def strangers(self) -> tuple[Actor, Actor, Actor]:
        """The three who live on the wire."""
        return (self.bystander, self.observer, self.sweeper)


def build(environment: Mapping[str, str]) -> Site:
    """Make the namespaces, links and addresses; /run must be ours. Raises Unavailable."""

    def actor(name: str, namespace: str, device: str, number: int) -> Actor:
        addresses = f"192.0.2.{number}", f"2001:db8::{number}"
        return Actor(name, namespace, device, *addresses, environment)

    site = Site(
        actor("host", "host", "eth0", 1),
        actor("client", "client", "eth0", 2),
        actor("bystander", "wire", "br0", 3),
        actor("observer", "wire", "br0", 4),
        actor("sweeper", "wire", "br0", 5),
    )
    for namespace in ("host", "wire", "client"):
        _here(["ip", "netns", "add", namespace], environment)
    wire = site.bystander.do
    wire(["ip", "link", "set", "lo", "up"])
    # No waiting for spanning tree, no filtering of IPv6 neighbour discovery.
    wire(["ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])
    for end in (site.host, site.client):
        port = f"to-{end.name}"
        wire(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", end.namespace])
        wire(["ip", "link", "set", port, "master", "br0", "up"])
        end.do(["ip", "link", "set", "lo", "up"])
        end.do(["ip", "link", "set", "eth0", "up"])
    wire(["ip", "link", "set", "br0", "up"])
    for somebody in (site.host, site.client, *site.strangers):
        somebody.do(["ip", "address", "add", f"{somebody.address4}/24", "dev", somebody.device])
        # nodad: an address is in use at once, and nobody else is here to have it already.
        somebody.do(["ip", "address", "add", f"{somebody.address6}/64", "dev", somebody.device, "nodad"])
    return site


def _here(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(environment), check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(argv)}: {done.stderr.strip()}")


def _setns(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise Unavailable(f"cannot enter a network namespace: {os.strerror(number)}")
