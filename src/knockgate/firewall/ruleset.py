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
door, shadow   not for this host: passes. With a lease, or always let in: passes. The rest is dropped or, in
               shadow, counted (``doorway``)
knock          one step of the automaton (``mechanisms.automaton``), then dropped
quiet          knocks and packets that the daemon listens for: dropped, so that they look like the doors
               (with ``gate.shadow`` nothing is dropped at all: what knocks passes, in the form that it had)
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

from knockgate.config.doors import Configuration
from knockgate.errors import ConfigError
from knockgate.firewall import doorway
from knockgate.firewall.doorway import FAMILIES, NO_SYN_ALONE, forget, reset
from knockgate.firewall.names import TABLE, mark_of
from knockgate.mechanisms.automaton import NOWHERE, STAY, Automaton, State
from knockgate.mechanisms.knocks import KnockSequence
from knockgate.model import Port, Protocol

__all__ = [
    "GRACE",
    "GUARD_PRIORITY",
    "PACE_BUCKETS",
    "PACE_RATE",
    "automaton_of",
    "compile_ruleset",
    "pace_burst",
]

#: After connection tracking (-200), so that sessions under way are known; before DNAT (-100), so that a
#: port published by a container is still addressed to this host.
GUARD_PRIORITY = -190
#: Seconds for which sessions that connection tracking does not know yet may go on after the first load.
GRACE = 60

_IN = f"inet {TABLE}"
#: Changes of state that a bucket of sources may make. Deleted elements stay in the hash for a while, so
#: one source that goes to and fro would make its bucket ever slower.
PACE_BUCKETS, PACE_RATE, _PACE_BURST = 65536, 10, 12
_CHUNK = 256  # elements a command: a line of a text editor's size, not of a book's
_MORE = 1 << 24  # marks beyond all states: further ports that one knock opens
_MAPS = ("ports", "steps", "hold", "grant", "door_port", "more", "knock_port")
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
        *(f"flush set {_IN} {name}" for name in ("configuration", *doorway.emptied(configuration))),
        *(f"delete chain {_IN} {name}" for name in sorted(set(stale_chains) - set(chains))),
        f"add element {_IN} configuration {{ {mark_of(configuration)} }}",
        *_elements("ports", _ports(configuration)),
        *_elements("steps", _steps(automaton)),
        *_elements("hold", _hold(automaton, _silence(configuration))),
        *_elements("grant", grants.chains()),
        *_elements("door_port", grants.ports()),
        *_elements("more", grants.links()),
        *_elements("knock_port", grants.knocks() if configuration.gate.shadow else ()),
        *(line for name, found in doorway.elements(configuration) for line in _listed(name, found)),
        *(f"add rule {_IN} {name} {rule}" for name, rules in chains.items() for rule in rules),
    ]
    if grace:
        lines.append(f"add element {_IN} grace {{ tcp timeout {GRACE}s }}")
    return "\n".join(lines) + "\n"


def _sets(configuration: Configuration) -> Iterator[str]:
    gate = configuration.gate
    for _, digit, kind in FAMILIES:
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
    yield f"add map {_IN} knock_port {{ type mark : inet_service; }}"
    yield from (f"add set {_IN} {name} {{ {what} }}" for name, what in doorway.sets(configuration))


# --- elements -----------------------------------------------------------------------------------------


def _ports(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """What branches off: guarded ports, knocks of the kernel's, and the daemon's, which are kept quiet."""
    kinds = dict.fromkeys(configuration.quiet_ports(), "quiet")
    for door in configuration.kernel_doors():
        kinds |= dict.fromkeys(door.sequence.steps if door.sequence else (), "knock")
    for number, door in enumerate(configuration.doors):
        kinds |= dict.fromkeys(door.ports, doorway.chain_of(configuration, number))
    for port, chain in sorted(kinds.items()):
        yield _pair(port), f"goto {chain}"


def _steps(automaton: Automaton) -> Iterator[tuple[str, str]]:
    for (state, port), then in automaton.moves.items():
        yield f"{state} . {_pair(port)}", "0" if then == STAY else str(then)


def _hold(automaton: Automaton, silence: str) -> Iterator[tuple[str, str]]:
    yield "0", silence  # STAY
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
        self._knocks: dict[int, Port] = {}
        self.longest = 1
        # All moves into a state are by the same knock, the last of what it stands for.
        knocks = {then: port for (_, port), then in automaton.moves.items() if then not in (STAY, NOWHERE)}
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
            if granted:
                self._knocks[mark] = knocks[number]

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

    def knocks(self) -> Iterator[tuple[str, str]]:
        """The port that was knocked at, by the mark with which all has been opened."""
        for mark, port in self._knocks.items():
            yield str(mark), str(port.number)


def _lease_chain(protocol: Protocol, lease: float) -> str:
    return f"lease_{protocol.name.lower()}_{_milliseconds(lease)}"


def _elements(name: str, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from _listed(name, [f"{key} : {value}" for key, value in pairs])


def _listed(name: str, elements: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(elements), _CHUNK):
        yield f"add element {_IN} {name} {{ {', '.join(elements[start : start + _CHUNK])} }}"


# --- rules --------------------------------------------------------------------------------------------


def _chains(
    configuration: Configuration, automaton: Automaton, grants: _Grants
) -> Iterator[tuple[str, Sequence[str]]]:
    """Every chain with its rules; one is named only by those behind it, so it can be read from the end."""
    log = f"log group {configuration.gate.log_group}"
    sequenced = bool(automaton.states)
    silence = _silence(configuration)
    yield "forget", forget()
    yield (
        "pace",
        [
            f'counter name paced limit rate 1/second burst 1 packets {log} prefix "knockgate paced"',
            *_unmarked(silence),
        ],
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
            *(["th dport set meta mark map @knock_port"] if configuration.gate.shadow else ()),
            *_unmarked(silence),
        ],
    )
    yield "knock", list(_knock_rules(silence))
    yield "quiet", ["fib daddr type != local accept", *reset(), f"counter name knocked {silence}"]
    yield from doorway.chains(configuration)
    yield "guard", list(_guard_rules(configuration, sequenced=sequenced))


def _silence(configuration: Configuration) -> str:
    """What becomes of knocks."""
    return "accept" if configuration.gate.shadow else "drop"


def _unmarked(verdict: str) -> list[str]:
    """The verdict on a packet that bears a mark of ours, which nobody else is to see."""
    return ["drop"] if verdict == "drop" else ["meta mark set 0", verdict]


def _hold_rules(within: float, burst: int, log: str) -> Iterator[str]:
    for word, _, _ in FAMILIES:
        yield (
            f"update @pace {{ jhash {word} saddr mod {PACE_BUCKETS} "
            f"limit rate over {PACE_RATE}/second burst {burst} packets }} goto pace"
        )
    yield "jump forget"  # an element's state is not overwritten by adding it again
    if within:
        for name, longest in (("progress", within), ("hurried", min(within, 1.0))):
            for word, digit, _ in FAMILIES:
                timeout = _milliseconds(longest)
                yield f"add @{name}{digit} {{ {word} saddr timeout {timeout} : meta mark }} return"
        yield f'counter name crowded limit rate 1/second burst 1 packets {log} prefix "knockgate crowded"'


def _lease_rules(protocol: Protocol, lease: float, log: str) -> Iterator[str]:
    # The door's port is written into the packet, which is dropped, or gets its own back: nft 1.0.6 has no
    # map in the key of a set, and so what is logged names the door.
    yield "th dport set meta mark map @door_port"
    for word, digit, _ in FAMILIES:
        yield (
            f"update @leases{digit} {{ {word} saddr . {protocol.value} . th dport timeout "
            f"{_milliseconds(lease)} }} counter name opened {log} "
            f'prefix "knockgate open {protocol.name.lower()}" return'
        )
    yield f'limit rate 1/second burst 1 packets {log} prefix "knockgate leases full"'


def _knock_rules(silence: str) -> Iterator[str]:
    yield "fib daddr type != local accept"
    yield "counter name knocked"
    yield f"{NO_SYN_ALONE} {silence}"
    yield "meta mark set 0"
    for name in ("progress", "hurried"):
        for word, digit, _ in FAMILIES:
            yield f"meta mark set {word} saddr map @{name}{digit}"
    step = "meta mark set meta mark . meta l4proto . th dport map @steps goto advance"
    yield step
    yield "meta mark set 0"  # no such move: as from nowhere
    yield step
    yield "jump forget"
    yield silence


def _guard_rules(configuration: Configuration, *, sequenced: bool) -> Iterator[str]:
    if configuration.gate.interface:
        yield f'iifname != "{configuration.gate.interface}" accept'
    yield 'iif "lo" accept'
    # A lone SYN is never part of a session. Connection tracking takes one for established where the server
    # has just reset a session between the same ports, and so a lease would never end.
    yield "meta l4proto != tcp ct state established,related accept"
    yield f"{NO_SYN_ALONE} ct state established,related accept"
    yield "meta l4proto . th dport vmap @ports"
    if sequenced:
        yield "meta l4proto != { tcp, udp } accept"
        yield f"{NO_SYN_ALONE} accept"
        for name in ("progress", "hurried"):
            for word, digit, _ in FAMILIES:
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
