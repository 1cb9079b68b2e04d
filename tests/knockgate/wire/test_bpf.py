from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.wire.openings import (
    CIRCUMSTANCES,
    FLAGS,
    HEARD,
    IP,
    IPV6,
    PACKETS,
    PROGRAMS,
    SEEDS,
    kind_of,
)
from tests.packets import ACK, FIN, RST, SYN, TCP, UDP, ipv4, ipv6, tcp

from knockgate.errors import Refused
from knockgate.wire.bpf import ACCEPT, Ancillary, Instruction, assemble, evaluate, openings
from knockgate.wire.frames import observe


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", PACKETS)
def test_hears_openings(name: str, program: str) -> None:
    """Openings are heard whole, datagrams where they are asked for, and nothing else is."""
    verdict, packet = PACKETS[name]
    kept = evaluate(PROGRAMS[program], packet, Ancillary(kind_of(packet)))
    assert kept == (ACCEPT if verdict in HEARD[program] else 0)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", PACKETS)
def test_hears_nothing_below_the_wrong_ethertype(name: str, program: str) -> None:
    """The kernel drops it, and whoever reads the packet is not told."""
    _, packet = PACKETS[name]
    wrong = {IP: IPV6, IPV6: IP}[kind_of(packet)]
    assert evaluate(PROGRAMS[program], packet, Ancillary(wrong)) == 0


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 63)), max_size=5), st.integers(0, 255))
def test_hears_the_flags_that_it_is_asked_for(flags: list[tuple[int, int]], octet: int) -> None:
    """TCP is heard where it is an opening or has flags out of the list, over both families; and no other."""
    program = openings(udp=False, loopback=False, flags=flags)
    wanted = any(octet & mask == value for mask, value in [(SYN | ACK | RST | FIN, SYN), *flags])
    for packet in (ipv4(tcp(flags=octet), options=bytes(8)), ipv6(tcp(flags=octet))):
        assert bool(evaluate(program, packet, Ancillary(kind_of(packet)))) is wanted


def test_any_number_of_flags_makes_a_short_program() -> None:
    """All that a configuration can name at once is as long as two, and a mask beyond the flags is refused."""
    every = [(mask, value) for mask in range(64) for value in range(mask + 1) if value & ~mask == 0]
    program = openings(udp=True, loopback=False, flags=every)
    assert len(every) == 729
    assert len(program) == len(openings(udp=True, loopback=False, flags=FLAGS[:1]))
    assert reachable(program) == set(range(len(program)))
    with pytest.raises(ValueError, match="0x3f"):
        openings(udp=True, loopback=False, flags=[(0x42, 0x42)])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_hears_what_is_for_this_host(name: str, program: str) -> None:
    """A SYN is heard where it comes in for this host, on lo if asked for; or wherever it passes by."""
    verdict, ancillary = CIRCUMSTANCES[name]
    kept = evaluate(PROGRAMS[program], ipv4(tcp()), ancillary)
    assert kept == (ACCEPT if verdict in HEARD[program] else 0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_is_a_program_that_the_kernel_takes(name: str) -> None:
    """Jumps go forward in 8 bits, every instruction can be come to, and each way ends by returning."""
    program = PROGRAMS[name]
    for code, jt, jf, k in program:
        assert 0 <= jt < 256
        assert 0 <= jf < 256
        assert 0 <= k < 1 << 32
        assert 0 <= code < 1 << 16
    assert reachable(program) == set(range(len(program)))


def reachable(program: Sequence[Instruction]) -> set[int]:
    """The instructions that some packet can come to; an index beyond the program if one can run over it."""
    todo, found = [0], set()
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            code, jt, jf, _ = program[at]
            todo += {5: [at + 1 + jt, at + 1 + jf], 6: []}.get(code & 7, [at + 1])
    return found


def test_is_assembled_as_the_kernel_reads_it() -> None:
    """An instruction is 8 bytes, as struct sock_filter lays out code, both jumps and operand."""
    program = [Instruction(0x15, 1, 2, 0x01020304), Instruction(0x06, 0, 0, 0xFFFFFFFF)]
    assert assemble(program) == struct.pack("@HBBI", 0x15, 1, 2, 0x01020304) + struct.pack(
        "@HBBI", 6, 0, 0, 2**32 - 1
    )


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=3),
    st.integers(0, 120),
)
def test_what_the_parser_takes_for_an_opening_is_heard(
    packet: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    """The filter never hides what observe() would call an opening, and lets through little that it would not.

    The little: datagrams where they are asked for and IPv6 extension headers, which the filter does not walk.
    """
    for place, value in changes:
        packet = packet[:place] + bytes([value]) + packet[place + 1 :]
    packet = packet[:cut]
    try:
        seen = observe(packet)
    except Refused:
        return
    ancillary = Ancillary(IP if packet[0] >> 4 == 4 else IPV6)
    heard_with_udp = bool(evaluate(PROGRAMS["tcp, udp"], packet, ancillary))
    heard_without = bool(evaluate(PROGRAMS["tcp"], packet, ancillary))
    assert bool(evaluate(PROGRAMS["passings"], packet, ancillary)) >= heard_with_udp
    assert heard_with_udp >= seen.opens_connection
    if packet[0] >> 4 == 4 or packet[6] in (TCP, UDP):
        assert heard_with_udp == seen.opens_connection
        assert heard_without == (seen.opens_connection and seen.protocol == TCP)
