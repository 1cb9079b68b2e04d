"""Lane A: our own daemon over nftables; the kernel expires who was let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knockdemo.config import Config
from knockdemo.lanes import Sender, knock_ports

NAME = "A"
MECHANISM = "our daemon, 3 SYNs"
FIREWALL = "nftables"
PORT = Config().service_port
SSH_PORT: int | None = None
ASKS_FOR: str | None = None
STEPS = len(Config().sequence)
UNITS = ("knock-demo.service",)
WHY: Mapping[str, str] = {
    "stale_opens": "a sequence carries no time",
    "future_opens": "a sequence carries no time",
}


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Nothing: whoever knows the ports can knock."""


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """Three SYNs with our client, which then waits for the port."""
    return knock_ports(sender, host, Config().sequence, PORT, patience)


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """There is nothing in a SYN to date."""
    raise NotImplementedError(WHY["stale_opens"])


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """It counts what it turns away and says nothing about it."""
    return None
