"""Lane B: knockd over iptables; knockd's own children take the rules away again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knockdemo.lanes import Sender, knock_ports

NAME = "B"
MECHANISM = "knockd, 3 SYNs"
FIREWALL = "iptables"
PORT = 6501
SSH_PORT: int | None = None
ASKS_FOR: str | None = None
KNOCKS = (7100, 7200, 7300)
STEPS = len(KNOCKS)
UNITS = ("demo-firewall-base.service", "knockd.service")
WHY: Mapping[str, str] = {
    "stale_opens": "a sequence carries no time",
    "future_opens": "a sequence carries no time",
    "closes_without_daemon": "the child that would close it was killed too, as systemd does",
}


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Nothing: whoever knows the ports can knock."""


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """Three SYNs with our client, which then waits for the port."""
    return knock_ports(sender, host, KNOCKS, PORT, patience)


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """There is nothing in a SYN to date."""
    raise NotImplementedError(WHY["stale_opens"])


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """Its command's complaint, such as iptables' about an address it cannot take."""
    lines = [line.strip() for line in log.splitlines()]
    words = [line for line in lines if "iptables" in line and ("not found" in line or "rror" in line)]
    # Without them, at least that knockd heard the knock and ran its command.
    words = words or [line for line in lines if "command returned non-zero" in line]
    return words[-1] if words else None
