"""Lane F: knockgate's daemon takes the packet of fwknop's client; the kernel closes. No fwknopd runs for it.

The door stands in the same gate.toml as those of lanes D and E, since a host has one gate. It comes with the
packet's port: fwknopd has its own on this host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from knockdemo.lanes import Sender, sent
from knockgate.errors import Unavailable

NAME = "F"
MECHANISM = "knockgate, 1 fwknop packet"
FIREWALL = "nftables"
PORT = 6505
SSH_PORT: int | None = None
ASKS_FOR: str | None = "tcp/6505"
STEPS = 1
# The gate that takes lane E's packets too, and does not start without its keys.
UNITS = ("knockdemo-gate-init.service", "knockdemo-gate-daemon.service")
WHY: Mapping[str, str] = {}
SPA_PORT = 62205
RC_FILE = "gate.fwknoprc"


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Nothing here: the two secrets were made by who set up the host, and carried over."""


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """One packet with fwknop's client, then wait for the port."""
    try:
        _send(sender, host)
    except Unavailable as error:
        if ":" not in host:
            raise
        raise Unavailable(f"{error}; it is the client that cannot: the gate takes IPv6") from None
    return sender.wait_open(host, PORT, patience)


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """A packet made now that carries another time."""
    sign = "minus" if offset < 0 else "plus"
    _send(sender, host, f"--time-offset-{sign}", f"{abs(offset)}s")


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """Why the gate refused the last packet that one of its keys had made."""
    told = re.findall(r"a knock of client is refused: (.*?)(?: \(from .*)?$", log, re.MULTILINE)
    return str(told[-1]) if told else None


def _send(sender: Sender, host: str, *options: str) -> None:
    # The keys stand in the file, never in the command; and fwknop would write its arguments, keys
    # included, into the home directory without --no-save-args.
    rc_file = sender.rc_file.with_name(RC_FILE)
    command = ["fwknop", "--rc-file", str(rc_file), "-n", "knockgate", "--no-save-args"]
    sent(sender.run([*command, "-a", sender.address, "-D", host, *options]), "fwknop")
