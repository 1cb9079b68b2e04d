"""Knocks that are changed on their way to a real listener: one bit, a piece cut off, something added.

Every bit and every length is tried elsewhere, on readers alone and at a gate (``test_sealed_damaged``). Here
are some of each kind of packet, at one gate that hears all kinds; and all bits of the headers of a step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.figures import figure
from tests.attacks.lanes import DAEMON, KERNEL, SPA, Lanes, lanes, let_in, steps, udp_ip, wire
from tests.netns import Sender, isolated, until
from tests.packets import ones_complement

_FLIPS, _CUTS = 120, 40  # of each kind of packet
_AT_ONCE = 64  # datagrams that a gate that others keep from the processor has not lost yet


def _damaged(octets: bytes, dice: random.Random) -> Iterator[bytes]:
    for at in [0, 1, len(octets) - 1, *dice.sample(range(len(octets)), _FLIPS - 3)]:
        yield flipped(octets, 8 * at + dice.randrange(8))
    for size in [0, 1, len(octets) - 1, *dice.sample(range(len(octets)), _CUTS - 3)]:
        yield octets[:size]
    half = len(octets) // 2
    yield octets + b"\0"
    yield b"\0" + octets
    yield (octets + octets)[:1400]
    yield octets[half:] + octets[:half]
    yield octets[::-1]
    yield octets[:half] + octets[:-half]


def flipped(octets: bytes, bit: int) -> bytes:
    at = bit // 8
    return octets[:at] + bytes([octets[at] ^ 0x80 >> bit % 8]) + octets[at + 1 :]


@isolated
def test_a_packet_that_was_changed_opens_nothing(tmp_path: Path) -> None:
    """All are accounted for: refused by the listener, or turned away by its filter in the kernel."""
    with lanes(tmp_path) as gate, wire() as cable:
        for number, (kind, spa) in enumerate(SPA.items(), 1):
            source = f"10.0.1.{number}"
            knock = spa.make(source)
            damaged = list(_damaged(knock, random.Random(number)))
            opened, before = gate.opened(spa.door), _refused(gate, spa.door)
            heard = 0
            for begin in range(0, len(damaged), _AT_ONCE):
                some = damaged[begin : begin + _AT_ONCE]
                heard += _send(gate, cable, [udp_ip(spa.port, source, each) for each in some])
                until(lambda: _refused(gate, spa.door) - before >= heard, "all are refused")  # noqa: B023
            assert (
                _refused(gate, spa.door) - before == heard > 0.8 * _FLIPS
            )  # of fwknop's it looks at some octets
            assert gate.opened(spa.door) == opened and source not in let_in(spa.door)
            cable.send(udp_ip(spa.port, source, knock))  # the control
            until(lambda: source in let_in(spa.door), f"{kind} opens")  # noqa: B023
            reasons = gate.refused(spa.door)
            assert reasons.keys() == {"not-ours"}, reasons
            figure(
                f"tampering.{kind}",
                tries=len(damaged),
                wrongly=gate.opened(spa.door) - opened - 1,
                rightly=1,
                control="the same packet, whole, opens",
                refused_by_the_listener=heard,
                refused_by_its_filter=len(damaged) - heard,
            )


def _refused(gate: Lanes, door: str) -> int:
    return sum(gate.refused(door).values())


def _send(gate: Lanes, cable: Sender, packets: list[bytes]) -> int:
    """How many of them the filter has let through. Whoever follows sequences hears each datagram."""
    before = gate.gate.status()["heard"]
    for each in packets:
        cable.send(each)
    after = gate.gate.status()["heard"]
    assert after["lost"] == before["lost"] == 0
    found: int = after["packets"] - before["packets"] - len(packets)
    return found


# --- headers ------------------------------------------------------------------------------------------

_FIELDS = {
    "version": 4, "header length": 4, "class": 8, "total length": 16, "identification": 16,
    "reserved and do not fragment": 2, "fragment": 14, "lifetime": 8, "protocol": 8, "header checksum": 16,
    "source": 32, "destination": 32,
    "source port": 16, "port": 16, "sequence number": 32, "acknowledgement": 32, "data offset": 4,
    "cwr, ece, urg and the like": 7, "ack": 1, "psh": 1, "rst": 1, "syn": 1, "fin": 1,
    "window": 16, "checksum": 16, "urgent pointer": 16,
}  # fmt: skip
"""Of IPv4 and TCP, in order, with their bits."""
_IP_BITS = 160
_NOTHING_TO_A_STEP = {
    "class", "identification", "reserved and do not fragment", "lifetime", "header checksum",
    "source port", "sequence number", "acknowledgement", "cwr, ece, urg and the like", "psh",
    "window", "checksum", "urgent pointer",
}  # fmt: skip
"""So it does not matter who has changed it: they could have sent the knock as it was."""
# The kernel drops what has another sum than its header says before its rules see it; the daemon hears it.
# Where the header of TCP ends is nothing to the rules; the daemon reads no segment that contradicts itself.
# (In a segment of 12 bytes there are no flags, and the rules take it for a SYN.)


@isolated
def test_a_step_of_which_one_bit_was_changed(tmp_path: Path) -> None:
    """It counts where the bit is nothing to a sequence, and the step is still for us, and of who began it."""
    with lanes(tmp_path), wire() as cable:
        for door in (KERNEL, DAEMON):
            for mended in (False, True):
                _judge(_flip_each(cable, door, mended=mended), door, mended=mended)


def _judge(found: dict[str, int], door: str, *, mended: bool) -> None:
    """``mended``: the header's checksum was made right behind the change, so a change of it is none."""
    whole = {name for name in _NOTHING_TO_A_STEP if mended or door == DAEMON or name in _TCP_FIELDS}
    if mended:
        whole.remove("header checksum")
        found.pop("header checksum")
    partly = {"data offset"} if door == KERNEL else set()
    if mended and door == KERNEL:
        partly.add("total length")
        assert found["total length"] == 1
    assert {name for name in found if found[name] == _FIELDS[name]} - partly == whole
    assert {name for name in found if 0 < found[name] < _FIELDS[name]} <= partly
    name = f"tampering.one bit of a step, {door}{', header checksum mended' * mended}"
    as_before = {name: found[name] for name in found if name in whole | partly}
    figure(
        name,
        tries=sum(map(_FIELDS.__getitem__, found)),
        wrongly=sum(found.values()) - sum(as_before.values()),
        known=sum(as_before.values()),
        rightly=1,
        control="the same step, whole, opens",
        fields_that_are_nothing_to_a_step=len(whole),
    )


_NAMES = [name for name, bits in _FIELDS.items() for _ in range(bits)]
_TCP_FIELDS = set(_NAMES[_IP_BITS:])


def _flip_each(cable: Sender, door: str, *, mended: bool) -> dict[str, int]:
    """By field: with how many of its bits turned over the last step still opens."""
    even = (number for number in range(1, 1 << 16) if number.bit_count() % 2 == 0)
    # No two addresses differ in one bit, so whose source is changed is nobody.
    sources = [
        f"10.{1 + mended + 4 * (door == DAEMON)}.{number >> 8}.{number & 255}"
        for number, _ in zip(even, _NAMES, strict=False)
    ]
    for bit, source in enumerate(sources):
        first, second, last = steps(door, source)
        changed = flipped(last, bit)
        if mended and bit < _IP_BITS:  # whoever changes it can count
            blank = changed[:10] + bytes(2) + changed[12:20]
            changed = changed[:10] + ones_complement(blank) + changed[12:]
        for each in (first, second, changed):
            cable.send(each)
    control = f"10.4.{mended:d}.{1 + (door == DAEMON)}"
    for each in steps(door, control):
        cable.send(each)
    until(lambda: control in let_in(door), "the control opens")
    inside = let_in(door)
    found = dict.fromkeys(_FIELDS, 0)
    for name, source in zip(_NAMES, sources, strict=True):
        found[name] += source in inside
    return found
