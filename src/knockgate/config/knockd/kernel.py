"""What a door of knockd.conf looks like once the kernel itself follows its sequence and opens its ports.

That is possible where its commands do nothing but to open ports for the source, and to shut them again:
in one door (Start_Command and Stop_Command) or in a pair of doors (openSSH and closeSSH).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knockgate.config.doors import Door
from knockgate.config.knockd.rules import Opening, opening_of
from knockgate.config.toml import spell
from knockgate.config.writing import listed, quoted, table
from knockgate.model import Port, TcpFlag

__all__ = ["Advice", "advise"]

_PAIR_LEASE = 3600.0
"""Seconds. Where knockd leaves the port open until it is shut by another knock; sessions live on."""
_LONGEST_PAUSE = 3600.0  # what config.doors takes for the kernel, seconds


@dataclass(frozen=True, slots=True)
class Advice:
    """For a person: ``words`` say why or why not, ``lines`` are gate.toml, or none."""

    words: str
    lines: tuple[str, ...] = ()


def advise(doors: Sequence[Door]) -> dict[str, Advice]:
    """For each door that opens or shuts a port in a way that is understood: what to do about it."""
    openings = {door.name: found for door in doors if (found := _opening(door))}
    advice: dict[str, Advice] = {}
    taken: dict[Port, str] = {}
    for door in doors:
        found = openings.get(door.name)
        if found is None:
            continue
        partners = [name for name, other in openings.items() if other == (found.ports, not found.shuts)]
        ports = " and ".join(str(port) for port in found.ports)
        reason = _obstacle(door, found, doors)
        if found.shuts:
            if partners:
                words = (
                    f"this door shuts {ports}, which {partners[0]} opens; as a door of the kernel that one"
                )
                advice[door.name] = Advice(f"{words} shuts by itself, and this one is not needed.")
        elif clash := next((taken[port] for port in found.ports if port in taken), None):
            words = f"{ports} is offered to {clash} above; a port has one door, and a door one knock."
            advice[door.name] = Advice(words)
        elif reason:
            advice[door.name] = Advice(f"this door opens {ports}, but {reason}.")
        else:
            taken |= dict.fromkeys(found.ports, door.name)
            advice[door.name] = _door_of_the_kernel(door, found.ports, ports, partners)
    return advice


def _opening(door: Door) -> Opening | None:
    """What all commands of the door together do, if that is one thing."""
    commands = door.commands
    if not commands or not commands.open:
        return None
    found = opening_of(commands.open[0])
    undone = Opening(found.ports, not found.shuts) if found else None
    expected = ((commands.open6, found), (commands.close, undone), (commands.close6, undone))
    if any(command and opening_of(command[0]) != wanted for command, wanted in expected):
        return None
    return found


def _obstacle(door: Door, found: Opening, doors: Sequence[Door]) -> str:
    """Why the kernel cannot follow this sequence; empty where it can."""
    sequence = door.sequence
    if sequence is None or sequence.one_time:
        return "only the daemon knows one-time sequences"
    if sequence.target:
        return "only the daemon listens for another host's address (Target)"
    flags = sequence.flags
    if flags and (flags.wanted & ~TcpFlag.SYN or flags.unwanted & TcpFlag.SYN):
        return "a knock of the kernel is a SYN alone, which these TCPFlags are not"
    for other in doors:
        if other.sequence and (both := set(found.ports) & set(other.sequence.steps)):
            return f"{min(both)} is a knock of {other.name} at the same time"
    return ""


def _door_of_the_kernel(door: Door, ports: tuple[Port, ...], said: str, partners: list[str]) -> Advice:
    sequence = door.sequence
    assert sequence is not None  # noqa: S101 - a door of knockd.conf has one
    closes = bool(door.commands and (door.commands.close or door.commands.close6))
    words = (
        f"let the kernel do it. All that this door does is to open {said}; with these lines in its place no "
        "daemon is needed, the very next packet is let in, and nothing stays open if something dies. "
        f"The gate shuts {said} by itself: take away the rule of your firewall that does it now."
    )
    if partners and not closes:
        words += f" It shuts when the lease ends and {partners[0]} is not needed; connections live on."
    elif not closes:
        words += " It shuts when the lease ends, where knockd leaves it open for ever; connections live on."
    lease = max(1.0, door.lease) if closes else _PAIR_LEASE
    return Advice(
        words,
        (
            table("doors", door.name),
            f"ports = {listed(ports)}",
            f"lease = {quoted(spell(lease))}",
            "",
            table("doors", door.name, "sequence"),
            f"steps = {listed(sequence.steps)}",
            f"within = {quoted(spell(min(sequence.within, _LONGEST_PAUSE)))}",
        ),
    )
