"""Somebody sends in your name what makes an end of the sequence that you are knocking.

The page on security does not promise that they cannot: who forges your address can reset your sequence with
one SYN. What it costs is measured here: how many tries it takes to get in, by how much of it they send. What
is one packet cannot be reset, and has the same attack beside it.

There is no time in it but the order of packets: between two steps there come as many of theirs as it says.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.attacks.figures import figure
from tests.attacks.lanes import DAEMON, KERNEL, SEALED, SPA, Lanes, lanes, let_in, steps, tcp_ip, udp_ip, wire
from tests.netns import Sender, isolated, until

WRONG = 4444
"""No step, and no door."""
_PEOPLE = 100
_PATIENCE = 0.5  # seconds between two tries; five changes of state are free again then


class Attack:
    """Whoever knocks has an address that nobody had before: the kernel lets none change states too often."""

    def __init__(self, gate: Lanes, cable: Sender, door: str) -> None:
        self.gate, self.door = gate, door
        self._cable = cable
        self._numbers = iter(range(1 + 10_000 * (door == DAEMON), 1 << 16))

    def somebody(self) -> str:
        number = next(self._numbers)
        return f"10.5.{number >> 8}.{number & 255}"

    def knock(self, source: str, *, between: Callable[[], int] = lambda: 0) -> None:
        """So many SYNs in their name come between two of their steps."""
        first, *others = steps(self.door, source)
        self._cable.send(first)
        for each in others:
            self.disturb(source, between())
            self._cable.send(each)

    def disturb(self, source: str, times: int) -> None:
        for _ in range(times):
            self._cable.send(tcp_ip(WRONG, source))

    def settle(self) -> None:
        """All that was sent has been looked at, since this knock has, which nobody disturbs."""
        source = self.somebody()
        self.knock(source)
        until(lambda: source in let_in(self.door), "the control opens")

    def tries(self, between: Callable[[], int], most: int) -> list[int]:
        """For each of many people, with which try they get in; 0 where they give up."""
        found = {self.somebody(): 0 for _ in range(_PEOPLE)}
        for number in range(1, most + 1):
            for source in [each for each in found if not found[each]]:
                self.knock(source, between=between)
            self.settle()
            inside = let_in(self.door)
            found |= {source: number for source in found if not found[source] and source in inside}
        return list(found.values())


@isolated
def test_what_it_costs(tmp_path: Path) -> None:
    with lanes(tmp_path) as gate, wire() as cable:
        for door in (KERNEL, DAEMON):
            _costs(Attack(gate, cable, door), door)


def _costs(attack: Attack, door: str) -> None:
    # Nobody disturbs: the control.
    assert set(attack.tries(lambda: 0, 1)) == {1}
    # One SYN in all: the first try is lost, the second one is not.
    once = {source: [1, 0] for source in (attack.somebody() for _ in range(_PEOPLE))}
    for source, left in once.items():
        attack.knock(source, between=left.pop)
    attack.settle()
    assert not once.keys() & let_in(door)
    for source in once:
        attack.knock(source)
    attack.settle()
    assert once.keys() <= let_in(door)
    # One for each step, without end: nobody gets in, as long as it lasts and not longer.
    assert set(attack.tries(lambda: 1, 3)) == {0}
    dice = random.Random(1)
    figure(
        f"resets.{door}",
        tries=4 * _PEOPLE,
        wrongly=0,
        rightly=2 * _PEOPLE,
        control="who is not disturbed gets in with the first try",
        tries_with_one_syn_in_all=2,
        in_with_a_syn_for_each_step_share=0.0,
    )
    for chance in (0.1, 0.5, 0.9):
        found = attack.tries(lambda: int(dice.random() < chance), 4)  # noqa: B023
        first = found.count(1) / _PEOPLE
        gaps = len(steps(door, "10.0.0.1")) - 1
        assert abs(first - (1 - chance) ** gaps) < 0.12, first
        figure(
            f"resets.{door}, a SYN between two steps with a chance of {chance}",
            tries=_PEOPLE,
            wrongly=0,
            rightly=_PEOPLE - found.count(0),
            control="who is not disturbed gets in with the first try",
            in_with_first_try_share=first,
            in_within_four_tries_share=round(1 - found.count(0) / _PEOPLE, 3),
        )


@isolated
def test_what_is_one_packet_is_not_reset(tmp_path: Path) -> None:
    """The same SYNs around it; also a flood of junk in their name to the very port."""
    with lanes(tmp_path) as gate, wire() as cable:
        for kind, spa in SPA.items():
            attack = Attack(gate, cable, spa.door)
            tries = 10
            for number in range(tries):
                source = f"10.6.{list(SPA).index(kind)}.{number}"
                attack.disturb(source, 10)
                cable.send(udp_ip(spa.port, source, bytes(245)))
                cable.send(udp_ip(spa.port, source, spa.make(source)))
                attack.disturb(source, 10)
                until(lambda: source in let_in(spa.door), f"{kind} opens")  # noqa: B023
            figure(
                f"resets.{kind}",
                tries=20 * tries,
                wrongly=0,
                rightly=len(let_in(spa.door)),
                control="who is disturbed gets in with the first packet",
                in_with_first_try_share=len(let_in(spa.door)) / tries,
            )
            gate.close()


@isolated
def test_who_knows_the_sequence_can_use_up_the_pace_of_an_address(tmp_path: Path) -> None:
    """More first steps in your name than may change a state: the kernel drops yours; a packet gets in."""
    with lanes(tmp_path) as gate, wire() as cable:
        victim = "10.0.7.1"
        first = steps(KERNEL, victim)[0]
        other = tcp_ip(WRONG, victim)
        for _ in range(40):  # each begins a sequence, and each ends one
            cable.send(first)
            cable.send(other)
        Attack(gate, cable, KERNEL).knock(victim)
        Attack(gate, cable, KERNEL).settle()
        assert victim not in let_in(KERNEL)
        until(lambda: gate.gate.status()["bounds"]["paced"] > 0, "it is told")
        spa = SPA["X-Wing"]
        cable.send(udp_ip(spa.port, victim, spa.make(victim)))
        until(lambda: victim in let_in(SEALED), "a packet opens")

        _gets_in_again(Attack(gate, cable, KERNEL), victim)
        figure(
            "resets.pace of an address used up",
            tries=80,
            wrongly=0,
            rightly=2,
            control="a packet of the same address opens meanwhile, and the sequence afterwards",
        )


def _gets_in_again(attack: Attack, victim: str) -> None:
    """Once nobody does that any more; but who tries all the time uses up their pace themselves."""
    tried = time.monotonic()

    def gets_in() -> bool:
        nonlocal tried
        if time.monotonic() > tried + _PATIENCE:
            tried = time.monotonic()
            attack.knock(victim)
        return victim in let_in(attack.door)

    until(gets_in, "the sequence opens")
