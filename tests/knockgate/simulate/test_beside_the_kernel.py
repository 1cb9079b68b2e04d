"""The same packets through the real table and through the simulation of their capture: same answers.

The real table's are taken from the kernel itself: openings from its log group, packet by packet, and who
passed from a second table behind ours, which counts what comes by. Each packet has a source port of its
own, so both sides speak of the same packet.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.knockgate.capture.tcpdump import Tcpdump
from tests.knockgate.firewall.cases import CASES, CONFIGURATION
from tests.knockgate.firewall.table import HERE, Cable, elements, leases, listing, load, nft
from tests.netns import DEADLINE, isolated, until
from tests.packets import raw

from knockgate.capture.pcapfile import read
from knockgate.config.doors import Configuration
from knockgate.firewall.memory import Verdict
from knockgate.firewall.nftables import Nftables
from knockgate.model import Port, Protocol, Shadow, Shadowed, Source
from knockgate.simulate.simulation import Simulation, Step
from knockgate.wire.frames import observe

GATE = f"""{CONFIGURATION}
[doors.quick]
ports = ["tcp/110"]
lease = "1s"
sequence = {{ steps = ["tcp/7900", "tcp/7901", "tcp/7902"], within = "300ms" }}
"""
OBSERVER = """
table inet observer {
    set passed4 { type ipv4_addr . inet_service . inet_service; flags dynamic; size 65535; }
    set passed6 { type ipv6_addr . inet_service . inet_service; flags dynamic; size 65535; }
    chain behind {
        type filter hook prerouting priority -189; policy accept;
        iifname != "near" accept
        meta l4proto { tcp, udp } update @passed4 { ip saddr . th sport . th dport counter }
        meta l4proto { tcp, udp } update @passed6 { ip6 saddr . th sport . th dport counter }
    }
}
"""
MARK = "10.99.99.99"
#: A machine behind the host, the broadcast address of its network, a group: by their link address.
ELSEWHERE = {
    "172.16.0.1": None,
    "10.255.255.255": b"\xff" * 6,
    "224.0.0.1": b"\x01\x00\x5e\x00\x00\x01",
}
#: The one known difference: an ACK out of nowhere to a door is dropped by the kernel.
BEFORE = "of a session from before the capture"

Packet = tuple[str, int, int]  # source, its port, destination port
Opening = tuple[str, int, str]  # source, its port, door


class Kernel:
    """What the kernel did."""

    def __init__(self, configuration: Configuration, log: Path) -> None:
        self._configuration, self._log = configuration, log

    def passed(self) -> Counter[Packet]:
        found: Counter[Packet] = Counter()
        for family in "46":
            (described,) = listing("set", "inet", "observer", f"passed{family}")[0].values()
            assert isinstance(described, dict)
            for each in described.get("elem", []):
                source, port, destination = each["elem"]["val"]["concat"]
                found[source, port, destination] = each["elem"]["counter"]["packets"]
        return found

    def leases(self, port: str) -> int:
        """How many there are for a port, which expired ones are not."""
        return sum(port in ports for ports in leases().values())

    def openings(self) -> list[Opening]:
        """In their order; a door of two ports is reported once a port, one behind the other."""
        doors = {port.number: door.name for door in self._configuration.doors for port in door.ports}
        reported = re.findall(r"IP6? (\S+)\.(\d+) > \S+\.(\d+):", self._log.read_text())
        found = [
            (source, int(source_port), doors[int(port)])
            for source, source_port, port in reported
            if int(port) in doors  # else it is about an exhausted bound
        ]
        return [opening for opening, _ in itertools.groupby(found)]

    def held_back(self) -> int:
        (counter,) = listing("counter", "inet", "knockgate", "paced")[0].values()
        assert isinstance(counter, dict)
        return int(counter["packets"])


class Simulated:
    """What the simulation says of a capture file."""

    def __init__(self, configuration: Configuration, file: Path, *hosts: Source) -> None:
        self.passed: Counter[Packet] = Counter()
        self.shadow = Shadow({}, {}, [])
        self.openings: list[Opening] = []
        self.steps: list[Step] = []
        kernels = {door.name for door in configuration.kernel_doors()}
        simulation = Simulation(configuration, hosts=hosts)
        with file.open("rb") as stream:
            for captured in read(stream, str(file)):
                step = simulation.feed(captured)
                self.steps.append(step)
                if not step.source or step.source in HERE.values():
                    continue
                seen = observe(captured.packet)
                door = configuration.door_of(Port(Protocol(seen.protocol), seen.port))
                if step.why == BEFORE and not (door and configuration.in_shadow(door)):
                    continue
                if step.verdict is Verdict.PASSED:
                    self.passed[step.source, seen.source_port, seen.port] += 1
                opened = [door for door in step.opened if door in kernels]
                self.openings += [(step.source, seen.source_port, door) for door in opened]
        self.shadow = simulation.shadow()


@contextlib.contextmanager
def watched(gate: str) -> Iterator[tuple[Cable, Configuration, Kernel, Path]]:
    """A gate on a cable, whose traffic is captured; at the end everything has gone through."""
    cable = Cable()
    configuration = load(gate)
    nft(OBSERVER)
    with Tcpdump("-i", "near", "-s", "256") as file, contextlib.ExitStack() as stack:
        log = file.with_suffix(".log")
        stack.callback(log.unlink)
        with log.open("w") as output:
            reports = ["tcpdump", "-l", "-n", "-i", f"nflog:{configuration.gate.log_group}"]
            reporter = subprocess.Popen(reports, stdout=output, stderr=subprocess.PIPE, text=True)
            stack.callback(reporter.wait)
            stack.callback(reporter.terminate)
        assert reporter.stderr
        assert any("listening on" in line for line in reporter.stderr)
        yield cable, configuration, Kernel(configuration, log), file


def _untimed(sources: Sequence[Shadowed]) -> set[Shadowed]:
    return {each._replace(ago=0) for each in sources}


def settle(cable: Cable, kernel: Kernel, file: Path) -> None:
    """Wait until a last knock has been through it all: the chains, the log group and the capture."""
    cable.send(4, MARK, "u7600", source_port=9)
    until(lambda: (MARK, 9, "one") in kernel.openings(), "the mark is reported")
    until(lambda: raw(MARK) in file.read_bytes(), "the mark is captured")


def until_gone(is_gone: Callable[[], bool], what: str) -> None:
    """Wait for the kernel to forget, and for one of its ticks more: the capture's clock is finer."""
    until(is_gone, what)
    tick = time.monotonic() + 0.03
    until(lambda: time.monotonic() >= tick, "a tick has passed")


# --- the two, side by side ----------------------------------------------------------------------------


ALLOWED = 'allow = ["10.1.0.0/20", "fd00:1::/126", "10.1.3.1"]\n'
GATES = {
    "shut": GATE,
    "allow": GATE.replace("[gate]\n", f"[gate]\n{ALLOWED}"),
    "shadow": GATE.replace("[gate]\n", f"[gate]\nshadow = true\n{ALLOWED}"),
    "some-doors": GATE.replace("[doors.ssh]\n", f"[doors.ssh]\nshadow = true\n{ALLOWED}").replace(
        "[doors.web]\n", '[doors.web]\nallow = ["10.1.16.0/20", "fd00:1::10/124"]\n'
    ),
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES.keys())
@isolated
def test_a_crowd_that_knocks_all_at_once(gate: str) -> None:
    """All cases on both families, with strays and repeats put in, interleaved packet by packet.

    Where networks are let in or doors are in shadow: who passes, in what form, and what is counted of them.
    """
    chance = random.Random(1)
    scripts = []
    for number, (packets, _) in enumerate(CASES.values(), 1):
        for family, source in ((4, f"10.1.{number}.1"), (6, f"fd00:1::{number:x}")):
            words = [word.removeprefix("!") for word in packets.split()]
            for _ in range(chance.randrange(3)):
                stray = chance.choice([*words, "t22", "a22", "u443", "t5000", "u5000", "a7000", "t7800"])
                words.insert(chance.randrange(len(words) + 1), stray)
            scripts.append((family, source, words))
    ports = itertools.count(10000)
    with watched(gate) as (cable, configuration, kernel, file):
        while scripts := [script for script in scripts if script[2]]:
            family, source, words = chance.choice(scripts)
            cable.send(family, source, words.pop(0), source_port=next(ports))
        settle(cable, kernel, file)
        simulated = Simulated(configuration, file, *map(raw, HERE.values()))
        assert simulated.openings == kernel.openings()
        assert simulated.passed == kernel.passed()
        assert len(simulated.openings) > 30 and len(simulated.passed) > 30
        assert Simulated(configuration, file).openings == kernel.openings()  # told of no host
        dropped, passed, sources = simulated.shadow
        with Nftables(own=False) as firewall:
            assert firewall.shadow()[:2] == (dropped, passed)
            assert _untimed(firewall.shadow().sources) == _untimed(sources)
        assert bool(dropped) == any(map(configuration.in_shadow, configuration.doors))


@isolated
def test_pauses_and_leases_that_end() -> None:
    """Times are the capture's: pauses, repeats, leases that run out, and who goes to and fro too fast."""
    quick, late, repeating = "10.1.0.1", "10.1.0.2", "10.1.0.3"
    ports = itertools.count(10000)
    with watched(GATE) as (cable, configuration, kernel, file):

        def send(source: str, *packets: str) -> None:
            for packet in packets:
                cable.send(4, source, packet, source_port=next(ports))

        def forgotten() -> bool:
            send(repeating, "t7901")
            return not elements("progress4")

        send(quick, "t7900", "t7901", "t7902", "t110")
        for source in (late, repeating):
            send(source, "t7900", "t7901")
        until_gone(forgotten, "both are forgotten, also the one who repeats")
        for source in (late, repeating):
            send(source, "t7902")
        until_gone(lambda: not elements("leases4"), "the lease has run out")
        send(quick, "t110", "t7900", "t7901", "t7902", "t110")
        for to, link in ELSEWHERE.items():
            for packet in ("t7900", "t7901", "t7902", "u443", "t22"):
                cable.send(4, "10.1.0.5", packet, source_port=next(ports), to=to, link=link)
        send("10.1.0.4", *["t7000", "u8000"] * 20, "t5000", "t7000", "u8000", "t9000")
        settle(cable, kernel, file)
        simulated = Simulated(configuration, file, *map(raw, HERE.values()))
        assert simulated.openings == kernel.openings()
        assert [source for source, *_ in simulated.openings] == [quick, quick, MARK]
        assert simulated.passed == kernel.passed()
        assert sum(port == 110 for _, _, port in simulated.passed) == 2  # of three that tried
        held_back = [step for step in simulated.steps if step.why.startswith("too many knocks")]
        assert len(held_back) == kernel.held_back() > 10


def knock_and_stay(cable: Cable, kernel: Kernel) -> None:
    """A TCP session through the quick door outlives its lease, and then nobody comes in any more."""
    door = ("10.0.0.1", 110)
    with socket.create_server(door) as server:
        for packet in ("t7900", "t7901", "t7902"):
            cable.send(4, "10.0.0.2", packet, source_port=20003)
        with cable.client:
            session = socket.create_connection(door, timeout=DEADLINE)
        accepted, _ = server.accept()
        until_gone(lambda: kernel.leases("tcp/110") == 0, "the lease has run out")
        with cable.client, socket.socket() as late:
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(door)
        with session, accepted:
            session.sendall(b"still here")
            assert accepted.recv(99) == b"still here"


@isolated
def test_sessions_and_both_directions() -> None:
    """Datagrams of a session that was answered reset nothing, whoever began it; those of a new one do."""
    client, server = ("10.0.0.2", 5000), ("10.0.0.1", 5353)
    other = ("10.0.0.2", 5001)
    with watched(GATE) as (cable, configuration, kernel, file), contextlib.ExitStack() as stack:

        def bound(address: tuple[str, int]) -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(DEADLINE)
            sock.bind(address)
            return sock

        here, resolver = bound(server), bound(("10.0.0.1", 5354))
        with cable.client:
            there, stranger, far = bound(client), bound(other), bound(("10.0.0.2", 53))

        def exchange(asks: socket.socket, answers: socket.socket) -> None:
            asks.sendto(b"?", answers.getsockname())
            _, whence = answers.recvfrom(9)
            answers.sendto(b"!", whence)
            asks.recvfrom(9)

        def knock_with(source_port: int, between: Callable[[], None]) -> None:
            cable.send(4, "10.0.0.2", "t7000", source_port=source_port)
            between()
            for packet in ("u8000", "t9000"):
                cable.send(4, "10.0.0.2", packet, source_port=source_port)

        exchange(there, here)
        knock_with(20000, lambda: exchange(there, here))
        knock_with(20001, lambda: exchange(stranger, here))  # the control
        knock_with(20002, lambda: exchange(resolver, far))
        knock_and_stay(cable, kernel)
        settle(cable, kernel, file)
        hosts = [raw(address) for address in HERE.values()]
        for simulated in (Simulated(configuration, file, *hosts), Simulated(configuration, file)):
            assert simulated.openings == kernel.openings()
            assert [port for source, port, _ in simulated.openings if source != MARK] == [20000, 20002, 20003]
            assert simulated.passed == kernel.passed()
