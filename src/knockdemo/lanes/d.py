"""Lane D: knockgate's table. The kernel follows the sequence, opens and closes; no process of it runs.

Its knock ports are silent, so a scanner tries them again at the end of its sweep: them alone, one after
the other. Three SYNs would then come in the right order by chance, or by a scanner's habit always (nmap
goes backwards). Hence the datagram in the middle, which no sweep over TCP ports sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knockdemo.lanes import Sender, knock_ports

NAME = "D"
MECHANISM = "knockgate in the kernel, 3 knocks"
FIREWALL = "nftables"
PORT = 6503
SSH_PORT: int | None = None
ASKS_FOR: str | None = None
KNOCKS = ("7400", "7500/udp", "7600")
STEPS = len(KNOCKS)
UNITS = ("knockdemo-gate.service",)
WHY: Mapping[str, str] = {
    "stale_opens": "a sequence carries no time",
    "future_opens": "a sequence carries no time",
}


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Nothing: whoever knows the ports can knock."""


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """Three packets with our client, which then tries the port.

    Where a knock is not answered, the client waits for one delay before it tries. On the lab's wire
    nothing overtakes, so there is none: what is left of the time is the mechanism's.
    """
    return knock_ports(sender, host, KNOCKS, PORT, patience, "--delay", "0")


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """There is nothing in a SYN to date."""
    raise NotImplementedError(WHY["stale_opens"])


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """Rules have nothing to say."""
    return None
