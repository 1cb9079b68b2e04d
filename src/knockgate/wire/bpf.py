"""What to hear -> a classic BPF program, and a small evaluator that runs one on bytes for the tests.

The kernel runs the program on every packet before it is queued, so what is not an opening costs the
daemon nothing. Offsets count from the network header (SOCK_DGRAM). What the headers do not say comes
from the kernel's ancillary words: the packet's type, interface, VLAN tag and EtherType.

Sources: linux/filter.h, linux/bpf_common.h, Documentation/networking/filter.rst of the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from knockgate.wire.frames import ETH_P_IP, ETH_P_IPV6

__all__ = [
    "ACCEPT",
    "Ancillary",
    "Instruction",
    "assemble",
    "datagrams",
    "evaluate",
    "openings",
    "passings",
]

#: What an accepting program returns: the number of bytes to keep, which is all of them.
ACCEPT = 0x40000

# Instruction classes, sizes and modes.
_LD, _LDX, _ALU, _JMP, _RET, _MISC = 0x00, 0x01, 0x04, 0x05, 0x06, 0x07
_W, _H, _B = 0x00, 0x08, 0x10
_IMM, _ABS, _IND, _MSH = 0x00, 0x20, 0x40, 0xA0
_JEQ, _JSET, _AND, _RSH = 0x10, 0x40, 0x50, 0x70
_X, _TAX = 0x08, 0x00

# Ancillary words: loads at SKF_AD_OFF + n do not read the packet.
_AD = 0xFFFFF000
_AD_PROTOCOL, _AD_PKTTYPE, _AD_IFINDEX, _AD_VLAN_TAG = _AD + 0, _AD + 4, _AD + 8, _AD + 44

_PACKET_HOST = 0
_LOOPBACK_IFINDEX = 1  # of every network namespace (LOOPBACK_IFINDEX in the kernel's net/loopback.h)
_FLAGS = 0x3F  # FIN, SYN, RST, PSH, ACK and URG; above them are ECE and CWR (RFC 9293, 3.1)
_EXTENSIONS = (0, 43, 44, 60, 135, 139, 140)  # the kinds of IPv6 extension header that frames walks


class Instruction(NamedTuple):
    """``struct sock_filter``: jumps count instructions from the next one."""

    code: int
    jt: int
    jf: int
    k: int


def openings(*, udp: bool, loopback: bool, flags: Iterable[tuple[int, int]] = ()) -> tuple[Instruction, ...]:
    """Hear every packet for this host that opens a connection, over IPv4 and IPv6, to any port.

    Any port, because a packet to a port of no sequence resets a knock. That is each TCP SYN without
    ACK, RST and FIN; with ``udp`` also every UDP datagram, since a datagram does not say whether it
    is the first. IPv4 fragments are not heard; an IPv6 packet with extension headers is (walking them
    is left to ``frames``). ``loopback`` says whether the interface ``lo`` counts. ``flags`` are further
    TCP packets to be heard: those whose flags under a mask (at most 0x3F) are a value.
    """
    asm = _Assembler()
    _for_this_host(asm, loopback=loopback)
    # Of FIN, SYN, RST and ACK only SYN.
    return _transports(asm, udp=udp, flags=[(0x17, 0x02), *flags])


def datagrams(port: int, lengths: Iterable[int], first: bytes, *, loopback: bool) -> tuple[Instruction, ...]:
    """Hear UDP datagrams for this host, to one port, over IPv4 and IPv6, that are shaped like a knock.

    That is: the payload is of one of ``lengths`` (bytes, at most 250 different ones) and begins with one of
    the octets in ``first``. Fragments are not heard, nor IPv6 with extension headers: nobody's client sends
    them, and to walk them is what a stranger would have us do.
    """
    asm = _Assembler()
    _for_this_host(asm, loopback=loopback)
    asm.load(_W, _AD_PROTOCOL)
    asm.branch(_JEQ, ETH_P_IP, "ipv4", "not-ipv4")
    asm.label("not-ipv4")
    asm.branch(_JEQ, ETH_P_IPV6, "ipv6", "no")
    asm.label("ipv4")
    asm.load(_H, 6)
    asm.branch(_JSET, 0x3FFF, "no", "whole")
    asm.label("whole")
    asm.load(_B, 9)
    asm.branch(_JEQ, 17, "udp4", "no")
    asm.label("udp4")
    asm.emit(_LDX | _B | _MSH, 0)  # x = length of the IPv4 header
    asm.jump("datagram")
    asm.label("ipv6")
    asm.load(_B, 6)
    asm.branch(_JEQ, 17, "udp6", "no")
    asm.label("udp6")
    asm.emit(_LDX | _IMM, 40)
    asm.label("datagram")
    asm.emit(_LD | _H | _IND, 2)
    asm.branch(_JEQ, port, "ours", "no")
    asm.label("no")
    asm.emit(_RET, 0)
    asm.label("ours")
    asm.emit(_LD | _B | _IND, 8)
    _one_of(asm, first, "begins")
    asm.emit(_LD | _H | _IND, 4)  # of the header and what it heads
    _one_of(asm, (8 + length for length in lengths), "accept")
    asm.emit(_RET, ACCEPT)
    return asm.finish()


def _one_of(asm: _Assembler, values: Iterable[int], then: str) -> None:
    """Go on where A is one of the values, else end the program. ``then`` is a label that is not taken."""
    for value in sorted(set(values)):
        asm.branch(_JEQ, value, then, f"{then}-not-{value}")
        asm.label(f"{then}-not-{value}")
    asm.emit(_RET, 0)
    asm.label(then)


def _for_this_host(asm: _Assembler, *, loopback: bool) -> None:
    """Drop what is not for us, and go on with the rest."""
    asm.load(_W, _AD_PKTTYPE)
    asm.branch(_JEQ, _PACKET_HOST, "mine", "drop-early")
    asm.label("mine")
    if not loopback:
        asm.load(_W, _AD_IFINDEX)
        asm.branch(_JEQ, _LOOPBACK_IFINDEX, "drop-early", "wired")
        asm.label("wired")
    # A socket bound to eth0 also sees what is tagged for eth0.10; a tag of VLAN 0 is only a priority.
    asm.load(_W, _AD_VLAN_TAG)
    asm.branch(_JSET, 0x0FFF, "drop-early", "untagged")
    asm.label("drop-early")
    asm.emit(_RET, 0)
    asm.label("untagged")


def passings() -> tuple[Instruction, ...]:
    """Hear what an onlooker can learn doors from: UDP, and each TCP SYN, alone or with ACK, any way."""
    return _transports(_Assembler(), udp=True, flags=[(0x06, 0x02)])


def _transports(asm: _Assembler, *, udp: bool, flags: Sequence[tuple[int, int]]) -> tuple[Instruction, ...]:
    """Accept TCP with one of these flags (mask, value), UDP if wanted, and end the program."""
    asm.load(_W, _AD_PROTOCOL)
    asm.branch(_JEQ, ETH_P_IP, "ipv4", "not-ipv4")
    asm.label("not-ipv4")
    asm.branch(_JEQ, ETH_P_IPV6, "ipv6", "drop")

    asm.label("ipv4")
    asm.load(_H, 6)
    asm.branch(_JSET, 0x3FFF, "drop", "whole")
    asm.label("whole")
    asm.load(_B, 9)
    asm.branch(_JEQ, 6, "tcp4", "not-tcp4")
    asm.label("not-tcp4")
    asm.branch(_JEQ, 17, "accept" if udp else "drop", "drop")
    asm.label("tcp4")
    asm.emit(_LDX | _B | _MSH, 0)  # x = length of the IPv4 header
    asm.emit(_LD | _B | _IND, 13)
    _flags(asm, flags, "4")

    asm.label("ipv6")
    asm.load(_B, 6)
    asm.branch(_JEQ, 6, "tcp6", "not-tcp6")
    asm.label("not-tcp6")
    if udp:
        asm.branch(_JEQ, 17, "accept", "not-udp6")
        asm.label("not-udp6")
    for kind in _EXTENSIONS:
        asm.branch(_JEQ, kind, "accept", f"not-{kind}")
        asm.label(f"not-{kind}")
    asm.emit(_RET, 0)
    asm.label("tcp6")
    asm.load(_B, 53)
    _flags(asm, flags, "6")

    asm.label("accept")
    asm.emit(_RET, ACCEPT)
    asm.label("drop")
    asm.emit(_RET, 0)
    return asm.finish()


def _flags(asm: _Assembler, flags: Sequence[tuple[int, int]], family: str) -> None:
    """Accept if the octet in A is among ``flags``, else drop.

    One combination is one comparison. For several there is a bit for each of the 64 values that the six
    flags can have: a configuration may name hundreds of combinations, and a jump reaches 255 instructions.
    """
    if len(flags) == 1:
        ((mask, value),) = flags
        asm.emit(_ALU | _AND, mask)
        asm.branch(_JEQ, value, "accept", "drop")
        return
    if any(mask & ~_FLAGS for mask, _ in flags):
        raise ValueError(f"the flags of TCP are in the mask {_FLAGS:#x}")
    heard = sum(
        1 << octet for octet in range(_FLAGS + 1) if any(octet & mask == value for mask, value in flags)
    )
    urgent, plain = f"urgent{family}", f"plain{family}"
    asm.branch(_JSET, 0x20, urgent, plain)
    for name, word in ((urgent, heard >> 32), (plain, heard & 0xFFFFFFFF)):
        asm.label(name)
        asm.emit(_ALU | _AND, 0x1F)
        asm.emit(_MISC | _TAX, 0)
        asm.emit(_LD | _IMM, word)
        asm.emit(_ALU | _RSH | _X, 0)
        asm.branch(_JSET, 1, "accept", "drop")


def assemble(program: Sequence[Instruction]) -> bytes:
    """The program as the kernel's array of ``struct sock_filter``, host byte order, 8 bytes each."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class _Assembler:
    """Instructions with named jump targets; a target must come after the jump, as the kernel demands."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str | None, str | None, int]] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def emit(self, code: int, k: int) -> None:
        self._lines.append((code, None, None, k))

    def load(self, size: int, offset: int) -> None:
        self.emit(_LD | size | _ABS, offset)

    def branch(self, test: int, k: int, then: str, otherwise: str) -> None:
        self._lines.append((_JMP | test, then, otherwise, k))

    def jump(self, to: str) -> None:
        self._lines.append((_JMP | _JEQ, to, to, 0))  # one way or the other

    def finish(self) -> tuple[Instruction, ...]:
        def distance(at: int, name: str | None) -> int:
            return 0 if name is None else self._labels[name] - at - 1

        return tuple(
            Instruction(code, distance(at, then), distance(at, otherwise), k)
            for at, (code, then, otherwise, k) in enumerate(self._lines)
        )


@dataclass(frozen=True, slots=True)
class Ancillary:
    """What the kernel knows of a packet beside its bytes."""

    protocol: int  #: EtherType
    packet_type: int = _PACKET_HOST
    interface: int = 2
    vlan_tag: int = 0


def evaluate(program: Sequence[Instruction], packet: bytes, ancillary: Ancillary) -> int:
    """Run the program as the kernel would; returns how many bytes it keeps, 0 for none.

    A load beyond the end of the packet ends the program with 0, as in the kernel.
    """
    words = {
        _AD_PROTOCOL: ancillary.protocol,
        _AD_PKTTYPE: ancillary.packet_type,
        _AD_IFINDEX: ancillary.interface,
        _AD_VLAN_TAG: ancillary.vlan_tag,
    }
    a = x = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind = code & 0x07
        if kind in (_LD, _LDX):
            mode, size = code & 0xE0, {_W: 4, _H: 2, _B: 1}[code & 0x18]
            if mode == _IMM:
                a, x = (k, x) if kind == _LD else (a, k)
                continue
            if mode == _ABS and k in words:
                a = words[k]
                continue
            offset = k + (x if mode == _IND else 0)
            field = packet[offset : offset + size]
            if len(field) < size:
                return 0
            if mode == _MSH:
                x = (field[0] & 0x0F) * 4
            else:
                a = int.from_bytes(field)
        elif kind == _ALU:
            a = a & k if code & 0xF0 == _AND else a >> x
        elif kind == _MISC:
            x = a
        elif kind == _JMP:
            holds = a == k if code & 0xF0 == _JEQ else bool(a & k)
            at += jt if holds else jf
        else:
            return k
