"""Advice on a configuration: what works, and yet lets in more, or fewer, than its admin will think.

Each piece is a claim about what the gate does, not a matter of taste; the tests hold the claims to the
tracker and to the automaton. What makes a file unusable is not here, ``doors`` refuses it.

How a sequence and a scan meet: any opening that is not the next step resets, so a sweep over all ports
opens a sequence only if its ports are neighbours. Packets that repeat a step do not count, so
steps are compared by their *turns*: runs of one port taken as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import groupby, pairwise
from typing import NamedTuple

from knockgate.config.doors import Configuration, Demands, Door, Observed, RunsIn, Sequence
from knockgate.config.readers import Network
from knockgate.config.toml import spell
from knockgate.config.unshut import collapsed
from knockgate.model import Port, Protocol

__all__ = ["Advice", "Stopper", "advise"]

#: Seconds. A client that lost its first SYN sends the next one after 1 s, then after 2 s (RFC 6298).
_SHORT_LEASE, _LONG_LEASE, _LONG_WITHIN = 5, 3600, 60

#: By IP version: whose addresses are the world's, and the fewest bits that a network of somebody's has.
_OF_THE_WORLD = {4: (ip_network("0.0.0.0/0"), 8), 6: (ip_network("2000::/3"), 20)}
#: Beyond 1023, where nearly all are, what scanners try first: the most frequent ports of nmap-services,
#: and those of databases.
_FREQUENT = {
    Protocol.TCP: {1025, 1720, 1723, 3306, 3389, 5432, 5900, 6379, 8080, 8443, 8888},
    Protocol.UDP: {1434, 1701, 1900, 4500, 5060, 5353},
}


@dataclass(frozen=True, slots=True)
class Advice:
    """What is doubtful about a door, and what to do about it."""

    door: str  #: empty where it is about all of them
    message: str
    hint: str

    def __str__(self) -> str:
        return f"door {self.door}: {self.message}" if self.door else self.message


class Stopper(Advice):
    """With which no gate starts, whatever its configuration says."""

    __slots__ = ()


class _Turn(NamedTuple):
    port: Port
    times: int  #: how often in a row


def advise(configuration: Configuration) -> tuple[Advice, ...]:
    """All advice, in the order of the doors. None does not mean that a sequence cannot be guessed."""
    found = [advice for door in configuration.doors for advice in _on_door(door)]
    found += _on_what_is_open(configuration)
    found += _on_demands(configuration)
    found += _on_pairs(configuration.doors)
    found += _on_pauses(configuration.kernel_doors())
    order = {"": -1} | {door.name: number for number, door in enumerate(configuration.doors)}
    return tuple(sorted(found, key=lambda advice: order[advice.door]))


# --- one door -----------------------------------------------------------------------------------------


def _on_door(door: Door) -> Iterator[Advice]:
    if not door.sequence:
        return  # opened by hand, by somebody who sees what they do
    if door.sequence.steps:
        on_order = list(_on_order(door.name, door.sequence.steps))
        yield from on_order or _on_rescans(door.name, door.sequence)
        yield from _on_ports(door, door.sequence)
    yield from _on_times(door, door.sequence)


def _on_order(door: str, steps: tuple[Port, ...]) -> Iterator[Advice]:
    turns = _ports(_turns(steps))
    if len(turns) == 1:
        message = f"{_packets(len(steps))} to {turns[0]} opens it, whoever sends it and whatever for"
        yield Advice(door, message, "three different ports, or more")
        return
    if order := _order(turns):
        hint = "mix tcp and udp"
        if abs(turns[-1].number - turns[0].number) == len(turns) - 1:
            yield Advice(door, f"any port scan in {order} order opens it: the ports are neighbours", hint)
        else:
            message = f"a scan of just these ports in {order} order opens it; with knockd, any {order} one"
            yield Advice(door, message, hint)
    hint = "take a port of its own for each knock"
    for again in dict.fromkeys(turn.port for turn in _turns(steps) if turn.times > 1):
        message = f"{again} follows itself: a packet that is sent again by itself, as TCP does, is a knock"
        yield Advice(door, message, hint)
    for again in dict.fromkeys(port for port in turns if turns.count(port) > 1):
        yield Advice(door, f"{again} comes back later: the fewer ports, the easier to hit by chance", hint)


def _on_rescans(door: str, sequence: Sequence) -> Iterator[Advice]:
    """Knock ports are silent, so a scanner comes back to them alone, with nothing between that resets.

    Measured with nmap 7.93 on a host that answers elsewhere: docs/design.md, limits.
    """
    protocols = {port.protocol.name.lower() for port in sequence.steps}
    if sequence.runs_in is RunsIn.KERNEL and len(protocols) == 1:
        message = (
            f"all knocks are {protocols.pop()}: a port scan comes back to silent ports, and may make these "
            "knocks in this order by chance"
        )
        yield Advice(door, message, "mix tcp and udp: no scanner has been seen to open that")


def _packets(number: int) -> str:
    return "a single packet" if number == 1 else f"the same packet {number} times"


def _order(turns: tuple[Port, ...]) -> str | None:
    if len({port.protocol for port in turns}) > 1:
        return None
    rises = {after.number > before.number for before, after in pairwise(turns)}
    return None if len(rises) > 1 else "ascending" if True in rises else "descending"


def _on_ports(door: Door, sequence: Sequence) -> Iterator[Advice]:
    frequent = [port for port in dict.fromkeys(sequence.steps) if _is_frequent(port)]
    if frequent:
        message = f"every scanner tries {_listed(frequent)}, and makes the knock without meaning to"
        if door.ports:  # else its knocks are left as they are
            message += "; nor can a service be there, for a knock port is silent"
        hint = "take ports that nobody expects anything at, such as 20000 to 32000"
        yield Advice(door.name, message, hint)
    if sequence.runs_in is RunsIn.DAEMON and any(port.protocol is Protocol.UDP for port in sequence.steps):
        message = (
            "with a udp step any datagram of the same source resets its knock, also of a VPN that it "
            "has been using all the time"
        )
        hint = 'take tcp steps, or runs_in = "kernel", which knows what is under way'
        yield Advice(door.name, message, hint)


def _is_frequent(port: Port) -> bool:
    return port.number < 1024 or port.number in _FREQUENT[port.protocol]


def _on_times(door: Door, sequence: Sequence) -> Iterator[Advice]:
    if door.ports and door.lease < _SHORT_LEASE:
        message = (
            f"open for {spell(door.lease)} only: a connection whose first packets are lost comes too late"
        )
        yield Advice(door.name, message, 'lease = "15s"')
    if door.ports and door.lease > _LONG_LEASE:
        message = f"open for {spell(door.lease)} after a knock, to everybody behind the same address"
        yield Advice(door.name, message, 'a short lease, such as "1m", is enough: connections live on')
    if sequence.within > _LONG_WITHIN:
        message = (
            f"half a knock is remembered for {spell(sequence.within)}: strangers fill that memory the sooner"
        )
        yield Advice(door.name, message, 'within = "5s" is enough for a client that knocks by itself')


def _on_demands(configuration: Configuration) -> Iterator[Advice]:
    for door in configuration.doors:
        if door.sealed != Demands() and not (configuration.sealed and door.keyed):
            message = "what it demands of sealed packets concerns nobody: no key with ssh opens it"
            yield Advice(
                door.name, message, "name it in the doors of such a key, or take its sealed table out"
            )
        elif door.sealed.observed is Observed.ALWAYS:
            message = (
                "takes sealed packets that name no address also while the gate does not know the time: who "
                "has held one back comes in with it at any time later"
            )
            yield Advice(door.name, message, 'observed = "clock", or let clients name their address')


def _on_what_is_open(configuration: Configuration) -> Iterator[Advice]:
    gate = configuration.gate
    hint = "`knockgate status` says who would be kept out; take shadow away to shut it"
    if gate.shadow:
        yield Advice("", "NOTHING IS SHUT: shadow = true in [gate], and everybody comes in", hint)
    yield from _on_networks("", gate.allow, "all doors")
    for door in configuration.doors:
        if door.shadow and not gate.shadow:
            yield Advice(door.name, "IS NOT SHUT: it has shadow = true, and everybody comes in", hint)
        yield from _on_networks(door.name, door.allow, "it")


def _on_networks(door: str, networks: tuple[Network, ...], what: str) -> Iterator[Advice]:
    hint = "allow the networks from which you get in when all else fails, and no more"
    for version, (world, bits) in _OF_THE_WORLD.items():
        for network in collapsed(networks, version):
            everybody = f"EVERYBODY comes in through {what} over IPv{version}: allow has {network}"
            share = f"one in {2**network.prefixlen} of all IPv{version} addresses comes in without a knock"
            if not network.prefixlen:
                yield Advice(door, everybody, hint)
            elif network.prefixlen < bits and network.overlaps(world):
                yield Advice(door, f"{share}: allow has {network}", hint)


# --- doors together -----------------------------------------------------------------------------------


def _on_pairs(doors: Iterable[Door]) -> Iterator[Advice]:
    """Which knocks open another door besides."""
    firsts: dict[object, tuple[Door, Sequence]] = {}
    for door, sequence in _knocked(doors):
        first, _ = firsts.setdefault((_heard(sequence), sequence.steps), (door, sequence))
        if first is not door:
            hint = "make one door of both, with the ports of both, or give it another sequence"
            yield Advice(door.name, f"has the sequence of door {first.name}: one knock opens both", hint)
    alike: dict[object, list[tuple[Door, list[_Turn]]]] = {}
    for door, sequence in firsts.values():
        turns = _turns(sequence.steps)
        alike.setdefault((_heard(sequence), _ports(turns)), []).append((door, turns))
    for door, sequence in firsts.values():
        if contained := _contained(door, sequence, alike):
            message = f"knocking at it opens {_listed(contained)} as well, whose whole sequence it contains"
            yield Advice(door.name, message, "change one of its steps")


def _contained(
    door: Door, sequence: Sequence, alike: dict[object, list[tuple[Door, list[_Turn]]]]
) -> list[str]:
    turns = _turns(sequence.steps)
    found: dict[str, None] = {}
    for start in range(len(turns)):
        for end in range(start + 1, len(turns) + 1):
            part = turns[start:end]
            for other, needed in alike.get((_heard(sequence), _ports(part)), ()):
                enough = all(have.times >= need.times for have, need in zip(part, needed, strict=True))
                if enough and other is not door:
                    found[f"door {other.name}"] = None
    return list(found)


def _heard(sequence: Sequence) -> object:
    """What of the packets counts; sequences for which this differs do not meet."""
    return sequence.flags, sequence.target


def _on_pauses(doors: Iterable[Door]) -> Iterator[Advice]:
    """The kernel remembers one time a source, so sequences that begin alike have the longest of theirs."""
    pausing = [(door, sequence) for door, sequence in _knocked(doors) if len(sequence.steps) > 1]
    longest: dict[Port, tuple[Door, str]] = {}
    for door, sequence in sorted(pausing, key=lambda each: each[1].within):
        longest[sequence.steps[0]] = (door, spell(sequence.within))
    for door, sequence in pausing:
        other, within = longest[sequence.steps[0]]
        if within != spell(sequence.within):
            message = f"begins as door {other.name} does, so the kernel waits for {within} here too"
            yield Advice(door.name, message, f'begin with another port, or say within = "{within}"')


def _knocked(doors: Iterable[Door]) -> Iterator[tuple[Door, Sequence]]:
    for door in doors:
        if door.sequence and door.sequence.steps:
            yield door, door.sequence


# --- steps --------------------------------------------------------------------------------------------


def _turns(steps: tuple[Port, ...]) -> list[_Turn]:
    return [_Turn(port, len(list(run))) for port, run in groupby(steps)]


def _ports(turns: list[_Turn]) -> tuple[Port, ...]:
    return tuple(turn.port for turn in turns)


def _listed(things: Iterable[object]) -> str:
    *most, last = map(str, things)
    return f"{', '.join(most)} and {last}" if most else last
