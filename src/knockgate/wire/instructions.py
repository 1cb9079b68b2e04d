"""Instructions of classic BPF: an assembler for them, and a small evaluator that runs them for the tests.

Offsets count from the network header (SOCK_DGRAM). What the headers do not say comes from the kernel's
ancillary words: the packet's type, interface, VLAN tag and EtherType.

Sources: linux/filter.h, linux/bpf_common.h, Documentation/networking/filter.rst of the kernel.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["ACCEPT", "Ancillary", "Assembler", "Instruction", "assemble", "evaluate"]

#: What an accepting program returns: the number of bytes to keep, which is all of them.
ACCEPT = 0x40000

# Instruction classes, sizes and modes.
LD, LDX, ALU, JMP, RET, MISC = 0x00, 0x01, 0x04, 0x05, 0x06, 0x07
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MSH = 0x00, 0x20, 0x40, 0xA0
JA, JEQ, JGT, JGE, JSET = 0x00, 0x10, 0x20, 0x30, 0x40
ADD, SUB, AND, RSH = 0x00, 0x10, 0x50, 0x70
X, TAX = 0x08, 0x00

# Ancillary words: loads at SKF_AD_OFF + n do not read the packet.
_AD = 0xFFFFF000
AD_PROTOCOL, AD_PKTTYPE, AD_IFINDEX, AD_VLAN_TAG = _AD + 0, _AD + 4, _AD + 8, _AD + 44

PACKET_HOST = 0


class Instruction(NamedTuple):
    """``struct sock_filter``: jumps count instructions from the next one."""

    code: int
    jt: int
    jf: int
    k: int


def assemble(program: Sequence[Instruction]) -> bytes:
    """The program as the kernel's array of ``struct sock_filter``, host byte order, 8 bytes each."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class Assembler:
    """Instructions with named jump targets; a target must come after the jump, as the kernel demands."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str | None, str | None, int]] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """What comes next is jumped to by this name."""
        self._labels[name] = len(self._lines)

    def emit(self, code: int, k: int) -> None:
        """An instruction that does not jump."""
        self._lines.append((code, None, None, k))

    def load(self, size: int, offset: int) -> None:
        """A = what is at this place of the packet, or an ancillary word."""
        self.emit(LD | size | ABS, offset)

    def branch(self, test: int, k: int, then: str, otherwise: str) -> None:
        """Compare A with ``k``; either way leads to a label."""
        self._lines.append((JMP | test, then, otherwise, k))

    def jump(self, to: str) -> None:
        """Go there, however far it is; a branch reaches 255 instructions."""
        self._lines.append((JMP | JA, to, None, 0))

    def finish(self) -> tuple[Instruction, ...]:
        """The program."""

        def distance(at: int, name: str | None) -> int:
            return 0 if name is None else self._labels[name] - at - 1

        return tuple(
            Instruction(code, 0, 0, distance(at, then))
            if code == JMP | JA
            else Instruction(code, distance(at, then), distance(at, otherwise), k)
            for at, (code, then, otherwise, k) in enumerate(self._lines)
        )


@dataclass(frozen=True, slots=True)
class Ancillary:
    """What the kernel knows of a packet beside its bytes."""

    protocol: int  #: EtherType
    packet_type: int = PACKET_HOST
    interface: int = 2
    vlan_tag: int = 0


_COMPUTED = {ADD: operator.add, SUB: operator.sub, AND: operator.and_, RSH: operator.rshift}
_COMPARED = {JEQ: operator.eq, JGT: operator.gt, JGE: operator.ge, JSET: operator.and_}


def evaluate(program: Sequence[Instruction], packet: bytes, ancillary: Ancillary) -> int:
    """Run the program as the kernel would; returns how many bytes it keeps, 0 for none.

    A load beyond the end of the packet ends the program with 0, as in the kernel.
    """
    words = {
        AD_PROTOCOL: ancillary.protocol,
        AD_PKTTYPE: ancillary.packet_type,
        AD_IFINDEX: ancillary.interface,
        AD_VLAN_TAG: ancillary.vlan_tag,
    }
    a = x = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind = code & 0x07
        if kind in (LD, LDX):
            mode, size = code & 0xE0, {W: 4, H: 2, B: 1}[code & 0x18]
            if mode == IMM:
                a, x = (k, x) if kind == LD else (a, k)
                continue
            if mode == ABS and k in words:
                a = words[k]
                continue
            offset = k + (x if mode == IND else 0)
            field = packet[offset : offset + size]
            if len(field) < size:
                return 0
            if mode == MSH:
                x = (field[0] & 0x0F) * 4
            else:
                a = int.from_bytes(field)
        elif kind == ALU:
            other = x if code & X else k
            a = _COMPUTED[code & 0xF0](a, other) & 0xFFFFFFFF
        elif kind == MISC:
            x = a
        elif code == JMP | JA:
            at += k
        elif kind == JMP:
            at += jt if _COMPARED[code & 0xF0](a, k) else jf
        else:
            return k
