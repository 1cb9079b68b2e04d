"""The ports that packets come to answer nobody: they look like the doors, in the kernel and in memory."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

from tests.knockgate.firewall.table import HERE, Cable, load
from tests.netns import isolated, until
from tests.packets import ipv4, udp

from knockgate.firewall.memory import MemoryFirewall, Reach, Verdict
from knockgate.model import Port, Protocol
from knockgate.wire.frames import observe

DOOR = '[doors.ssh]\nports = ["tcp/22"]\n'
FWKNOP = '[keys.alice]\nfwknop = "/nowhere"\ndoors = ["ssh"]\n'
SSH = '[keys.people]\nssh = "/nowhere"\ndoors = ["ssh"]\n'
OF_FWKNOP, OF_SSH, OTHERS = 62201, 62202, 62203


def refused(sock: socket.socket) -> bool:
    """Whether the host has said by ICMP that nobody listens there."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def answering(cable: Cable, host: str) -> set[int]:
    """Which of the ports the host refuses. The last one is the control, and shows that all went through."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with cable.client:
        socks = {port: socket.socket(family, socket.SOCK_DGRAM) for port in (OF_FWKNOP, OF_SSH, OTHERS)}
    for port, sock in socks.items():
        sock.connect((host, port))
        sock.send(b"knock")
    until(lambda: refused(socks[OTHERS]), "the control is refused")
    found = {port for port, sock in socks.items() if port != OTHERS and refused(sock)}
    for sock in socks.values():
        sock.close()
    return found


@isolated
def test_where_packets_come_to_nobody_answers() -> None:
    cable = Cable()
    for family in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):  # a port that is silent is so by our rules
        Path("/proc/sys/net", family).write_text("0")
    for keys, loud in (
        ("", {OF_FWKNOP, OF_SSH}),
        (FWKNOP, {OF_SSH}),
        (SSH, {OF_FWKNOP}),
        (FWKNOP + SSH, set()),
    ):
        configuration = load(DOOR + keys)
        assert {port for host in HERE.values() for port in answering(cable, host)} == loud
        memory = MemoryFirewall(configuration, time.monotonic)
        memory.load("")
        for port in (OF_FWKNOP, OF_SSH, OTHERS):
            seen = observe(ipv4(udp(port), 17, source="10.0.0.2", destination="10.0.0.1"))
            passed = memory.judge(seen, Reach.LOCAL).verdict is Verdict.PASSED
            assert passed is (port in loud or port == OTHERS), Port(Protocol.UDP, port)
