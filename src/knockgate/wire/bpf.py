"""What to hear -> a classic BPF program.

The kernel runs the program on every packet before it is queued, so what is not an opening costs the
daemon nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knockgate.wire.frames import ETH_P_IP, ETH_P_IPV6
from knockgate.wire.instructions import (
    ACCEPT,
    AD_IFINDEX,
    AD_PKTTYPE,
    AD_PROTOCOL,
    AD_VLAN_TAG,
    ALU,
    AND,
    IMM,
    IND,
    JEQ,
    JSET,
    LD,
    LDX,
    MISC,
    MSH,
    PACKET_HOST,
    RET,
    RSH,
    TAX,
    Ancillary,
    Assembler,
    B,
    H,
    Instruction,
    W,
    X,
    assemble,
    evaluate,
)
from knockgate.wire.senders import Network, from_networks
from knockgate.wire.shapes import Shaped, shaped

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

_LOOPBACK_IFINDEX = 1  # of every network namespace (LOOPBACK_IFINDEX in the kernel's net/loopback.h)
_FLAGS = 0x3F  # FIN, SYN, RST, PSH, ACK and URG; above them are ECE and CWR (RFC 9293, 3.1)
_EXTENSIONS = (0, 43, 44, 60, 135, 139, 140)  # the kinds of IPv6 extension header that frames walks


def openings(*, udp: bool, loopback: bool, flags: Iterable[tuple[int, int]] = ()) -> tuple[Instruction, ...]:
    """Hear every packet for this host that opens a connection, over IPv4 and IPv6, to any port.

    Any port, because a packet to a port of no sequence resets a knock. That is each TCP SYN without
    ACK, RST and FIN; with ``udp`` also every UDP datagram, since a datagram does not say whether it
    is the first. IPv4 fragments are not heard; an IPv6 packet with extension headers is (walking them
    is left to ``frames``). ``loopback`` says whether the interface ``lo`` counts. ``flags`` are further
    TCP packets to be heard: those whose flags under a mask (at most 0x3F) are a value.
    """
    asm = Assembler()
    _for_this_host(asm, loopback=loopback)
    # Of FIN, SYN, RST and ACK only SYN.
    return _transports(asm, udp=udp, flags=[(0x17, 0x02), *flags])


def datagrams(
    port: int,
    shapes: Iterable[Shaped],
    *,
    loopback: bool,
    only_from: Sequence[Network] | None = None,
    not_from: Sequence[Network] = (),
) -> tuple[Instruction, ...]:
    """Hear UDP datagrams for this host, to one port, over IPv4 and IPv6, that are shaped like a knock.

    ``shapes`` are of the payload: its length, and octets that it may have at some offsets. Of one length
    there may be several, and any will do. Those of fwknop's packet are its beginning and two ends, which one
    in thousands of random payloads has; what is in between is not looked at.

    Fragments are not heard, nor IPv6 with extension headers: nobody's client sends them, and to walk them is
    what a stranger would have us do.

    ``only_from`` and ``not_from`` are networks of senders. What is heard with either of them, for the same
    networks, is heard with the other one not, and together it is what is heard without.
    """
    asm = Assembler()
    _for_this_host(asm, loopback=loopback)
    _to_port(asm, port)
    shaped(asm, shapes, then="a-knock")
    asm.label("a-knock")
    if only_from is not None:
        from_networks(asm, only_from, within=ACCEPT, outside=0)
    else:
        from_networks(asm, not_from, within=0, outside=ACCEPT)
    return asm.finish()


def _to_port(asm: Assembler, port: int) -> None:
    """Go on with UDP to the port, X being the length of the IP header, and end with the rest."""
    asm.load(W, AD_PROTOCOL)
    asm.branch(JEQ, ETH_P_IP, "ipv4", "not-ipv4")
    asm.label("not-ipv4")
    asm.branch(JEQ, ETH_P_IPV6, "ipv6", "no")
    asm.label("ipv4")
    _of_version(asm, 4, otherwise="no")
    asm.load(H, 6)
    asm.branch(JSET, 0x3FFF, "no", "whole")
    asm.label("whole")
    asm.load(B, 9)
    asm.branch(JEQ, 17, "udp4", "no")
    asm.label("udp4")
    asm.emit(LDX | B | MSH, 0)  # x = length of the IPv4 header
    asm.jump("datagram")
    asm.label("ipv6")
    _of_version(asm, 6, otherwise="no")
    asm.load(B, 6)
    asm.branch(JEQ, 17, "udp6", "no")
    asm.label("udp6")
    asm.emit(LDX | IMM, 40)
    asm.label("datagram")
    asm.emit(LD | H | IND, 2)
    asm.branch(JEQ, port, "ours", "no")
    asm.label("no")
    asm.emit(RET, 0)
    asm.label("ours")


def _of_version(asm: Assembler, version: int, *, otherwise: str) -> None:
    """Go on where the header says the same as the EtherType, which whoever reads the packet is not told."""
    asm.load(B, 0)
    asm.emit(ALU | AND, 0xF0)
    asm.branch(JEQ, version << 4, f"version{version}", otherwise)
    asm.label(f"version{version}")


def _for_this_host(asm: Assembler, *, loopback: bool) -> None:
    """Drop what is not for us, and go on with the rest."""
    asm.load(W, AD_PKTTYPE)
    asm.branch(JEQ, PACKET_HOST, "mine", "drop-early")
    asm.label("mine")
    if not loopback:
        asm.load(W, AD_IFINDEX)
        asm.branch(JEQ, _LOOPBACK_IFINDEX, "drop-early", "wired")
        asm.label("wired")
    # A socket bound to eth0 also sees what is tagged for eth0.10; a tag of VLAN 0 is only a priority.
    asm.load(W, AD_VLAN_TAG)
    asm.branch(JSET, 0x0FFF, "drop-early", "untagged")
    asm.label("drop-early")
    asm.emit(RET, 0)
    asm.label("untagged")


def passings() -> tuple[Instruction, ...]:
    """Hear what an onlooker can learn doors from: UDP, and each TCP SYN, alone or with ACK, any way."""
    return _transports(Assembler(), udp=True, flags=[(0x06, 0x02)])


def _transports(asm: Assembler, *, udp: bool, flags: Sequence[tuple[int, int]]) -> tuple[Instruction, ...]:
    """Accept TCP with one of these flags (mask, value), UDP if wanted, and end the program."""
    asm.load(W, AD_PROTOCOL)
    asm.branch(JEQ, ETH_P_IP, "ipv4", "not-ipv4")
    asm.label("not-ipv4")
    asm.branch(JEQ, ETH_P_IPV6, "ipv6", "drop")

    asm.label("ipv4")
    _of_version(asm, 4, otherwise="drop")
    asm.load(H, 6)
    asm.branch(JSET, 0x3FFF, "drop", "whole")
    asm.label("whole")
    asm.load(B, 9)
    asm.branch(JEQ, 6, "tcp4", "not-tcp4")
    asm.label("not-tcp4")
    asm.branch(JEQ, 17, "accept" if udp else "drop", "drop")
    asm.label("tcp4")
    asm.emit(LDX | B | MSH, 0)  # x = length of the IPv4 header
    asm.emit(LD | B | IND, 13)
    _flags(asm, flags, "4")

    asm.label("ipv6")
    _of_version(asm, 6, otherwise="drop")
    asm.load(B, 6)
    asm.branch(JEQ, 6, "tcp6", "not-tcp6")
    asm.label("not-tcp6")
    if udp:
        asm.branch(JEQ, 17, "accept", "not-udp6")
        asm.label("not-udp6")
    for kind in _EXTENSIONS:
        asm.branch(JEQ, kind, "accept", f"not-{kind}")
        asm.label(f"not-{kind}")
    asm.emit(RET, 0)
    asm.label("tcp6")
    asm.load(B, 53)
    _flags(asm, flags, "6")

    asm.label("accept")
    asm.emit(RET, ACCEPT)
    asm.label("drop")
    asm.emit(RET, 0)
    return asm.finish()


def _flags(asm: Assembler, flags: Sequence[tuple[int, int]], family: str) -> None:
    """Accept if the octet in A is among ``flags``, else drop.

    One combination is one comparison. For several there is a bit for each of the 64 values that the six
    flags can have: a configuration may name hundreds of combinations, and a jump reaches 255 instructions.
    """
    if len(flags) == 1:
        ((mask, value),) = flags
        asm.emit(ALU | AND, mask)
        asm.branch(JEQ, value, "accept", "drop")
        return
    if any(mask & ~_FLAGS for mask, _ in flags):
        raise ValueError(f"the flags of TCP are in the mask {_FLAGS:#x}")
    heard = sum(
        1 << octet for octet in range(_FLAGS + 1) if any(octet & mask == value for mask, value in flags)
    )
    urgent, plain = f"urgent{family}", f"plain{family}"
    asm.branch(JSET, 0x20, urgent, plain)
    for name, word in ((urgent, heard >> 32), (plain, heard & 0xFFFFFFFF)):
        asm.label(name)
        asm.emit(ALU | AND, 0x1F)
        asm.emit(MISC | TAX, 0)
        asm.emit(LD | IMM, word)
        asm.emit(ALU | RSH | X, 0)
        asm.branch(JSET, 1, "accept", "drop")
