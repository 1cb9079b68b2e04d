"""Lane E: knockgate's own packet, sealed to the gate and signed with the SSH key that its owner has already.

The door stands in the same gate.toml as those of lanes D and F, since a host has one gate. Who may knock are
the keys in a user's authorized_keys, and a second door has the sshd behind it that reads the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from knockdemo.lanes import Sender, sent
from knockgate.errors import Reason
from knockgate.refusals import reason_in_words

NAME = "E"
MECHANISM = "knockgate, 1 sealed packet"
FIREWALL = "nftables"
PORT = 6504
SSH_PORT: int | None = 6506
ASKS_FOR: str | None = "sealed"
STEPS = 1
UNITS = ("knockdemo-gate-init.service", "knockdemo-gate-daemon.service")
WHY: Mapping[str, str] = {}
SPA_PORT = 62204
CARD = "client.card"
#: Profiles, each for the doors that it asks for.
PROFILE, PROFILE_IPV6, SHELL = "lane-e", "lane-e-ipv6", "shell"


def meet(sender: Sender, hosts: Sequence[str]) -> None:
    """Keep the gate's card. The key is the one that ssh has, and the host knows it already, for sshd."""
    here, over_ipv6 = hosts
    card = str(sender.rc_file.with_name(CARD))
    profiles = (
        (PROFILE, here, ASKS_FOR, PORT),
        (PROFILE_IPV6, over_ipv6, ASKS_FOR, PORT),
        (SHELL, here, "ssh", SSH_PORT),
    )
    for name, host, door, port in profiles:
        to = ["--door", str(door), "--wait", f"tcp/{port}", "--port", f"udp/{SPA_PORT}"]
        sent(sender.run([*sender.gate(0), "trust", name, host, card, *to]), "knockgate trust")


def knock(sender: Sender, host: str, patience: float) -> float | None:
    """One packet with our client, which then tries the port."""
    return _knock(sender, host, patience, 0)


def knock_dated(sender: Sender, host: str, offset: int) -> None:
    """A packet by a clock that is wrong; the client, which knows no better, makes it as always."""
    _knock(sender, host, 0.5, offset)


def last_words(log: str, counted: Mapping[str, int]) -> str | None:
    """Why the gate refused the last packet, if a key of its own has signed it; else what it has counted."""
    told = re.findall(r"a knock of people\S* .*?is refused: (.*?) \(from ", log)
    if told:
        return str(told[-1])
    return "; ".join(f"{name}: {reason_in_words(Reason(name), sealed=True)}" for name in counted) or None


def _knock(sender: Sender, host: str, patience: float, offset: int) -> float | None:
    profile = PROFILE_IPV6 if ":" in host else PROFILE
    command = [*sender.gate(offset), "knock", profile, "--timeout", f"{patience:g}s", "--json"]
    done = sender.run(command)
    # 1 is a door that stayed shut, and then there is a result; Python ends so as well, without one.
    sent(done, "knockgate", also=1 if done.stdout else 0)
    seconds: float | None = json.loads(done.stdout)["wait"]["seconds"]
    return seconds
