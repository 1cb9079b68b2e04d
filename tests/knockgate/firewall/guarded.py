"""A cable to a host that is guarded: what its client sees, sends and gets, with real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.knockgate.firewall.table import nft
from tests.netns import Network, until, up, veth

GATE = """
[doors.ssh]
ports = ["tcp/22", "udp/5353"]
lease = "15s"
sequence = { steps = ["tcp/7000", "udp/8000", "tcp/9000"], within = "5s" }
[doors.published]
ports = ["tcp/8080"]
"""
HOST, CLIENT = {4: "10.0.0.1", 6: "fd00::1"}, {4: "10.0.0.2", 6: "fd00::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
#: How long a lone SYN or datagram may take; the kernel would send the SYN again after one second.
ONE_TRY = 0.4


def look(address: str, port: int, *, source: str = "") -> str:
    """One SYN from where we are: ``open``, ``closed`` (refused) or ``silent``."""
    with socket.socket(FAMILY[6 if ":" in address else 4]) as sock:
        if source:
            sock.bind((source, 0))
        sock.settimeout(ONE_TRY)
        try:
            sock.connect((address, port))
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "closed"
        return "open"


@contextlib.contextmanager
def listening(*ports: int, network: Network | None = None) -> Iterator[list[socket.socket]]:
    """TCP sockets that listen on both families; the kernel answers for them."""
    family = socket.AF_INET6
    with contextlib.ExitStack() as stack:
        with network or contextlib.nullcontext():
            sockets = [
                socket.create_server(("::", port), family=family, dualstack_ipv6=True) for port in ports
            ]
        for sock in sockets:
            stack.enter_context(sock)
        yield sockets


def lease(port: str, *sources: str, name: str = "leases") -> None:
    for source in sources:
        digit = "6" if ":" in source else "4"
        protocol, number = port.split("/")
        nft(f"add element inet knockgate {name}{digit} {{ {source} . {protocol} . {number} timeout 1h }}\n")


def cable() -> Network:
    client = Network()
    veth("near", "far", client)
    up("near", "10.0.0.1/24", "fd00::1/64")
    with client:
        up("far", "10.0.0.2/24", "fd00::2/64")
    return client


def answering(client: Network, port: int = 80) -> None:
    """Neighbours find each other, and the cable carries; until then nothing counts."""

    def both() -> bool:
        with client:
            return all(look(HOST[family], port) == "open" for family in (4, 6))

    until(both, "an open port answers")


def knock(host: str, source: str = "") -> None:
    """tcp/7000, udp/8000, tcp/9000 with real sockets, as fast as they go."""
    family = FAMILY[6 if ":" in host else 4]
    for kind, port in ((socket.SOCK_STREAM, 7000), (socket.SOCK_DGRAM, 8000), (socket.SOCK_STREAM, 9000)):
        with socket.socket(family, kind) as sock:
            if source:
                sock.bind((source, 0))
            sock.setblocking(False)
            if kind == socket.SOCK_DGRAM:
                sock.sendto(b"\0", (host, port))
            else:
                sock.connect_ex((host, port))


def stream(client: Network, source: str, sent: dict[str, int], over: threading.Event) -> None:
    with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        while not over.wait(0.0005):
            sock.sendto(source.encode(), (HOST[4], 5353))
            sent[source] += 1


def drain(server: socket.socket) -> dict[str, int]:
    arrived: dict[str, int] = {}
    with contextlib.suppress(BlockingIOError):
        while True:
            who = server.recv(99).decode()
            arrived[who] = arrived.get(who, 0) + 1
    return arrived
