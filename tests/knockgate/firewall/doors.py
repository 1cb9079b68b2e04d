"""A host with two doors that may let in more than who has knocked, and a client with two addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.knockgate.firewall.guarded import (
    CLIENT,
    HOST,
    answering,
    cable,
    listening,
    look,
)
from tests.netns import until, up

from knockgate.config.doors import Configuration, parse
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Port, Protocol

SSH, DNS, WEB = Port(Protocol.TCP, 22), Port(Protocol.UDP, 5353), Port(Protocol.TCP, 8080)
DOORS = """
[doors.ssh]
ports = ["tcp/22", "udp/5353"]
lease = "1h"
{of_ssh}
sequence = {{ steps = ["tcp/7000", "udp/8000", "tcp/9000"], within = "5s" }}
[doors.web]
ports = ["tcp/8080"]
{of_web}
"""
#: Beside 10.0.0.2 and fd00::2, which ``cable`` gives the client.
OTHER = {4: "10.0.0.66", 6: "fd00::66"}


def gate(of_gate: str = "", of_ssh: str = "", of_web: str = "") -> Configuration:
    return parse(f"[gate]\n{of_gate}\n" + DOORS.format(of_ssh=of_ssh, of_web=of_web))


def load(firewall: Nftables, configuration: Configuration) -> None:
    firewall.load(compile_ruleset(configuration, stale_chains=firewall.chains()))


class Client:
    """Somebody with two addresses of each family."""

    def __init__(self) -> None:
        self.network = cable()
        with self.network:
            up("far", f"{OTHER[4]}/24", f"{OTHER[6]}/64")
        answering(self.network)
        for family in (4, 6):
            until(lambda: self.seen(80, OTHER[family]) == "open", "the other address as well")  # noqa: B023

    def seen(self, port: int, source: str) -> str:
        with self.network:
            return look(HOST[6 if ":" in source else 4], port, source=source)

    def all_seen(self, port: int) -> list[str]:
        """From 10.0.0.2, 10.0.0.66, fd00::2 and fd00::66."""
        return [self.seen(port, whose[family]) for family in (4, 6) for whose in (CLIENT, OTHER)]


@contextlib.contextmanager
def stage(*ports: int) -> Iterator[tuple[Client, Nftables]]:
    with listening(22, 80, *ports), Nftables() as firewall:
        yield Client(), firewall
