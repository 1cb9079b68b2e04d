"""All sequences as one deterministic automaton, for whoever can remember one number a source.

The tracker (``mechanisms.sequence``) remembers of each source the set of prefixes that its last
packets spell. There are few such sets that can ever come about, so each gets a number, a *state*, and
what a packet does becomes a table: (state, port) -> state. The kernel's rules run that table with one
element a source, whatever the number of doors; the same tracker, then, save for the time: here each
step has its own, from one knock to the next.

A state holds ``within`` seconds: the longest of the sequences that are under way in it. A repeated
knock leaves state and time as they are, unless it begins a sequence, which then begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from knockgate.mechanisms.knocks import KnockSequence
from knockgate.model import Port

__all__ = ["NOWHERE", "STAY", "Automaton", "State"]

#: The state of a source of which nothing is remembered.
NOWHERE = 0
#: In place of a state: the packet is the knock just made, once more; neither state nor time change.
STAY = -1
#: Sequences that contain each other's beginnings again and again have many states; nobody's do.
MAX_STATES = 1 << 17

Prefix = tuple[int, int]  # which sequence, how many of its steps


@dataclass(frozen=True, slots=True)
class State:
    """What a source has just done, and what it may do next."""

    within: float  #: seconds until it is forgotten; 0 where nothing is under way any more
    opens: tuple[str, ...]  #: doors that open on coming here


class Automaton:
    """``states`` by number from 1, and ``moves``: (state, port) -> state or STAY.

    A port without a move from a state does there what it does from NOWHERE: it begins a sequence, or it
    resets. ``move`` says so in code.
    """

    def __init__(self, sequences: Iterable[KnockSequence], *, limit: int = MAX_STATES) -> None:
        """Raises ValueError where they have more than ``limit`` states."""
        self._limit = limit
        self._sequences = tuple(sequences)
        self._reached: dict[Port, list[Prefix]] = {}
        for number, sequence in enumerate(self._sequences):
            for length, step in enumerate(sequence.steps, 1):
                self._reached.setdefault(step, []).append((number, length))
        self.ports = frozenset(self._reached)
        self.states: dict[int, State] = {}
        self.moves: dict[tuple[int, Port], int] = {}
        self._build()

    def move(self, state: int, port: Port) -> int:
        """Where a packet to ``port`` leads from ``state``; NOWHERE is a reset."""
        return self.moves.get((state, port), self.moves.get((NOWHERE, port), NOWHERE))

    def _build(self) -> None:
        numbers: dict[tuple[frozenset[Prefix], frozenset[Prefix]], int] = {}
        waiting: deque[tuple[int, frozenset[Prefix]]] = deque([(NOWHERE, frozenset())])
        while waiting:
            state, alive = waiting.popleft()
            for port in self._ports_that_matter(alive):
                after = self._after(alive, port)
                done = frozenset(each for each in after if self._is_whole(each))
                rest = after - done
                begins = any(length == 1 for _, length in after)
                if rest == alive and alive and not done and not begins:
                    self.moves[state, port] = STAY
                    continue
                if (rest, done) not in numbers:
                    numbers[rest, done] = len(numbers) + 1
                    self.states[len(numbers)] = self._state(rest, done)
                    if rest:  # else all moves are those from NOWHERE
                        waiting.append((len(numbers), rest))
                    if len(numbers) > self._limit:
                        raise ValueError(f"these sequences have more than {self._limit} states")
                found = numbers[rest, done]
                if state == NOWHERE or self.moves.get((NOWHERE, port)) != found:
                    self.moves[state, port] = found

    def _ports_that_matter(self, alive: frozenset[Prefix]) -> list[Port]:
        """Ports that may lead elsewhere from here than from NOWHERE (the first steps, from there)."""
        if not alive:
            return list(dict.fromkeys(sequence.steps[0] for sequence in self._sequences))
        ports: dict[Port, None] = {}
        for number, length in sorted(alive):
            steps = self._sequences[number].steps
            ports[steps[length]] = ports[steps[length - 1]] = None
        return list(ports)

    def _after(self, alive: frozenset[Prefix], port: Port) -> frozenset[Prefix]:
        """The tracker's three ways to have a prefix: begun, made longer, or its last step repeated."""
        return frozenset(
            (number, length)
            for number, length in self._reached.get(port, ())
            if length == 1 or (number, length - 1) in alive or (number, length) in alive
        )

    def _is_whole(self, prefix: Prefix) -> bool:
        number, length = prefix
        return length == len(self._sequences[number].steps)

    def _state(self, rest: frozenset[Prefix], done: frozenset[Prefix]) -> State:
        return State(
            within=max((self._sequences[number].within for number, _ in rest), default=0.0),
            opens=tuple(dict.fromkeys(self._sequences[number].door for number, _ in sorted(done))),
        )
