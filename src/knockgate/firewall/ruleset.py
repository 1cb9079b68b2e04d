"""Doors and sequences -> the text of the table that guards them, for ``nft -f``.

The text declares what it needs, empties rules and maps, and fills them again, all in one transaction.
So loading twice is loading once, live leases stay, and there is no moment without a guard: deleting
the table first would let packets through in between. It is written as commands, one a line, because
an owned table does not let itself be declared with ``table { }`` again.

The guard has a constant number of rules for any packet, whatever the number of doors:

=============  ===================================================================================
chain          what a packet meets there
=============  ===================================================================================
guard          loopback and sessions under way pass; ports of ours branch off; another new packet of a
               source makes an end of its half-made sequence, and passes
door           not for this host: passes. With a lease, its own or its /64's: passes. The rest is dropped
knock          one step of the automaton (``mechanisms.automaton``), then dropped
quiet          knocks and packets that the daemon listens for: dropped, so that they look like the doors
advance        after a step: remember the new state (``hold_*``), open (``lease_*``)
pace           a source, or who shares its bucket, changes state too often: dropped
=============  ===================================================================================

What the packet path remembers of a source is one element, its state. It lies in ``progress`` for the
whole time of a step or, once that set is full, in ``hurried`` for a second at most: a flood of made-up
sources then takes turns there, and an honest knock still finds room.

Sources: nft(8) of nftables 1.0.6, with which every construct here was tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from knockgate.config.doors import Configuration, RunsIn
from knockgate.errors import ConfigError
from knockgate.mechanisms.automaton import STAY, Automaton, State
from knockgate.mechanisms.sequence import KnockSequence
from knockgate.model import Port, Protocol

__all__ = [
    "BOUNDS",
    "GRACE",
    "GUARD_PRIORITY",
    "LEASE_SETS",
    "OPENED",
    "PACE_BUCKETS",
    "PACE_RATE",
    "TABLE",
    "automaton_of",
    "compile_ruleset",
    "mark_of",
    "pace_burst",
]

TABLE = "knockgate"
#: After connection tracking (-200), so that sessions under way are known; before DNAT (-100), so that a
#: port published by a container is still addressed to this host.
GUARD_PRIORITY = -190
#: By the bytes of a source: (opened by a knock, given by hand or for a packet). Two sets, so that a knock
#: never shortens a longer lease that somebody gave by hand. A network is never knocked for, and has one.
LEASE_SETS: dict[int, tuple[str, ...]] = {
    4: ("leases4", "given4"),
    8: ("networks6",),
    16: ("leases6", "given6"),
}
#: Seconds for which sessions that connection tracking does not know yet may go on after the first load.
GRACE = 60

#: Prefixes of what the kernel reports through its log group: an opening, by the door's protocol ...
OPENED = {f"knockgate open {protocol.name.lower()}": protocol for protocol in Protocol}
#: ... and an exhausted bound, at most one a second each.
BOUNDS = {
    "knockgate crowded": "crowded",
    "knockgate paced": "paced",
    "knockgate leases full": "leases_full",
}

_IN = f"inet {TABLE}"
_FAMILIES = (("ip", "4", "ipv4_addr"), ("ip6", "6", "ipv6_addr"))
#: What of an address is looked up among networks: so these lie in a hash, as addresses do. In a set of
#: intervals 10 000 of them cost each packet that asks twenty times as much.
_FIRST_HALF = "ffff:ffff:ffff:ffff::"
#: Changes of state that a bucket of sources may make. Deleted elements stay in the hash for a while, so
#: one source that goes to and fro would make its bucket ever slower.
PACE_BUCKETS, PACE_RATE, _PACE_BURST = 65536, 10, 12
_SYN_ALONE = "tcp flags & (fin | syn | rst | ack) == syn"
_NO_SYN_ALONE = "tcp flags & (fin | syn | rst | ack) != syn"  # says nothing of UDP, which it does not match
_CHUNK = 256  # elements a command: a line of a text editor's size, not of a book's
_MORE = 1 << 24  # marks beyond all states: further ports that one knock opens
_MAPS = ("ports", "steps", "hold", "grant", "door_port", "more")
_PROGRESS = ("progress4", "progress6", "hurried4", "hurried6")


def automaton_of(configuration: Configuration) -> Automaton:
    """The sequences that the kernel follows; ConfigError where they are too much for it."""
    try:
        return Automaton(
            KnockSequence(door.name, door.sequence.steps, door.sequence.within)
            for door in configuration.kernel_doors()
            if door.sequence
        )
    except ValueError as error:
        hint = 'give some of them runs_in = "daemon"'
        raise ConfigError(str(error), file=configuration.file or None, key="doors", hint=hint) from None


def pace_burst(configuration: Configuration) -> int:
    """How many changes of state a bucket allows at once: more than the longest sequence needs."""
    steps = [len(door.sequence.steps) for door in configuration.kernel_doors() if door.sequence]
    return max(_PACE_BURST, max(steps, default=0) + 2)


def mark_of(configuration: Configuration) -> int:
    """A number of 32 bits that the table carries, so that one can tell which configuration is in force."""
    return int.from_bytes(configuration.checksum[:4])


def compile_ruleset(
    configuration: Configuration, *, stale_chains: Iterable[str] = (), grace: bool = False
) -> str:
    """The whole text. It loads with plain ``nft -f`` where there is no Python.

    ``stale_chains`` are chains that the live table has: those that are not needed any more are deleted.
    With ``grace`` TCP sessions that were there before may go on for ``GRACE`` seconds, although the
    kernel may not know them: for the session that one types on.
    """
    automaton = automaton_of(configuration)
    grants = _Grants(configuration, automaton)
    chains = dict(_chains(configuration, automaton, grants))
    lines = [
        f"add table {_IN}",
        *_sets(configuration),
        *(f"add counter {_IN} {name}" for name in ("shut", "knocked", "opened", "crowded", "paced")),
        *(f"add chain {_IN} {name}" for name in chains if name != "guard"),
        f"add chain {_IN} guard {{ type filter hook prerouting priority {GUARD_PRIORITY}; policy accept; }}",
        f"flush table {_IN}",
        # The numbers of the states mean something else from here on.
        *(f"flush map {_IN} {name}" for name in (*_MAPS, *_PROGRESS)),
        f"flush set {_IN} configuration",
        *(f"delete chain {_IN} {name}" for name in sorted(set(stale_chains) - set(chains))),
        f"add element {_IN} configuration {{ {mark_of(configuration)} }}",
        *_elements("ports", _ports(configuration)),
        *_elements("steps", _steps(automaton)),
        *_elements("hold", _hold(automaton)),
        *_elements("grant", grants.chains()),
        *_elements("door_port", grants.ports()),
        *_elements("more", grants.links()),
        *(f"add rule {_IN} {name} {rule}" for name, rules in chains.items() for rule in rules),
    ]
    if grace:
        lines.append(f"add element {_IN} grace {{ tcp timeout {GRACE}s }}")
    return "\n".join(lines) + "\n"


def _sets(configuration: Configuration) -> Iterator[str]:
    gate = configuration.gate
    for _, digit, kind in _FAMILIES:
        for name in ("leases", "given", "networks") if digit == "6" else ("leases", "given"):
            yield (
                f"add set {_IN} {name}{digit} {{ type {kind} . inet_proto . inet_service; "
                f"size {gate.leases}; flags dynamic,timeout; }}"
            )
        for name, size in (("progress", gate.sources), ("hurried", gate.hurried)):
            yield (
                f"add map {_IN} {name}{digit} {{ type {kind} : mark; size {size}; flags dynamic,timeout; }}"
            )
    yield f"add set {_IN} pace {{ type mark; size {PACE_BUCKETS}; flags dynamic; }}"
    yield f"add set {_IN} configuration {{ type mark; }}"
    yield f"add set {_IN} grace {{ type inet_proto; flags timeout; }}"
    yield f"add map {_IN} ports {{ type inet_proto . inet_service : verdict; }}"
    yield f"add map {_IN} steps {{ type mark . inet_proto . inet_service : mark; }}"
    yield f"add map {_IN} hold {{ type mark : verdict; }}"
    yield f"add map {_IN} grant {{ type mark : verdict; }}"
    yield f"add map {_IN} door_port {{ type mark : inet_service; }}"
    yield f"add map {_IN} more {{ type mark : mark; }}"


# --- elements -----------------------------------------------------------------------------------------


def _ports(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """What branches off: guarded ports, knocks of the kernel's, and the daemon's, which are kept quiet.

    A door without ports only runs commands, as knockd does: its knocks are left as they are.
    """
    kinds: dict[Port, str] = {}
    for door in configuration.doors:
        if door.sequence and door.sequence.runs_in is RunsIn.DAEMON and door.ports:
            kinds |= dict.fromkeys(door.sequence.steps, "quiet")
    for door in configuration.kernel_doors():
        kinds |= dict.fromkeys(door.sequence.steps if door.sequence else (), "knock")
    for packets in (configuration.fwknop, configuration.sealed):
        if packets:
            kinds[packets.port] = "quiet"
    for door in configuration.doors:
        kinds |= dict.fromkeys(door.ports, "door")
    for port, chain in sorted(kinds.items()):
        yield _pair(port), f"goto {chain}"


def _steps(automaton: Automaton) -> Iterator[tuple[str, str]]:
    for (state, port), then in automaton.moves.items():
        yield f"{state} . {_pair(port)}", "0" if then is STAY else str(then)


def _hold(automaton: Automaton) -> Iterator[tuple[str, str]]:
    yield "0", "drop"  # STAY
    for number, state in automaton.states.items():
        yield str(number), f"jump {_hold_chain(state)}"


def _hold_chain(state: State) -> str:
    return f"hold_{_milliseconds(state.within)}"


class _Grants:
    """What each opening state opens: a list of (port, lease), the first under the state's own mark."""

    def __init__(self, configuration: Configuration, automaton: Automaton) -> None:
        doors = {door.name: door for door in configuration.doors}
        self._marks: dict[int, tuple[Port, float]] = {}
        self._links: dict[int, int] = {}
        self.longest = 1
        further = _MORE
        for number, state in automaton.states.items():
            granted = [(port, doors[name].lease) for name in state.opens for port in doors[name].ports]
            self.longest = max(self.longest, len(granted))
            mark = number
            for index, grant in enumerate(granted):
                if index:
                    self._links[mark] = further
                    mark, further = further, further + 1
                self._marks[mark] = grant

    def kinds(self) -> list[tuple[Protocol, float]]:
        """One chain for each of these (protocol, lease)."""
        return sorted({(port.protocol, lease) for port, lease in self._marks.values()})

    def chains(self) -> Iterator[tuple[str, str]]:
        for mark, (port, lease) in self._marks.items():
            yield str(mark), f"jump {_lease_chain(port.protocol, lease)}"

    def ports(self) -> Iterator[tuple[str, str]]:
        for mark, (port, _) in self._marks.items():
            yield str(mark), str(port.number)

    def links(self) -> Iterator[tuple[str, str]]:
        for mark, further in self._links.items():
            yield str(mark), str(further)


def _lease_chain(protocol: Protocol, lease: float) -> str:
    return f"lease_{protocol.name.lower()}_{_milliseconds(lease)}"


def _elements(name: str, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    elements = [f"{key} : {value}" for key, value in pairs]
    for start in range(0, len(elements), _CHUNK):
        yield f"add element {_IN} {name} {{ {', '.join(elements[start : start + _CHUNK])} }}"


# --- rules --------------------------------------------------------------------------------------------


def _chains(
    configuration: Configuration, automaton: Automaton, grants: _Grants
) -> Iterator[tuple[str, Sequence[str]]]:
    """Every chain with its rules; one is named only by those behind it, so it can be read from the end."""
    log = f"log group {configuration.gate.log_group}"
    sequenced = bool(automaton.states)
    yield "forget", _forget()
    yield (
        "pace",
        [f'counter name paced limit rate 1/second burst 1 packets {log} prefix "knockgate paced"', "drop"],
    )
    for within in sorted({state.within for state in automaton.states.values()}):
        yield f"hold_{_milliseconds(within)}", list(_hold_rules(within, pace_burst(configuration), log))
    for protocol, lease in grants.kinds():
        yield _lease_chain(protocol, lease), list(_lease_rules(protocol, lease, log))
    yield "again", ["meta mark vmap @grant"]
    yield (
        "advance",
        [
            "meta mark vmap @hold",
            "meta mark vmap @grant",
            *["meta mark set meta mark map @more jump again"] * (grants.longest - 1),
            "drop",
        ],
    )
    yield "knock", list(_knock_rules())
    yield "quiet", ["fib daddr type != local accept", *_reset(), "counter name knocked drop"]
    yield "door", list(_door_rules())
    yield "guard", list(_guard_rules(configuration, sequenced=sequenced))


def _forget() -> list[str]:
    return [
        f"delete @{name}{digit} {{ {word} saddr : 0 }}"
        for name in ("progress", "hurried")
        for word, digit, _ in _FAMILIES
    ]


def _reset() -> list[str]:
    """Only a packet that opens a connection resets."""
    return ["meta l4proto udp jump forget", f"{_SYN_ALONE} jump forget"]


def _hold_rules(within: float, burst: int, log: str) -> Iterator[str]:
    for word, _, _ in _FAMILIES:
        yield (
            f"update @pace {{ jhash {word} saddr mod {PACE_BUCKETS} "
            f"limit rate over {PACE_RATE}/second burst {burst} packets }} goto pace"
        )
    yield "jump forget"  # an element's state is not overwritten by adding it again
    if within:
        for name, longest in (("progress", within), ("hurried", min(within, 1.0))):
            for word, digit, _ in _FAMILIES:
                timeout = _milliseconds(longest)
                yield f"add @{name}{digit} {{ {word} saddr timeout {timeout} : meta mark }} return"
        yield f'counter name crowded limit rate 1/second burst 1 packets {log} prefix "knockgate crowded"'


def _lease_rules(protocol: Protocol, lease: float, log: str) -> Iterator[str]:
    # The door's port is written into the packet, which is dropped in any case: nft 1.0.6 has no map in
    # the key of a set, and so what is logged names the door.
    yield "th dport set meta mark map @door_port"
    for word, digit, _ in _FAMILIES:
        yield (
            f"update @leases{digit} {{ {word} saddr . {protocol.value} . th dport timeout "
            f"{_milliseconds(lease)} }} counter name opened {log} "
            f'prefix "knockgate open {protocol.name.lower()}" return'
        )
    yield f'limit rate 1/second burst 1 packets {log} prefix "knockgate leases full"'


def _knock_rules() -> Iterator[str]:
    yield "fib daddr type != local accept"
    yield "counter name knocked"
    yield f"{_NO_SYN_ALONE} drop"
    yield "meta mark set 0"
    for name in ("progress", "hurried"):
        for word, digit, _ in _FAMILIES:
            yield f"meta mark set {word} saddr map @{name}{digit}"
    step = "meta mark set meta mark . meta l4proto . th dport map @steps goto advance"
    yield step
    yield "meta mark set 0"  # no such move: as from nowhere
    yield step
    yield "jump forget"
    yield "drop"


def _door_rules() -> Iterator[str]:
    # Before DNAT, so a published port is still addressed to this host; what is only routed is not ours.
    yield "fib daddr type unicast accept"
    yield "meta l4proto @grace tcp flags & (fin | syn | rst | ack) == ack accept"
    yield from _reset()
    for name in ("leases", "given"):
        for word, digit, _ in _FAMILIES:
            yield f"{word} saddr . meta l4proto . th dport @{name}{digit} accept"
    yield f"ip6 saddr & {_FIRST_HALF} . meta l4proto . th dport @networks6 accept"
    yield "counter name shut drop"


def _guard_rules(configuration: Configuration, *, sequenced: bool) -> Iterator[str]:
    if configuration.gate.interface:
        yield f'iifname != "{configuration.gate.interface}" accept'
    yield 'iif "lo" accept'
    # A lone SYN is never part of a session. Connection tracking takes one for established where the server
    # has just reset a session between the same ports, and so a lease would never end.
    yield "meta l4proto != tcp ct state established,related accept"
    yield f"{_NO_SYN_ALONE} ct state established,related accept"
    yield "meta l4proto . th dport vmap @ports"
    if sequenced:
        yield "meta l4proto != { tcp, udp } accept"
        yield f"{_NO_SYN_ALONE} accept"
        for name in ("progress", "hurried"):
            for word, digit, _ in _FAMILIES:
                yield (
                    f"{word} saddr @{name}{digit} fib daddr type local "
                    f"delete @{name}{digit} {{ {word} saddr : 0 }}"
                )


# --- spelling -----------------------------------------------------------------------------------------


def _pair(port: Port) -> str:
    return f"{port.protocol.name.lower()} . {port.number}"


def _milliseconds(seconds: float) -> str:
    """nft's spelling of a time, also used in the names of chains."""
    return f"{round(seconds * 1000)}ms"
