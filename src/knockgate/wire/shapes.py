"""Whether a payload looks like a knock, as BPF: by its length, and by octets at its beginning and its ends.

There are about a hundred lengths, with up to four shapes each: an HMAC of any length may follow a text of any
number of blocks. Seen from the end of the payload the same few pairs of octets come again and again, so it is
lengths that are alike in that which share instructions. For SHA-256 alone that makes 150, for all hashes of
fwknop's 560; the kernel takes 4,096.
"""

from __future__ import annotations

from collections.abc import Iterable

from knockgate.wire.instructions import ADD, ALU, IND, JEQ, LD, MISC, RET, SUB, TAX, Assembler, B, H, X

__all__ = ["Shaped", "shaped"]

#: Length of the payload, and (offset, the values that are possible there).
Shaped = tuple[int, tuple[tuple[int, bytes], ...]]
#: Octets by their distance from the end of the payload.
_Ends = tuple[tuple[int, bytes], ...]

_HEADER = 8  # of UDP


def shaped(asm: Assembler, shapes: Iterable[Shaped], *, then: str) -> None:
    """Go to ``then`` if it has one of the shapes, else end. X is where the UDP header begins."""
    shapes = list(shapes)
    firsts = [dict(octets).get(0) for _, octets in shapes]
    if None not in firsts:
        asm.emit(LD | B | IND, _HEADER)
        _one_of(asm, sorted({octet for first in firsts if first for octet in first}), "begins")
    of_length: dict[int, set[_Ends]] = {}
    for length, octets in shapes:
        ends = tuple((length - at, values) for at, values in octets if at)
        of_length.setdefault(length, set()).add(ends)
    alike: dict[frozenset[_Ends], list[int]] = {}
    for length, alternatives in of_length.items():
        alike.setdefault(frozenset(alternatives), []).append(length)
    asm.emit(LD | H | IND, 4)  # of the header and what it heads
    for number, (found, lengths) in enumerate(alike.items()):
        _of_lengths(asm, lengths, found, f"lengths-{number}", then)
    asm.emit(RET, 0)


def _one_of(asm: Assembler, values: Iterable[int], name: str) -> None:
    """Go on where A is one of the values, else end."""
    for value in values:
        asm.branch(JEQ, value, name, f"{name}-not-{value}")
        asm.label(f"{name}-not-{value}")
    asm.emit(RET, 0)
    asm.label(name)


def _of_lengths(
    asm: Assembler, lengths: Iterable[int], alternatives: frozenset[_Ends], name: str, then: str
) -> None:
    """Where A, the length with its header, is one of these: go to ``then`` or end. Else go on, A as it is."""
    for length in lengths:
        asm.branch(JEQ, _HEADER + length, name, f"{name}-not-{length}")
        asm.label(f"{name}-not-{length}")
    asm.jump(f"{name}-none")
    asm.label(name)
    if () in alternatives:
        asm.jump(then)
    else:
        # X becomes a place before all that is looked at: what is loaded lies behind it.
        back = max(distance for ends in alternatives for distance, _ in ends)
        asm.emit(ALU | ADD | X, 0)
        asm.emit(ALU | SUB, back)
        asm.emit(MISC | TAX, 0)
        for number, ends in enumerate(sorted(alternatives)):
            _ends(asm, ends, back, f"{name}-{number}", then)
        asm.emit(RET, 0)
    asm.label(f"{name}-none")


def _ends(asm: Assembler, ends: _Ends, back: int, name: str, then: str) -> None:
    """Go to ``then`` where all these octets are what they may be, else go on."""
    for distance, values in ends:
        here = f"{name}-{distance}"
        asm.emit(LD | B | IND, back - distance)
        for value in values:
            asm.branch(JEQ, value, here, f"{here}-not-{value}")
            asm.label(f"{here}-not-{value}")
        asm.jump(f"{name}-other")
        asm.label(here)
    asm.jump(then)
    asm.label(f"{name}-other")
