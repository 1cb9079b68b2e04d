"""Packets, and whether a program that hears openings is to hear them."""

from __future__ import annotations

from tests.packets import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    tcp,
    udp,
)

from knockgate.wire.bpf import Ancillary, openings, passings
from knockgate.wire.frames import MAX_EXTENSIONS

# What is heard: never; always; where UDP, lo or such flags are asked for; by the onlooker only.
NO, YES, IF_UDP, IF_LO, IF_FLAGS, PASSING = "no", "yes", "if udp", "if lo", "if flags", "passing by"

# FIN, RST or URG with PSH, without SYN and ACK: (mask, value).
FLAGS = [(each | SYN | ACK, each) for each in (FIN, RST, URG | PSH)]

PROGRAMS = {
    "tcp": openings(udp=False, loopback=False),
    "tcp, lo": openings(udp=False, loopback=True),
    "tcp, udp": openings(udp=True, loopback=False),
    "tcp, udp, lo": openings(udp=True, loopback=True),
    "tcp, flags": openings(udp=False, loopback=False, flags=FLAGS),
    "passings": passings(),
}
HEARD = {
    "tcp": {YES},
    "tcp, lo": {YES, IF_LO},
    "tcp, udp": {YES, IF_UDP},
    "tcp, udp, lo": {YES, IF_UDP, IF_LO},
    "tcp, flags": {YES, IF_FLAGS},
    "passings": {YES, IF_UDP, IF_LO, PASSING},
}
IP, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)
EXTENSIONS = (0, 43, 60, 135, 139, 140)
FRAGMENT = 44

# name -> verdict, packet. The EtherType is that of the version.
PACKETS: dict[str, tuple[str, bytes]] = {
    "syn": (YES, ipv4(tcp())),
    "syn to port 0": (YES, ipv4(tcp(0))),
    "syn to the last port": (YES, ipv4(tcp(65535))),
    "syn, psh, urg": (YES, ipv4(tcp(flags=SYN | PSH | URG))),
    "syn with ECN": (YES, ipv4(tcp(flags=SYN | 0xC0))),
    "syn with options": (YES, ipv4(tcp(options=bytes(40)))),
    "syn behind an option": (YES, ipv4(tcp(), options=bytes(4))),
    "syn behind all options": (YES, ipv4(tcp(), options=bytes(40))),
    "syn, don't fragment": (YES, ipv4(tcp(), fragment=0x4000)),
    "syn with the reserved flag": (YES, ipv4(tcp(), fragment=0x8000)),
    "syn and padding": (YES, ipv4(tcp()) + bytes(6)),
    "syn and data": (YES, ipv4(tcp(payload=b"hello"))),
    "syn cut behind its flags": (YES, ipv4(tcp())[:34]),
    "syn cut before its flags": (NO, ipv4(tcp())[:33]),
    "syn-ack": (PASSING, ipv4(tcp(flags=SYN | ACK))),
    "syn, rst": (NO, ipv4(tcp(flags=SYN | RST))),
    "syn, fin": (PASSING, ipv4(tcp(flags=SYN | FIN))),
    "ack": (NO, ipv4(tcp(flags=ACK))),
    "ack and data": (NO, ipv4(tcp(flags=ACK | PSH, payload=bytes(100)))),
    "rst": (IF_FLAGS, ipv4(tcp(flags=RST))),
    "rst behind an option": (IF_FLAGS, ipv4(tcp(flags=RST), options=bytes(4))),
    "fin": (IF_FLAGS, ipv4(tcp(flags=FIN))),
    "fin with ECN": (IF_FLAGS, ipv4(tcp(flags=FIN | 0xC0))),
    "fin, ack": (NO, ipv4(tcp(flags=FIN | ACK))),
    "fin, psh, urg": (IF_FLAGS, ipv4(tcp(flags=FIN | PSH | URG))),
    "psh, urg": (IF_FLAGS, ipv4(tcp(flags=PSH | URG))),
    "urg": (NO, ipv4(tcp(flags=URG))),
    "first fragment of a fin": (NO, ipv4(tcp(flags=FIN), fragment=0x2000)),
    "no flag": (NO, ipv4(tcp(flags=0))),
    "ack whose options look like a syn": (NO, ipv4(tcp(flags=ACK), options=tcp())),
    "first fragment of a syn": (NO, ipv4(tcp(), fragment=0x2000)),
    "last fragment that looks like a syn": (NO, ipv4(tcp(), fragment=0x0001)),
    "far fragment that looks like a syn": (NO, ipv4(tcp(), fragment=0x1000)),
    "datagram": (IF_UDP, ipv4(udp(), UDP)),
    "datagram and data": (IF_UDP, ipv4(udp(payload=bytes(100)), UDP)),
    "datagram behind options": (IF_UDP, ipv4(udp(), UDP, options=bytes(12))),
    "first fragment of a datagram": (NO, ipv4(udp(), UDP, fragment=0x2000)),
    "last fragment of a datagram": (NO, ipv4(udp(), UDP, fragment=0x0010)),
    "icmp": (NO, ipv4(bytes(20), 1)),
    "syn in the place of something else": (NO, ipv4(tcp(), 47)),
    "ipv4 cut to nothing": (NO, b""),
    "syn over ipv6": (YES, ipv6(tcp())),
    "syn with ECN over ipv6": (YES, ipv6(tcp(flags=SYN | 0xC0))),
    "syn over ipv6 cut behind its flags": (YES, ipv6(tcp())[:54]),
    "syn over ipv6 cut before its flags": (NO, ipv6(tcp())[:53]),
    "syn-ack over ipv6": (PASSING, ipv6(tcp(flags=SYN | ACK))),
    "syn, fin over ipv6": (PASSING, ipv6(tcp(flags=SYN | FIN))),
    "ack over ipv6": (NO, ipv6(tcp(flags=ACK, payload=bytes(100)))),
    "rst over ipv6": (IF_FLAGS, ipv6(tcp(flags=RST))),
    "psh, urg over ipv6": (IF_FLAGS, ipv6(tcp(flags=PSH | URG))),
    "urg over ipv6": (NO, ipv6(tcp(flags=URG))),
    "datagram over ipv6": (IF_UDP, ipv6(udp(), UDP)),
    "icmpv6": (NO, ipv6(bytes(20), 58)),
    "no next header": (NO, ipv6(tcp(), 59)),
    "encrypted": (NO, ipv6(tcp(), 50)),
    "authenticated": (NO, ipv6(tcp(), 51)),
    "syn behind two extensions": (YES, ipv6(tcp(), TCP, [(0, extension()), (60, extension())])),
    "syn behind an atomic fragment": (YES, ipv6(tcp(), TCP, [(FRAGMENT, fragment_header())])),
    # The walk along extension headers is left to frames, so what they hide is heard whatever it is.
    "ack behind an extension": (YES, ipv6(tcp(flags=ACK), TCP, [(60, extension())])),
    "first fragment over ipv6": (YES, ipv6(tcp(), TCP, [(FRAGMENT, fragment_header(more=True))])),
    "extension cut to one octet": (YES, ipv6(tcp(), TCP, [(60, extension())])[:41]),
    **{f"syn behind extension {kind}": (YES, ipv6(tcp(), TCP, [(kind, extension())])) for kind in EXTENSIONS},
}

# name -> verdict over IPv4's SYN, what the kernel knows beside the bytes.
CIRCUMSTANCES: dict[str, tuple[str, Ancillary]] = {
    "for this host": (YES, Ancillary(IP)),
    "for everybody": (PASSING, Ancillary(IP, packet_type=BROADCAST)),
    "for a group": (PASSING, Ancillary(IP, packet_type=MULTICAST)),
    "for another host": (PASSING, Ancillary(IP, packet_type=OTHERHOST)),
    "on its way out": (PASSING, Ancillary(IP, packet_type=OUTGOING)),
    "on its way out over lo": (PASSING, Ancillary(IP, packet_type=OUTGOING, interface=1)),
    "on interface 3": (YES, Ancillary(IP, interface=3)),
    "on lo": (IF_LO, Ancillary(IP, interface=1)),
    "for VLAN 1": (PASSING, Ancillary(IP, vlan_tag=0x001)),
    "for VLAN 4095": (PASSING, Ancillary(IP, vlan_tag=0xFFF)),
    "for VLAN 2048 with a priority": (PASSING, Ancillary(IP, vlan_tag=0xE800)),
    "with a priority only": (YES, Ancillary(IP, vlan_tag=0xE000)),
    "as ARP": (NO, Ancillary(ARP)),
    "with a second tag": (NO, Ancillary(VLAN)),
    "with a second tag of the provider": (NO, Ancillary(QINQ)),
}


def kind_of(packet: bytes) -> int:
    return IPV6 if packet[:1] == b"\x60" else IP


SEEDS = [packet for _, packet in PACKETS.values()] + [
    ipv6(udp(), UDP, [(60, extension())] * MAX_EXTENSIONS),
    ipv4(tcp(), header_words=6),
]
