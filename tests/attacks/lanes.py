"""A gate with a door for each kind of knock, somebody who knocks, and somebody who has a cable of theirs."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import HOST, Gate, all_leases, network
from tests.knockgate.daemon.sealed_stage import make_gate, message
from tests.knockgate.daemon.test_packets import ALICE, key
from tests.knockgate.daemon.test_packets import message as fwknop_message
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import Sender, heard, mac, packet_socket, stay_on_one_core, until
from tests.packets import ones_complement, raw

from knockgate.model import Port, Protocol, address_text
from knockgate.spa.fwknop import seal as seal_for_fwknop
from knockgate.spa.sealed import KeyKind, SourceKind, Suite, seal

KERNEL, DAEMON, FLAGS, ONCE, FWKNOP, SEALED = "kernel", "daemon", "flags", "once", "fwknop", "sealed"
PORTS = {KERNEL: 22, DAEMON: 80, FLAGS: 81, ONCE: 25, FWKNOP: 26, SEALED: 27}
"""The TCP port of each door; they are called after the knock that they are for."""

FWKNOP_PORT, SEALED_PORT = 62201, 62202
_GATE = 'clock = "trusted"\n'


class Lanes:
    """The gate, running."""

    def __init__(self, folder: Path, *, gate: str = "", rest: str = "", lines: int = 64) -> None:
        """``gate`` goes into its table, ``rest`` behind all; ``lines`` of one-time sequences."""
        self.once = folder / "once"
        self.once.write_text("".join(f" {_once(number)}\n" for number in range(lines)))
        self.used = 0
        people = folder / "authorized_keys"
        people.write_text("".join(f"{signers.line(kind)} jo-{kind.name}\n" for kind in KeyKind))
        people.chmod(0o600)
        make_gate(folder)
        self.state = folder / "state"
        doors = {
            KERNEL: 'steps = ["tcp/7000", "udp/7001", "tcp/7002"]\nwithin = "60s"',
            DAEMON: 'steps = ["tcp/8000", "udp/8001", "tcp/8002"]\nwithin = "60s"\nruns_in = "daemon"',
            FLAGS: 'steps = ["tcp/8100", "tcp/8101"]\nruns_in = "daemon"\nflags = ["fin", "!syn", "!ack"]',
            ONCE: f'one_time = "{self.once}"\nruns_in = "daemon"',
        }
        text = "".join(
            f'[doors.{name}]\nports = ["tcp/{port}"]\nlease = "1h"\n'
            + (f"[doors.{name}.sequence]\n{doors[name]}\n" if name in doors else "")
            for name, port in PORTS.items()
        )
        text += key(folder, "alice", ALICE, f'doors = ["{FWKNOP}"]', "observed = true")
        text += f'[keys.people]\nssh = "{people}"\ndoors = ["{SEALED}"]\nleases = 1000\n'
        text += f'[doors.{SEALED}.sealed]\nobserved = "always"\n'
        self.gate = Gate(folder)
        self.gate.write(text + rest, gate=_GATE + gate)
        self.gate.start()

    def restart(self) -> None:
        assert self.gate.end() == 0, self.gate.log()
        self.gate.start()

    def opened(self, door: str) -> int:
        """How often, since it was started."""
        found: int = self.gate.status()["doors"][door]["opened"]
        return found

    def refused(self, what: str = SEALED) -> dict[str, int]:
        """By reason."""
        document = self.gate.status()["packets" if what == FWKNOP else "sealed"]
        found: dict[str, int] = document["refused"]
        return found

    def until_refused(self, what: str, reason: str, times: int) -> None:
        """Exactly so often."""
        until(lambda: self.refused(what).get(reason, 0) >= times, f"{times} {reason}")
        assert self.refused(what)[reason] == times

    def close(self, *sources: str) -> None:
        """The leases of these sources, or all."""
        with self.gate.warden() as warden:
            warden.close(self.gate.configuration(), None, [raw(source) for source in sources])


@contextlib.contextmanager
def lanes(folder: Path, *, gate: str = "", rest: str = "") -> Iterator[Lanes]:
    """A gate in a network; it must end well."""
    stay_on_one_core()
    with network():
        found = Lanes(folder, gate=gate, rest=rest)
        yield found
        assert found.gate.end() == 0, found.gate.log()


def _once(number: int) -> str:
    return f"{9000 + 2 * number},{9001 + 2 * number}:udp"


def let_in(door: str) -> set[str]:
    """Who has a lease for it."""
    port = PORTS[door]
    return {address_text(each.source) for each in all_leases() if each.port.number == port}


# --- packets ------------------------------------------------------------------------------------------

Packets = list[bytes]
"""From the network header on."""


@contextlib.contextmanager
def wire() -> Iterator[Sender]:
    """Whoever has the other end of the cable puts on it what they like."""
    there = mac("near")
    with running.client:
        sender = Sender("far", there)
    with sender:
        yield sender


def tcp_ip(port: int, source: str, *, flags: int = 2, number: int = 0) -> bytes:
    """A segment whose checksums are right, as a client sends it."""
    header = struct.pack(
        "!HHIIBBHHH", 40000 + number % 20000, port, 0x01020304, 0, 5 << 4, flags, 64240, 0, 0
    )
    return ip(header, 6, source)


def udp_ip(port: int, source: str, payload: bytes = b"\0", *, number: int = 0) -> bytes:
    """A datagram whose checksums are right."""
    header = struct.pack("!HHHH", 40000 + number % 20000, port, 8 + len(payload), 0)
    return ip(header + payload, 17, source)


def ip(inner: bytes, protocol: int, source: str, destination: str = HOST) -> bytes:
    """An IPv4 packet, its transport's checksum filled in."""
    ends = raw(source) + raw(destination)
    text = inner + bytes(len(inner) % 2)
    checksum = ones_complement(ends + struct.pack("!BBH", 0, protocol, len(inner)) + text)
    at = 16 if protocol == 6 else 6
    inner = inner[:at] + checksum + inner[at + 2 :]
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(inner), 0, 0x4000, 64, protocol)
    return start + ones_complement(start + ends) + ends + inner


def from_elsewhere(packet: bytes, source: str) -> bytes:
    """The same, sent by another address."""
    header = 4 * (packet[0] & 15)
    return ip(packet[header:], packet[9], source)


def steps(door: str, source: str, *, once: int = 0) -> Packets:
    """A sequence of ``source`` to one of the doors that have one."""
    if door == KERNEL:
        return [tcp_ip(7000, source), udp_ip(7001, source), tcp_ip(7002, source)]
    if door == DAEMON:
        return [tcp_ip(8000, source), udp_ip(8001, source), tcp_ip(8002, source)]
    if door == FLAGS:
        return [tcp_ip(8100, source, flags=1), tcp_ip(8101, source, flags=1)]
    assert door == ONCE
    return [tcp_ip(9000 + 2 * once, source), udp_ip(9001 + 2 * once, source)]


class Spa(NamedTuple):
    """A kind of single packet."""

    door: str
    port: int
    make: Callable[[str], bytes]
    """A new one of somebody's, for an address; for "" it names none, and whoever sends it is let in."""


def fwknop(source: str) -> bytes:
    asked = fwknop_message(source or "0.0.0.0", ports=(Port(Protocol.TCP, PORTS[FWKNOP]),))
    return seal_for_fwknop(asked, ALICE, salt=secrets.token_bytes(8))


_kinds = itertools.cycle(KeyKind)


def sealed(
    source: str, suite: Suite = Suite.XWING, *, device: bytes = b"", kind: KeyKind | None = None
) -> bytes:
    """Of a device of its own, unless told, and of each key in turn: each has a pace, and may not run."""
    stated: dict[str, object] = {"source": SourceKind.OBSERVED, "address": b""}
    if source:
        stated = {"source": SourceKind.V6 if ":" in source else SourceKind.V4, "address": raw(source)}
    said = message(kind or next(_kinds), doors=(SEALED,), device=device or secrets.token_bytes(16), **stated)
    return seal(said, messages.CARD, suite)


SPA: Mapping[str, Spa] = {
    "fwknop": Spa(FWKNOP, FWKNOP_PORT, fwknop),
    "X-Wing": Spa(SEALED, SEALED_PORT, sealed),
    "X25519": Spa(SEALED, SEALED_PORT, lambda source: sealed(source, Suite.X25519)),
}


def recorded(send: Callable[[], object], packets: int) -> Packets:
    """What went over the cable to the host, as many as that, while ``send`` was sending."""
    found: Packets = []

    def look() -> bool:
        found.extend(each.packet for each in heard(ear) if each.packet_type == 0 and each.protocol == 0x0800)
        return len(found) >= packets

    with packet_socket("near") as ear:
        send()
        until(look, f"{packets} packets on the cable")
    return found[:packets]
