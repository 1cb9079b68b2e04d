"""Lane C: fwknop, one encrypted and authenticated UDP packet, over iptables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from knockdemo.lanes import Sender, sent

NAME = "C"
MECHANISM = "fwknop, 1 SPA packet"
FIREWALL = "iptables"
PORT = 6502
SSH_PORT: int | None = None
ASKS_FOR: str | None = "tcp/6502"
STEPS = 1
UNITS = ("demo-firewall-base.service", "fwknopd.service")
WHY: Mapping[str, str] = {
    "open_for_s": "it counts in whole seconds of the clock",
    "closes_without_daemon": "its rule stays until its next start",
}
SPA_PORT = 62201


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Nothing here: the two secrets were made by who set up the host, and carried over."""


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """One packet with fwknop's client, then wait for the port."""
    _send(sender, host)
    return sender.wait_open(host, PORT, patience)


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """A packet made now that carries another time."""
    sign = "minus" if offset < 0 else "plus"
    _send(sender, host, f"--time-offset-{sign}", f"{abs(offset)}s")


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """The last line in which fwknopd says why a packet was not good enough."""
    told = re.findall(
        r"^.*?((?:SPA (?:packet|data)|Replay detected|[Pp]acket .*(?:old|future)).*)$", log, re.MULTILINE
    )
    # Of a replay it goes on to tell both packets' addresses and ports.
    return str(told[-1]).split(", ")[0].strip() if told else None


def _send(sender: Sender, host: str, *options: str) -> None:
    # The keys stand in the file, never in the command; and fwknop would write its arguments, keys
    # included, into the home directory without --no-save-args.
    command = ["fwknop", "--rc-file", str(sender.rc_file), "-n", "knockdemo", "--no-save-args"]
    sent(sender.run([*command, "-a", sender.address, "-D", host, *options]), "fwknop")
