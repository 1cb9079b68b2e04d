"""Knocks in letters, for a tracker."""

from __future__ import annotations

from tests.packets import raw

from knockgate.effects import PacketSeen
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Observation, Port, Protocol, Source, TcpFlag

TCP, UDP = Protocol.TCP, Protocol.UDP
HOST = raw("10.0.0.1")
CLIENT, OTHER, CLIENT6 = raw("10.0.0.2"), raw("10.0.0.3"), raw("fd00::2")
DOOR = "ssh"

# The tutorial's knock, shortened to letters.
LETTERS = {"a": 7000, "b": 8000, "c": 9000, "x": 7500}


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(TCP, number) for number in numbers)


def knock(letters: str, *, door: str = DOOR, within: float = 5) -> KnockSequence:
    return KnockSequence(door, tcp(*(LETTERS[letter] for letter in letters)), within)


def packet(
    port: int, source: Source = CLIENT, *, protocol: int = TCP, flags: int = TcpFlag.SYN
) -> PacketSeen:
    return PacketSeen(Observation(source, HOST, protocol, 40000, port, 0 if protocol == UDP else flags, 40))


def opened(
    tracker: KnockTracker, letters: str, *, source: Source = CLIENT, start: float = 0.0, apart: float = 0.1
) -> list[int]:
    """Make the knocks one after the other; which of them, counted from 1, opened a door."""
    return [
        number
        for number, letter in enumerate(letters, 1)
        if tracker.feed(packet(LETTERS[letter], source), start + apart * (number - 1))
    ]


def numbered(number: int) -> Source:
    return number.to_bytes(4, "big")
