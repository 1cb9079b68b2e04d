"""The lanes: one file a lane, the same names in each, so that they can be compared line by line.

=================  =========================================================================
``NAME``           A, B, C, D, E or F
``MECHANISM``      what knocks, in a few words
``FIREWALL``       what the mechanism drives
``PORT``           the TCP port that the lane guards
``SSH_PORT``       the port of a second door, which has an sshd behind it; None where there is none
``ASKS_FOR``       what a packet calls the door; None for sequences, which have no word for it
``STEPS``          how many packets a knock has
``UNITS``          the units to start, in order; the last one is the lane's daemon, or loads its rules
``WHY``            why a question cannot be asked of this lane: cell -> reason
``meet``           what a client does once, before it knocks for the first time
``knock``          send the lane's knock to a host; tell how long until the door opened
``knock_dated``    the same with a wrong clock; None where a knock carries no time
``last_words``     what the daemon said about the last knock it turned away
=================  =========================================================================

Lanes never import each other.
"""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from knockgate.errors import ConfigError, Unavailable

__all__ = ["INSTALLED", "NAMES", "Lane", "Sender", "choose", "knock_ports", "sent"]

NAMES = ("A", "B", "C", "D", "E", "F")
#: Those that ``knockdemo install`` sets up and ``knockdemo tour`` walks by; the others are in the lab alone.
INSTALLED = NAMES[:3]


@dataclass(frozen=True, slots=True)
class Sender:
    """A place to knock from."""

    address: str
    """Our address as the host sees it."""

    run: Callable[[Sequence[str]], subprocess.CompletedProcess[str]]
    """Runs a command there; its output is text."""

    wait_open: Callable[[str, int, float], float | None]
    """Host, TCP port, seconds to wait -> seconds until it answered, None if it did not."""

    client: Sequence[str]
    """The knock client as a command."""

    rc_file: Path
    """fwknop's client stanza ``[knockdemo]`` with the keys; the gate's files lie beside it."""

    gate: Callable[[int], Sequence[str]] = lambda offset: ("knockgate",)  # noqa: ARG005 - by the right clock
    """``knockgate`` as a command, by a clock that is so many seconds ahead (negative: behind)."""


class Lane(Protocol):
    """What every lane module offers; see the package's docstring."""

    NAME: str
    MECHANISM: str
    FIREWALL: str
    PORT: int
    SSH_PORT: int | None
    ASKS_FOR: str | None
    STEPS: int
    UNITS: tuple[str, ...]
    WHY: Mapping[str, str]

    def meet(self, sender: Sender, hosts: Sequence[str]) -> None:
        """Whatever must be done at the client before the first knock.

        ``hosts`` is one host: its IPv4 address, then its IPv6 one. The gate runs by then.
        """

    def knock(self, sender: Sender, host: str, patience: float) -> float | None:
        """Knock, then wait for the door, ``patience`` seconds at most.

        Returns the seconds until it answered, or None if it did not. Raises Unavailable with the
        client's words when the knock was not sent at all.
        """

    def knock_dated(self, sender: Sender, host: str, offset: int) -> None:
        """Send a fresh knock that says it is ``offset`` seconds later (negative: earlier) than now."""

    def last_words(self, log: str, counted: Mapping[str, int]) -> str | None:
        """The daemon's own reason, out of its log or of what it has counted; None where it gave none.

        ``counted``: sealed packets that a gate has refused, by reason. It logs those alone that a key of its
        own has signed.
        """


def choose(names: str, among: Sequence[str] = NAMES) -> list[Lane]:
    """``"A,C"`` -> the lanes' modules; raises ConfigError for a name that is none of ``among``."""
    wanted = [name.strip().upper() for name in names.split(",")]
    for name in wanted:
        if name not in among:
            raise ConfigError(f"no lane {name or '(empty)'}", hint=f"the lanes are {', '.join(among)}")
    modules: list[ModuleType] = [
        importlib.import_module(f"knockdemo.lanes.{name.lower()}") for name in NAMES if name in wanted
    ]
    return modules  # type: ignore[return-value]  # a module is a Lane if its file says so; tests look


def sent(done: subprocess.CompletedProcess[str], program: str, also: int = 0) -> None:
    """Raise Unavailable unless ``program`` ended with 0 (or ``also``): it may have sent nothing."""
    if done.returncode not in (0, also):
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{program} sent nothing: {words[0] if words else f'status {done.returncode}'}")


def knock_ports(
    sender: Sender, host: str, knocks: Sequence[int | str], port: int, patience: float, *options: str
) -> float | None:
    """A sequence with our client, which then waits for ``port`` as ``Lane.knock`` says.

    ``knocks``: as the client takes them, ``7000`` being a SYN and ``7500/udp`` a datagram.
    """
    check = ["--check", str(port), "--timeout", f"{patience:g}", "--json"]
    done = sender.run([*sender.client, host, *map(str, knocks), *check, *options])
    sent(done, "knock-client", also=1)
    result = json.loads(done.stdout)["check"]
    return result["ms"] / 1000 if result["open"] else None
